"""BTF: types as no compiler makes them, asked by name and through drgn."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from random import Random

from drgn import Architecture, Platform, Program, Type, TypeKind, offsetof, sizeof

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.btf import Btf
from hvoinspect.target.btf_records import Kind
from hvoinspect.target.btf_types import register_types
from tests.btf_encoder import Encoder
from tests.fuzz.harness import Fuzzer, promised
from tests.fuzz.mutate import damaged, number
from tests.tiny_kernel import kernel_btf

SEEDS = (kernel_btf(), kernel_btf(shared_tails=True))
NAMES = ("page", "folio", "mem_section", "hstate", "zone", "pglist_data", "atomic_t", "pgd_t", "x")
KINDS = tuple(kind for kind in Kind if kind not in (Kind.VOID, Kind.OPAQUE))
ENUMERATORS = ("PG_head", "NR_NODE_STATES", "SECTION_IS_ONLINE_BIT", "e")
HEADER = 24


def generate(random: Random) -> bytes:
    choice = random.random()
    if choice < 0.2:
        return damaged(random, random.choice(SEEDS))
    if choice < 0.5:
        return words_damaged(random, bytearray(random.choice(SEEDS)))
    if choice < 0.95:
        return graph(random)
    return damaged(random, graph(random), 2)


def words_damaged(random: Random, data: bytearray) -> bytes:
    """Damage words of types: kinds, sizes, counts, references."""
    types = struct.unpack_from("<I", data, 12)[0] // 4
    for _ in range(random.randint(1, 8)):
        at = HEADER + 4 * random.randrange(types)
        old = struct.unpack_from("<I", data, at)[0]
        new = random.choice(
            (
                random.randrange(types),
                number(random, 4),
                old ^ 1 << random.randrange(32),
                (old & 0xFF00_0000) | number(random, 3),
                (random.choice(KINDS) << 24) | (old & 0xFFFFFF),
            )
        )
        struct.pack_into("<I", data, at, new & 0xFFFF_FFFF)
    return bytes(data)


def graph(random: Random) -> bytes:
    """Make types that refer to one another at random, in circles and to themselves too."""
    e = Encoder(random.choice("<<<>"))
    e.integer("long unsigned int", 8)
    count = random.choice((3, 10, 40, 200))
    for _ in range(count):
        kind, name = random.choice(KINDS), random.choice((*NAMES, "", ""))
        tail, each = some_tail(random, e, kind, count)
        sized = kind in (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.INT, Kind.FLOAT)
        value = size(random) if sized else some_id(random, e, count)
        vlen = len(tail) // each if each else 0
        e.add(kind, name, value, vlen, random.random() < 0.4, tail)
    return e.blob()


def some_id(random: Random, e: Encoder, count: int) -> int:
    """Return the id of a type: one near by, one of all, or of none."""
    if random.random() < 0.1:
        return number(random, 4)
    near = random.randint(max(0, e.count - 3), e.count + 2)
    return near if random.random() < 0.6 else random.randint(0, count + 1)


def size(random: Random) -> int:
    return random.choice((0, 1, 2, 4, 8, 16, 64, 4096, number(random, 4)))


def some_tail(random: Random, e: Encoder, kind: Kind, count: int) -> tuple[list[int], int]:
    """Return what follows a type, and how many words of it are one member's; 0 if it has none."""

    def any_id() -> int:
        return some_id(random, e, count)

    def value() -> int:
        return size(random)

    def name(*names: str) -> int:
        return e.name(random.choice(names))

    members = ("", "", "flags", "order", "node_zones", "counter")
    makers: dict[Kind, Callable[[], list[int]]] = {
        Kind.STRUCT: lambda: [name(*members), any_id(), 8 * value()],
        Kind.ENUM: lambda: [name(*ENUMERATORS), value()],
        Kind.ENUM64: lambda: [name(*ENUMERATORS), value(), value()],
        Kind.FUNC_PROTO: lambda: [name("p"), any_id()],
        Kind.DATASEC: lambda: [any_id(), value(), value()],
    }
    makers[Kind.UNION] = makers[Kind.STRUCT]
    if kind in makers:
        parts = [makers[kind]() for _ in range(random.choice((0, 1, 2, 3, 8, 8, 30)))]
        return [word for part in parts for word in part], len(parts[0]) if parts else 0
    if kind == Kind.ARRAY:
        return [any_id(), any_id(), random.choice((0, 1, 2, 512, number(random, 4)))], 0
    if kind in (Kind.INT, Kind.VAR, Kind.DECL_TAG):
        return [random.choice((64, 32, 8, 1, number(random, 4)))], 0
    return [], 0


