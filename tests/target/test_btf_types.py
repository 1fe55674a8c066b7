"""BTF as drgn's types, on made-up blobs of both byte orders and on this machine's own."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from drgn import (
    Architecture,
    Object,
    Platform,
    PlatformFlags,
    Program,
    Qualifiers,
    TypeKind,
    sizeof,
)

from hvoinspect.target.btf import LIVE_BTF, Btf, BtfError, read_btf
from hvoinspect.target.btf_records import Kind
from hvoinspect.target.btf_types import FINDER, Types, register_types
from tests.btf_encoder import Encoder, every_kind

BIG = Platform(Architecture.PPC64, PlatformFlags.IS_64_BIT)
LITTLE = Platform(Architecture.X86_64)


def program(blob: bytes, platform: Platform = LITTLE) -> tuple[Program, Types]:
    prog = Program(platform)
    return prog, register_types(prog, Btf.parse(blob))


@pytest.fixture(params=["<", ">"], ids=["little", "big"])
def prog(request: pytest.FixtureRequest) -> Program:
    return program(every_kind(request.param), LITTLE if request.param == "<" else BIG)[0]


class TestTypes:
    def test_structs(self, prog: Program) -> None:
        outer = prog.type("struct outer")
        assert outer.size == 56
        assert outer.member("high").bit_offset == 96
        assert outer.member("wide").bit_field_size == 10
        assert outer.member("plain").bit_field_size is None
        names = [member.name for member in outer.members or ()]
        assert names[:5] == ["plain", "narrow", "wide", None, "nested"]
        assert outer.member("nested").type.type_name() == "struct pair"
        assert outer.member("table").type.type_name() == "int [1][2]"
        assert outer.member("rest").type.length == 0
        assert prog.type("union either").kind == TypeKind.UNION

    def test_values(self, prog: Program) -> None:
        data = bytes(range(56))
        outer = Object.from_bytes_(prog, prog.type("struct outer"), data)
        big = prog.platform == BIG
        assert outer.plain == int.from_bytes(data[:4], "big" if big else "little")
        assert outer.nested.second == int.from_bytes(data[24:32], "big" if big else "little")
        word = int.from_bytes(data[4:8], "big" if big else "little")
        assert outer.narrow.value_() & 7 == (word >> (29 if big else 0)) & 7
        assert isinstance(outer.value_(), dict)

    def test_enums(self, prog: Program) -> None:
        colour = prog.type("enum colour")
        assert [tuple(e) for e in colour.enumerators or ()] == [
            ("RED", 1),
            ("GREEN", 2),
            ("NONE", 0xFFFFFFFF),
        ]
        assert prog["GREEN"].type_.type_name() == "enum colour"
        assert prog["NONE"].value_() == 0xFFFFFFFF
        assert prog["MINUS"].value_() == -5
        assert prog["FARTHER"].value_() == (1 << 64) - 1
        assert prog["BELOW"].value_() == -(1 << 40)
        with pytest.raises(KeyError):
            prog["MAUVE"]
        with pytest.raises(LookupError):
            prog.constant("GREEN", "colour.h")

    def test_chains(self, prog: Program) -> None:
        types = prog.type("struct outer")
        there = types.member("there").type
        assert there.type.tag == "elsewhere"
        assert there.type.is_complete() is False
        assert types.member("tagged").type.type_name() == "struct pair *"
        whole = types.member("whole").type
        assert whole.qualifiers == Qualifiers.CONST | Qualifiers.VOLATILE
        assert prog.type("word_t").type.type_name() == "unsigned long"

    def test_names_as_in_c(self, prog: Program) -> None:
        for name, size in {
            "unsigned long": 8,
            "int": 4,
            "char": 1,
            "_Bool": 1,
            "size_t": 8,
            "unsigned char": 1,
            "long long": 8,
            "double": 8,
            "struct pair *": 8,
            "struct pair [3]": 48,
            "void *": 8,
        }.items():
            assert sizeof(prog.type(name)) == size, name
        for name in ("struct absent", "enum pair", "absent_t", "union outer"):
            with pytest.raises(LookupError):
                prog.type(name)
        with pytest.raises(LookupError):
            prog.type("struct pair", "pair.h")

    def test_functions(self) -> None:
        _, types = program(every_kind())
        function = next(
            types.type(i) for i in range(1, 40) if types.type(i).kind == TypeKind.FUNCTION
        )
        assert function.is_variadic
        assert function.type.type_name() == "int"
        (parameter,) = function.parameters
        assert parameter.name == "format"
        assert parameter.type.type_name() == "const char * restrict"

    def test_a_declaration_takes_the_only_definition(self) -> None:
        e = Encoder()
        pointer = e.pointer(e.add(Kind.FWD, "s"))
        e.aggregate("holder", 8, [("s", pointer, 0)])
        e.aggregate("s", 4, [("x", e.integer("int", 4), 0)])
        prog, _ = program(e.blob())
        assert prog.type("struct holder").member("s").type.type.size == 4

    def test_programs_do_not_share(self) -> None:
        btf = Btf.parse(every_kind())
        for _ in range(2):
            prog = Program(LITTLE)
            register_types(prog, btf)
            assert Object(prog, "struct pair", {"first": 1, "second": 2}).second == 2


class TestRegistering:
    def test_it_comes_last(self) -> None:
        prog, _ = program(every_kind())
        assert prog.enabled_type_finders() == ["dwarf", FINDER]
        assert prog.enabled_object_finders()[-1] == FINDER

    def test_another_byte_order_or_word(self) -> None:
        for blob, platform in ((every_kind(">"), LITTLE), (every_kind("<"), BIG)):
            with pytest.raises(BtfError, match="byte order"):
                program(blob, platform)
        with pytest.raises(BtfError, match="pointers"):
            program(every_kind(), Platform(Architecture.I386))
        with pytest.raises(BtfError, match="platform"):
            register_types(Program(), Btf.parse(every_kind()))


class TestDamage:
    """What is damaged raises BtfError through drgn, at once or when a member is looked at."""

    @pytest.mark.parametrize(
        "add",
        [
            lambda e: e.typedef("t", 77),
            lambda e: e.typedef("t", 1),
            lambda e: e.typedef("", 0),
            lambda e: e.integer("i", 200),
            lambda e: e.integer("", 4),
            lambda e: e.integer("i", 4, bits=60),
            lambda e: e.add(Kind.FLOAT, "f", 5),
            lambda e: e.enum("e", {"A": 1}, size=3),
            lambda e: e.add(Kind.DATASEC, ".data"),
            lambda e: e.array(e.array(e.integer("i", 16), 0xFFFFFFFF), 0xFFFFFFFF),
            lambda e: e.aggregate("s", 4, [("", 2, 0)]) and e.typedef("s", 1),
            lambda e: e.pointer(1),
            lambda e: e.integer("i", 4) and e.aggregate("s", 8, [("a", 1, 1)]),
            lambda e: e.integer("i", 4) and e.aggregate("s", 8, [("a", 1, 0, 33)]),
            lambda e: e.add(Kind.FLOAT, "f", 4) and e.aggregate("s", 8, [("a", 1, 0, 3)]),
            lambda e: e.integer("i", 4) and e.aggregate("s", 8, [("a", 1, 40)]),
        ],
    )
    def test_types(self, add: Callable[[Encoder], int]) -> None:
        e = Encoder()
        last = add(e)
        _, types = program(e.blob())
        with pytest.raises(BtfError):
            types.type(last)

    def test_a_member(self) -> None:
        e = Encoder()
        e.aggregate("s", 8, [("good", e.integer("int", 4), 0), ("bad", 99, 32)])
        prog, _ = program(e.blob())
        with pytest.raises(BtfError, match="type 99"):
            prog.type("struct s")

    def test_a_nameless_member_that_is_no_aggregate(self) -> None:
        e = Encoder()
        e.aggregate("s", 8, [("", e.integer("int", 4), 0), ("a", 1, 32)])
        prog, _ = program(e.blob())
        assert Object(prog, "struct s", {"a": 3}).value_() == {"a": 3}

    def test_a_parameter(self) -> None:
        e = Encoder()
        proto = e.prototype(0, [("bad", 99)])
        e.aggregate("s", 8, [("call", e.pointer(proto), 0)])
        prog, _ = program(e.blob())
        (parameter,) = prog.type("struct s").member("call").type.type.parameters
        with pytest.raises(BtfError, match="type 99"):
            assert parameter.type

    def test_members_that_would_multiply(self) -> None:
        e = Encoder()
        inner = e.aggregate("", 0, [])
        for _ in range(40):
            inner = e.aggregate("", 0, [("", inner, 0), ("", inner, 0)])
        e.aggregate("s", 0, [("", inner, 0)])
        prog, _ = program(e.blob())
        started = time.monotonic()
        with pytest.raises(BtfError):
            prog.type("struct s")
        assert time.monotonic() - started < 5


@pytest.mark.skipif(not LIVE_BTF.exists(), reason=f"this machine has no {LIVE_BTF}")
class TestThisMachine:
    def test_types_of_memory_management(self) -> None:
        btf = Btf.parse(read_btf(LIVE_BTF))
        prog = Program(LITTLE if btf.records.little_endian else BIG)
        register_types(prog, btf)
        assert prog.type("struct page").size == 64
        for name in ("page", "mem_section", "hstate", "zone", "pglist_data", "folio", "mm_struct"):
            made = prog.type(f"struct {name}")
            assert made.size == btf.size_of(name)
            for member in btf.members(name):
                found, place = made.member(member), btf.member(name, member)
                assert place is not None
                assert found.bit_field_size == (place.bit_size or None)
                if not place.bit_size:
                    assert sizeof(found.type) == place.size_bytes
        assert prog["PG_head"].value_() == btf.enumerator("PG_head")
        assert prog["__NR_PAGEFLAGS"].type_.tag == "pageflags"

    def test_all_of_them(self) -> None:
        btf = Btf.parse(read_btf(LIVE_BTF))
        prog = Program(LITTLE if btf.records.little_endian else BIG)
        types = register_types(prog, btf)
        for type_id in range(1, len(btf.records) + 1):
            record = btf.records.record(type_id)
            if record.kind in (Kind.STRUCT, Kind.UNION):
                for member in types.type(type_id).members or ():
                    assert member.type.kind != TypeKind.VOID
            elif record.kind == Kind.FUNC_PROTO:
                for parameter in types.type(type_id).parameters or ():
                    assert parameter.type
