"""BTF offered to drgn: its types and constants, by finders that make them when they are asked for.

drgn reads DWARF and not BTF, but takes types from whoever registers as a finder. With this and
`hvoinspect.target.symbols` its helpers work on a kernel that has no debug package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drgn import (
    FindObjectFlags,
    Object,
    PlatformFlags,
    Program,
    Qualifiers,
    Type,
    TypeEnumerator,
    TypeKind,
    TypeKindSet,
    TypeMember,
    TypeParameter,
)

from hvoinspect.target.btf import AGGREGATES, MAX_DEPTH, Btf, BtfError
from hvoinspect.target.btf_records import Kind, RawMember, Record

FINDER = "btf"
"""Name of the finders, as drgn lists them."""

_KINDS: dict[TypeKind, tuple[Kind, ...]] = {
    TypeKind.INT: (Kind.INT,),
    TypeKind.BOOL: (Kind.INT,),
    TypeKind.FLOAT: (Kind.FLOAT,),
    TypeKind.STRUCT: (Kind.STRUCT,),
    TypeKind.UNION: (Kind.UNION,),
    TypeKind.ENUM: (Kind.ENUM, Kind.ENUM64),
    TypeKind.TYPEDEF: (Kind.TYPEDEF,),
}
_QUALIFIERS: dict[Kind, Qualifiers] = {
    Kind.CONST: Qualifiers.CONST,
    Kind.VOLATILE: Qualifiers.VOLATILE,
    Kind.RESTRICT: Qualifiers.RESTRICT,
}
_ENUM_BASES: dict[int, tuple[str, str]] = {
    1: ("unsigned char", "signed char"),
    2: ("unsigned short", "short"),
    4: ("unsigned int", "int"),
    8: ("unsigned long", "long"),
}


class Types:
    """The types of a Btf as drgn's, for one Program; drgn does not let Programs share types."""

    def __init__(self, prog: Program, btf: Btf) -> None:
        self._prog = prog
        self._btf = btf
        self._records = btf.records
        self._made: dict[int, Type] = {}
        self._found: dict[tuple[TypeKind, str], Type | None] = {}
        self._constants: dict[str, Object | None] = {}

    def find_type(
        self, _prog: Program, kinds: TypeKindSet, name: str, filename: str | None
    ) -> Type | None:
        """Find a type for drgn: a type finder. BTF knows no files, so it finds nothing in one."""
        if filename is not None:
            return None
        for kind in kinds:
            if (kind, name) not in self._found:
                self._found[kind, name] = self._find(kind, name)
            found = self._found[kind, name]
            if found is not None:
                return found
        return None

    def _find(self, kind: TypeKind, name: str) -> Type | None:
        type_id = self._btf.find(name, _KINDS[kind]) if kind in _KINDS else None
        if type_id is None:
            return None
        found = self.type(type_id)
        return found if found.kind == kind else None

    def find_constant(
        self, prog: Program, name: str, flags: FindObjectFlags, filename: str | None
    ) -> Object | None:
        """Find an enumerator for drgn: an object finder for constants."""
        if filename is not None or not flags & FindObjectFlags.CONSTANT:
            return None
        if name not in self._constants:
            found = self._btf.constant(name)
            self._constants[name] = found and Object(prog, self.type(found[0]), value=found[1])
        return self._constants[name]

    def type(self, type_id: int, depth: int = 0) -> Type:
        """Return drgn's form of type `type_id`, made at the first time it is asked for.

        Members and parameters are made later still, so that a struct does not bring in all that it
        points to. Raises BtfError if the type is damaged.
        """
        made = self._made.get(type_id)
        if made is None:
            if depth > MAX_DEPTH:
                raise BtfError(f"the chain of types at {type_id} is too long, or a circle")
            record = self._records.record(type_id)
            made = self._made[type_id] = self._make(record, depth + 1)
        return made

    def _make(self, record: Record, depth: int) -> Type:
        make = {
            Kind.VOID: self._void,
            Kind.INT: self._int,
            Kind.PTR: self._pointer,
            Kind.ARRAY: self._array,
            Kind.STRUCT: self._aggregate,
            Kind.UNION: self._aggregate,
            Kind.ENUM: self._enum,
            Kind.FWD: self._forward,
            Kind.TYPEDEF: self._typedef,
            Kind.VOLATILE: self._qualified,
            Kind.CONST: self._qualified,
            Kind.RESTRICT: self._qualified,
            Kind.FUNC_PROTO: self._function,
            Kind.FLOAT: self._float,
            Kind.TYPE_TAG: self._same,
            Kind.ENUM64: self._enum,
        }.get(record.kind)
        if make is None:
            raise BtfError(f"type {record.id}, a {record.kind.name}, is used as a type")
        return make(record, depth)

    def _void(self, _record: Record, _depth: int) -> Type:
        return self._prog.void_type()

    def _int(self, record: Record, _depth: int) -> Type:
        integer = self._records.integer(record)
        if not record.name:
            raise BtfError(f"integer {record.id} has no name")
        if integer.boolean:
            return self._prog.bool_type(record.name, integer.size)
        return self._prog.int_type(record.name, integer.size, integer.signed)

    def _float(self, record: Record, _depth: int) -> Type:
        if not record.name or record.value not in (2, 4, 8, 12, 16):
            raise BtfError(f"floating-point type {record.id} has {record.value} bytes")
        return self._prog.float_type(record.name, record.value)

    def _pointer(self, record: Record, depth: int) -> Type:
        return self._prog.pointer_type(self.type(record.value, depth))

    def _array(self, record: Record, depth: int) -> Type:
        element, length = self._records.element(record)
        # In BTF a flexible array and one of no elements are the same: length 0. As the latter it
        # can be indexed all the same, and it has a size.
        if length:
            self._btf.size(record.id)
        return self._prog.array_type(self.type(element, depth), length)

    def _typedef(self, record: Record, depth: int) -> Type:
        if not record.name:
            raise BtfError(f"typedef {record.id} has no name")
        return self._prog.typedef_type(record.name, self.type(record.value, depth))

    def _qualified(self, record: Record, depth: int) -> Type:
        inner = self.type(record.value, depth)
        return inner.qualified(inner.qualifiers | _QUALIFIERS[record.kind])

    def _same(self, record: Record, depth: int) -> Type:
        return self.type(record.value, depth)

    def _aggregate(self, record: Record, _depth: int) -> Type:
        self._btf.check_nesting(record.id)
        members = tuple(self._members(record))
        make = self._prog.struct_type if record.kind == Kind.STRUCT else self._prog.union_type
        return make(record.name or None, record.value, members)

    def _members(self, record: Record) -> Iterator[TypeMember]:
        for member in self._records.members(record):
            # In C only a struct or union can go without a name; drgn relies on it.
            if not member.name and self._btf.strip(member.type_id).kind not in AGGREGATES:
                continue
            yield TypeMember(self._member(member), member.name or None, member.bit_offset)

    def _member(self, member: RawMember) -> Callable[[], Type | Object]:
        def make() -> Type | Object:
            made = self.type(member.type_id)
            if member.bit_size:
                return Object(self._prog, made, bit_field_size=member.bit_size)
            return made

        return make

    def _forward(self, record: Record, _depth: int) -> Type:
        # A forward declaration stands where the encoder found no definition, or more than one.
        kind = Kind.UNION if record.flag else Kind.STRUCT
        ids = self._records.ids_named(record.name, (kind,))
        if len(ids) == 1:
            return self.type(ids[0])
        make = self._prog.union_type if record.flag else self._prog.struct_type
        return make(record.name or None)

    def _enum(self, record: Record, _depth: int) -> Type:
        tag = record.name or None
        if not record.vlen:
            return self._prog.enum_type(tag)
        if record.value not in _ENUM_BASES:
            raise BtfError(f"enum {record.id} has {record.value} bytes")
        name = _ENUM_BASES[record.value][record.flag]
        base = self._prog.int_type(name, record.value, record.flag)
        enumerators = [TypeEnumerator(*pair) for pair in self._records.enumerators(record)]
        return self._prog.enum_type(tag, base, enumerators)

    def _function(self, record: Record, depth: int) -> Type:
        parameters = list(self._records.parameters(record))
        variadic = bool(parameters) and parameters[-1] == ("", 0)
        return self._prog.function_type(
            self.type(record.value, depth),
            [
                TypeParameter(self._parameter(type_id), name or None)
                for name, type_id in (parameters[:-1] if variadic else parameters)
            ],
            variadic,
        )

    def _parameter(self, type_id: int) -> Callable[[], Type]:
        return lambda: self.type(type_id)


def register_types(prog: Program, btf: Btf) -> Types:
    """Let `prog` take types and constants from `btf` that no other finder of it knows.

    What is registered already is asked first: DWARF says more than BTF and wins where it is there.
    Raises BtfError if the byte order or the size of a pointer is not that of the program.
    """
    platform = prog.platform
    if platform is None:
        raise BtfError("the program it would be for has no platform")
    if bool(platform.flags & PlatformFlags.IS_LITTLE_ENDIAN) != btf.records.little_endian:
        raise BtfError("its byte order is not the kernel's")
    if btf.pointer_size != (8 if platform.flags & PlatformFlags.IS_64_BIT else 4):
        raise BtfError(f"its pointers have {btf.pointer_size} bytes, the kernel's do not")
    types = Types(prog, btf)
    prog.register_type_finder(FINDER, types.find_type, enable_index=-1)
    prog.register_object_finder(FINDER, types.find_constant, enable_index=-1)
    return types