def check(case: bytes) -> None:
    try:
        btf = Btf.parse(case)
    except HvoinspectError as error:
        promised(error)
        return
    for name in NAMES:
        for ask in (
            lambda name=name: btf.size_of(f"struct {name}"),
            lambda name=name: btf.members(name),
            lambda name=name: btf.member(name, "flags.counter"),
            lambda name=name: btf.array_length(name, "node_zones"),
        ):
            try:
                ask()
            except HvoinspectError as error:
                promised(error)
    for name in ENUMERATORS:
        try:
            btf.enumerator(name)
        except HvoinspectError as error:
            promised(error)
    by_drgn(btf)
    try:
        btf.records.reduced(case)
    except HvoinspectError as error:
        promised(error)


def by_drgn(btf: Btf) -> None:
    prog = Program(Platform(Architecture.X86_64))
    try:
        register_types(prog, btf)
    except HvoinspectError as error:
        promised(error)
        return
    for name in NAMES:
        for keyword in ("struct ", "union ", "enum ", ""):
            try:
                look_at(prog.type(keyword + name))
            except LookupError:
                pass
            except (HvoinspectError, *OF_DRGN) as error:
                promised(error)
    for name in ENUMERATORS:
        with contextlib.suppress(LookupError):
            try:
                prog.constant(name)
            except (HvoinspectError, *OF_DRGN) as error:
                promised(error)


OF_DRGN = (ValueError, TypeError, OverflowError, SyntaxError)
"""What drgn itself raises of types that are no C; `learn_opened` makes errors of them."""


def look_at(found: Type) -> None:
    """Let drgn do with a type what the project lets it do."""
    str(found)
    sizeof(found)
    if found.kind in (TypeKind.STRUCT, TypeKind.UNION, TypeKind.CLASS):
        for member in found.members or ():
            try:
                str(member.type)
                if member.name:
                    offsetof(found, member.name)
            except (HvoinspectError, LookupError, *OF_DRGN) as error:
                promised(error)


def doubling(depth: int) -> bytes:
    """Make structs of two anonymous members each: 2^depth members in all."""
    e = Encoder()
    inner = e.integer("long unsigned int", 8)
    for level in range(depth):
        name = "page" if level == depth - 1 else ""
        member = "" if level else "flags"
        inner = e.aggregate(name, 8, [(member, inner, 0), (member, inner, 0)], kind=Kind.UNION)
    return e.blob()


def same_names(count: int) -> bytes:
    """Make many structs of one name, with many members each."""
    e = Encoder()
    long = e.integer("long unsigned int", 8)
    e.aggregate("page", 8, [("m", long, 0)] * 500)
    struct_of_500 = e.types[16:]
    e.types += struct_of_500 * (count - 1)
    return e.blob()


def many_enums(count: int) -> bytes:
    e = Encoder()
    e.integer("long unsigned int", 8)
    e.enum("", {"PG_head": 6, "e": 1})
    e.types += e.types[16:] * (count - 1)
    return e.blob()


def one_name_everywhere(count: int) -> bytes:
    """Make many copies of one string, each of which a search for the name finds."""
    e = Encoder()
    e.integer("long unsigned int", 8)
    e.aggregate("page", 8, [("flags", 1, 0)])
    e.strings += b"page\0" * count
    return e.blob()


def pointers(count: int) -> bytes:
    e = Encoder()
    e.integer("long unsigned int", 8)
    e.types += struct.pack("<3I", 0, Kind.PTR << 24, 1) * count
    return e.blob()


def wide(count: int) -> bytes:
    """Make one struct of many members without a name, and one that holds it many times."""
    e = Encoder()
    e.integer("long unsigned int", 8)
    inner = e.aggregate("", 8, [("flags", 1, 0)] * count)
    e.aggregate("page", 8, [("", inner, 0)] * count)
    return e.blob()


def nameless() -> bytes:
    """Make a struct, one of whose members has a name outside of the strings."""
    e = Encoder()
    e.integer("long unsigned int", 8)
    e.aggregate("page", 8, [("flags", 1, 0)])
    struct.pack_into("<I", e.types, len(e.types) - 12, 1 << 20)
    return e.blob()


FUZZER = Fuzzer(
    generate,
    check,
    cases=400,
    seconds=4.0,  # the largest take 1.5 where another process shares the core
    known={
        "a member's name outside of the strings": nameless,
        "2^60 members by doubling": lambda: doubling(60),
        "a struct defined 5,000 times": lambda: same_names(5000),
        "100,000 enums with one constant": lambda: many_enums(100_000),
        "3,000,000 strings of one name": lambda: one_name_everywhere(3_000_000),
        "2,500,000 types": lambda: pointers(2_500_000),
        "as many types as there may be": lambda: pointers(0xFFFFE),
        "50,000 members, 50,000 times": lambda: wide(50_000),
        "30,000 members and no more": lambda: wide(170),
    },
)
