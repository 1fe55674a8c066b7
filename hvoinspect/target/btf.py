"""Types, members, sizes and constants of a kernel, out of its own BTF alone.

This needs neither debug symbols nor drgn, nor even the kernel's memory: a running kernel shows its
BTF to every user. `hvoinspect.target.btf_types` offers the same types to drgn.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from hvoinspect.target.btf_records import (
    MAX_MEMBERS,
    BtfError,
    Kind,
    RawMember,
    Record,
    Records,
)

if TYPE_CHECKING:
    from drgn import Program

__all__ = ["LIVE_BTF", "Btf", "BtfError", "Member", "read_btf"]

LIVE_BTF = Path("/sys/kernel/btf/vmlinux")
MAX_BYTES = 32 << 20
"""Most bytes of BTF that are read; distributions' kernels have 4 to 7 MB of it."""

MAX_DEPTH = 64
"""How long a chain of types may be, or how deep they may nest. The kernel's own limit is 32."""
MAX_SIZE = 1 << 47
"""How many bytes a type may have; more than any that could be mapped."""

SKIPPED = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)
"""Kinds that stand for the type they refer to."""
AGGREGATES = (Kind.STRUCT, Kind.UNION)
_PREFIXES: dict[str, tuple[Kind, ...]] = {
    "struct": (Kind.STRUCT,),
    "union": (Kind.UNION,),
    "enum": (Kind.ENUM, Kind.ENUM64),
}
# What a name without a prefix may mean, in order of preference.
_PLAIN: tuple[tuple[Kind, ...], ...] = (
    (Kind.STRUCT,),
    (Kind.UNION,),
    (Kind.ENUM, Kind.ENUM64),
    (Kind.TYPEDEF,),
    (Kind.INT, Kind.FLOAT),
)


class Member(NamedTuple):
    """Where a member is within the type it was asked of, however deep it lies in it."""

    offset_bytes: int
    """Of a bit field: the first byte that holds some of it."""
    size_bytes: int
    """Of a bit field: the bytes from there that hold all of it. Of a flexible array: 0."""
    bit_offset: int
    """Of a bit field: its first bit, 0..7, counted from the start of that byte in the kernel's
    order (least significant bit first if little-endian). Otherwise 0."""
    bit_size: int
    """Width of a bit field in bits; 0 says that it is none."""


class Btf:
    """The types of one kernel. Nothing here changes once made; what was looked up is kept.

    Types are named as in C, "struct page", or without the prefix, "page". A name with several,
    differing definitions (drivers have such; core types do not) raises BtfError, for any choice
    would be a guess. So does, at first use, all that is damaged or circular.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self._found: dict[tuple[str, tuple[Kind, ...]], int | None] = {}
        self._flattened: dict[int, Mapping[str, RawMember]] = {}
        self._counts: dict[int, int] = {}
        self._nested: set[int] = set()
        self._constants: dict[str, tuple[int, int] | None] = {}

    @classmethod
    def parse(cls, data: bytes) -> Btf:
        """Find the types in `data`, a whole BTF blob. Raises BtfError if it is none, or damaged."""
        return cls(Records.parse(data))

    # What can be asked with names alone.

    def size_of(self, name: str) -> int | None:
        """Return the size in bytes of type `name`; None if there is no such type."""
        type_id = self._type(name)
        return None if type_id is None else self.size(type_id)

    def member(self, struct: str, path: str) -> Member | None:
        """Find a member of a struct or union: "_refcount", or by steps, as in "flags.f".

        Members of anonymous members count as the type's own. None if the type or the member does
        not exist, or a step leads through a pointer or array.
        """
        found = self._walk(struct, path)
        if found is None:
            return None
        outer, raw = found
        self._check_place(outer, raw)
        if raw.bit_size:
            first, rest = divmod(raw.bit_offset, 8)
            return Member(first, (rest + raw.bit_size + 7) // 8, rest, raw.bit_size)
        return Member(raw.bit_offset // 8, self.size(raw.type_id), 0, 0)

    def has_member(self, struct: str, path: str) -> bool:
        """Say whether `member` would find that member."""
        return self._walk(struct, path) is not None

    def members(self, struct: str) -> tuple[str, ...]:
        """Name the members of a struct or union in their order, those of its anonymous ones too.

        Empty if there is no such type.
        """
        type_id = self._type(struct)
        if type_id is None or self.strip(type_id).kind not in AGGREGATES:
            return ()
        return tuple(self._flat(self.strip(type_id), 0))

    def array_length(self, struct: str, path: str) -> int | None:
        """Return how many elements an array that is a member has, by its first dimension.

        None if there is no such member or it is no array. A flexible array has 0.
        """
        found = self._walk(struct, path)
        if found is None:
            return None
        record = self.strip(found[1].type_id)
        return self.records.element(record)[1] if record.kind == Kind.ARRAY else None

    def enumerator(self, name: str) -> int | None:
        """Return the value of a constant of any enum, named or not; None if there is none.

        Raises BtfError if enums disagree on it.
        """
        found = self.constant(name)
        return None if found is None else found[1]

    # What the finders for drgn ask.

    def constant(self, name: str) -> tuple[int, int] | None:
        """Return the id of the enum that has enumerator `name`, and its value."""
        if name not in self._constants:
            found = self.records.enumerators_named(name)
            if len({value for _, value in found}) > 1:
                raise BtfError(f"its enums disagree on the value of {name}")
            self._constants[name] = found[0] if found else None
        return self._constants[name]

    def find(self, name: str, kinds: tuple[Kind, ...]) -> int | None:
        """Return the id of the type of that name and one of those kinds, or None."""
        key = (name, kinds)
        if key not in self._found:
            ids = self.records.ids_named(name, kinds)
            if sum(self.strip(other).vlen for other in ids) > MAX_MEMBERS:
                raise BtfError(f"it has {len(ids)} definitions of {name}, too many to compare")
            if any(not self._same(ids[0], other) for other in ids[1:]):
                raise BtfError(f"it has {len(ids)} different definitions of {name}")
            self._found[key] = ids[0] if ids else None
        return self._found[key]

    def strip(self, type_id: int) -> Record:
        """Return the type behind typedefs and qualifiers."""
        for _ in range(MAX_DEPTH):
            record = self.records.record(type_id)
            if record.kind not in SKIPPED:
                return record
            type_id = record.value
        raise BtfError(f"the chain of types at {type_id} is too long, or a circle")

    def size(self, type_id: int) -> int:
        """Return the size of a type in bytes; a flexible array has 0. BtfError if it has none."""
        count = 1
        for _ in range(MAX_DEPTH):
            record = self.strip(type_id)
            if record.kind != Kind.ARRAY:
                break
            type_id, length = self.records.element(record)
            count *= length
        if record.kind == Kind.PTR:
            size = count * self.pointer_size
        elif record.kind in (*AGGREGATES, Kind.INT, Kind.FLOAT, Kind.ENUM, Kind.ENUM64):
            size = count * record.value
        else:
            raise BtfError(f"type {record.id}, a {record.kind.name}, has no size")
        if size > MAX_SIZE:
            raise BtfError(f"type {record.id} would have {size} bytes")
        return size

    @cached_property
    def pointer_size(self) -> int:
        """Size of a pointer in bytes. BTF does not say; in every Linux ABI it is that of a long."""
        for name in ("long unsigned int", "unsigned long", "long int", "long"):
            for type_id in self.records.ids_named(name, (Kind.INT,)):
                if self.records.record(type_id).value in (4, 8):
                    return self.records.record(type_id).value
        return 8

    def check_nesting(self, type_id: int, depth: int = 0) -> None:
        """Raise BtfError if a type contains itself, multiplies its members or does not hold them.

        drgn believes what it is told: some such types would have it follow members without end.
        """
        record = self.strip(type_id)
        while record.kind == Kind.ARRAY:
            record = self.strip(self.records.element(record)[0])
            depth += 1
            _check_depth(record, depth)
        if record.kind in AGGREGATES and record.id not in self._nested:
            _check_depth(record, depth)
            for member in self.records.members(record):
                self.check_nesting(member.type_id, depth + 1)
                self._check_place(record, member)
            self._flat(record, depth)
            self._nested.add(record.id)

    # How names and paths are followed.

    def _type(self, name: str) -> int | None:
        prefix, _, rest = name.partition(" ")
        if prefix in _PREFIXES and rest:
            return self.find(rest, _PREFIXES[prefix])
        for kinds in _PLAIN:
            type_id = self.find(name, kinds)
            if type_id is not None:
                return type_id
        return None

    def _same(self, one: int, other: int) -> bool:
        """Say whether two definitions of one name come to the same, so that either will do."""
        a, b = self.strip(one), self.strip(other)
        if a.id == b.id:
            return True
        if (a.kind, a.vlen, a.value) != (b.kind, b.vlen, b.value):
            # Two pointers refer to different ids, which says nothing: they are alike to a reader.
            return a.kind == b.kind == Kind.PTR
        if a.kind in AGGREGATES:
            places_a = [(m.name, m.bit_offset, m.bit_size) for m in self.records.members(a)]
            return places_a == [(m.name, m.bit_offset, m.bit_size) for m in self.records.members(b)]
        if a.kind in (Kind.ENUM, Kind.ENUM64):
            return list(self.records.enumerators(a)) == list(self.records.enumerators(b))
        return True

    def _walk(self, struct: str, path: str) -> tuple[Record, RawMember] | None:
        """Follow `path`; return the struct, and the member with its offset in it."""
        type_id = self._type(struct)
        if type_id is None:
            return None
        outer = record = self.strip(type_id)
        offset = 0
        found = None
        for step in path.split("."):
            if record.kind not in AGGREGATES or (found and found.bit_size):
                return None
            found = self._flat(record, 0).get(step)
            if found is None:
                return None
            offset += found.bit_offset
            record = self.strip(found.type_id)
        return None if found is None else (outer, found._replace(bit_offset=offset))

    def _check_place(self, owner: Record, member: RawMember) -> None:
        """Raise BtfError unless a member lies within its owner, and a bit field in its type."""
        bits = 8 * self.size(member.type_id)
        if member.bit_size:
            kind = self.strip(member.type_id).kind
            if kind not in (Kind.INT, Kind.ENUM, Kind.ENUM64) or member.bit_size > bits:
                raise BtfError(f"bit field {member.name} of type {owner.id} is none of an integer")
            bits = member.bit_size
        elif member.bit_offset % 8:
            raise BtfError(f"member {member.name} of type {owner.id} starts within a byte")
        if member.bit_offset + bits > 8 * owner.value:
            raise BtfError(f"member {member.name} of type {owner.id} lies outside of it")

    def _flat(self, record: Record, depth: int) -> Mapping[str, RawMember]:
        """Return the members of an aggregate by name, those of its anonymous members among them."""
        known = self._flattened.get(record.id)
        if known is not None:
            return known
        _check_depth(record, depth)
        flat: dict[str, RawMember] = {}
        count = 0
        for member in self.records.members(record):
            if member.name:
                flat.setdefault(member.name, member)
                count += 1
                continue
            inner = self.strip(member.type_id)
            if inner.kind in AGGREGATES:
                within = self._flat(inner, depth + 1)
                count += self._counts[inner.id]
                if count > MAX_MEMBERS:
                    break
                for name, raw in within.items():
                    offset = member.bit_offset + raw.bit_offset
                    flat.setdefault(name, raw._replace(bit_offset=offset))
        if count > MAX_MEMBERS:
            raise BtfError(f"type {record.id} has more than {MAX_MEMBERS} members")
        # An empty member counts too: it costs a reader as much time as one with a name.
        self._counts[record.id] = count + 1
        self._flattened[record.id] = MappingProxyType(flat)
        return self._flattened[record.id]


def _check_depth(record: Record, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BtfError(f"types nest too deep at {record.id}, or contain themselves")


def read_btf(source: Program | Path | str) -> bytes:
    """Return the BTF of the kernel that `source` is, or that the file there holds.

    The running kernel's is read from LIVE_BTF. Another's is read from its memory, where the linker
    script puts it between the symbols __start_BTF and __stop_BTF: its symbols must have been
    registered. Raises BtfError if there is none (no CONFIG_DEBUG_INFO_BTF), it is larger than
    MAX_BYTES, or it cannot be read.
    """
    if isinstance(source, str | Path):
        return _read_file(Path(source))
    from drgn import ProgramFlags  # noqa: PLC0415 - files need no drgn

    local = ProgramFlags.IS_LIVE | ProgramFlags.IS_LOCAL
    if source.flags & local == local:
        return _read_file(LIVE_BTF)
    try:
        start = source.symbol("__start_BTF").address
        stop = source.symbol("__stop_BTF").address
    except LookupError:
        raise BtfError("the kernel's symbols name none (CONFIG_DEBUG_INFO_BTF is off?)") from None
    if not 0 < stop - start <= MAX_BYTES:
        raise BtfError(f"the kernel's symbols give it {stop - start} bytes")
    try:
        data: bytes = source.read(start, stop - start)
    except Exception as error:
        raise BtfError(f"{stop - start} bytes at {start:#x} cannot be read: {error}") from error
    return data


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BtfError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise BtfError(f"{path} has more than {MAX_BYTES} bytes")
    return data
