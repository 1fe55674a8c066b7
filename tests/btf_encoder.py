"""Makes BTF blobs for tests, of either byte order; it checks nothing, so it can make bad ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from hvoinspect.target.btf_records import Kind


@dataclass
class Encoder:
    """Types are added one by one; each call returns the id of the type it added."""

    order: str = "<"
    types: bytearray = field(default_factory=bytearray)
    strings: bytearray = field(default_factory=lambda: bytearray(1))
    offsets: dict[str, int] = field(default_factory=lambda: {"": 0})
    count: int = 0

    def name(self, text: str) -> int:
        if text not in self.offsets:
            self.offsets[text] = len(self.strings)
            self.strings += text.encode() + b"\0"
        return self.offsets[text]

    def add(
        self,
        kind: int,
        name: str = "",
        value: int = 0,
        vlen: int = 0,
        flag: bool = False,
        tail: Sequence[int] = (),
    ) -> int:
        info = flag << 31 | kind << 24 | vlen
        words = [self.name(name), info, value, *(word & 0xFFFFFFFF for word in tail)]
        self.types += struct.pack(f"{self.order}{len(words)}I", *words)
        self.count += 1
        return self.count

    def integer(
        self,
        name: str,
        size: int,
        *,
        signed: bool = False,
        boolean: bool = False,
        bits: int | None = None,
        offset: int = 0,
    ) -> int:
        encoding = signed | boolean << 2
        word = encoding << 24 | offset << 16 | (8 * size if bits is None else bits)
        return self.add(Kind.INT, name, size, tail=[word])

    def pointer(self, to: int) -> int:
        return self.add(Kind.PTR, value=to)

    def array(self, element: int, length: int, index: int = 0) -> int:
        return self.add(Kind.ARRAY, tail=[element, index, length])

    def aggregate(
        self,
        name: str,
        size: int,
        members: Sequence[tuple[str, int, int] | tuple[str, int, int, int]],
        *,
        kind: Kind = Kind.STRUCT,
        flag: bool | None = None,
    ) -> int:
        """Members are name, type id, offset in bits and, of bit fields, width in bits."""
        if flag is None:
            flag = any(len(member) == 4 for member in members)
        tail: list[int] = []
        for name_, type_id, offset, *width in members:
            where = (width[0] << 24 if width else 0) | offset
            tail += [self.name(name_), type_id, where]
        return self.add(kind, name, size, len(members), flag, tail)

    def enum(self, name: str, values: dict[str, int], *, size: int = 4, wide: bool = False) -> int:
        tail: list[int] = []
        for key, value in values.items():
            tail += [self.name(key), value, value >> 32] if wide else [self.name(key), value]
        signed = any(value < 0 for value in values.values())
        kind = Kind.ENUM64 if wide else Kind.ENUM
        return self.add(kind, name, size, len(values), signed, tail)

    def typedef(self, name: str, to: int) -> int:
        return self.add(Kind.TYPEDEF, name, to)

    def prototype(self, returns: int, parameters: Sequence[tuple[str, int]] = ()) -> int:
        tail = [word for name, type_id in parameters for word in (self.name(name), type_id)]
        return self.add(Kind.FUNC_PROTO, value=returns, vlen=len(parameters), tail=tail)

    def blob(self, extra: bytes = b"", layout: bytes | None = None) -> bytes:
        """Return the blob; `extra` goes between the sections, `layout` is a section of its own."""
        strings = bytes(self.strings)
        start = len(self.types) + len(extra)
        words = [0, len(self.types), start, len(strings)]
        body = bytes(self.types) + extra + strings
        if layout is not None:
            words += [len(body), len(layout)]
            body += layout
        header = struct.pack(f"{self.order}HBBI", 0xEB9F, 1, 0, 8 + 4 * len(words))
        return header + struct.pack(f"{self.order}{len(words)}I", *words) + body


def every_kind(order: str = "<") -> bytes:
    """Return a small blob with a type of every kind there is."""
    e = Encoder(order)
    long = e.integer("long unsigned int", 8)
    int_ = e.integer("int", 4, signed=True)
    char = e.integer("char", 1)
    e.integer("_Bool", 1, boolean=True)
    pair = e.aggregate("pair", 16, [("first", long, 0), ("second", long, 64)])
    e.aggregate("either", 8, [("word", long, 0), ("half", int_, 0)], kind=Kind.UNION)
    e.enum("colour", {"RED": 1, "GREEN": 2, "NONE": 0xFFFFFFFF})
    e.enum("", {"MINUS": -5, "PLUS": 5})
    e.enum("wide", {"FAR": 1 << 40, "FARTHER": (1 << 64) - 1}, size=8, wide=True)
    e.enum("wide_signed", {"BELOW": -(1 << 40)}, size=8, wide=True)
    forward = e.add(Kind.FWD, "elsewhere")
    e.add(Kind.FWD, "elsewhere_union", flag=True)
    word = e.typedef("word_t", long)
    const = e.add(Kind.CONST, value=word)
    volatile = e.add(Kind.VOLATILE, value=const)
    text = e.pointer(e.add(Kind.CONST, value=char))
    restricted = e.add(Kind.RESTRICT, value=text)
    tagged = e.pointer(e.add(Kind.TYPE_TAG, "rcu", pair))
    prototype = e.prototype(int_, [("format", restricted), ("", 0)])
    function = e.add(Kind.FUNC, "printk", prototype, vlen=1)
    variable = e.add(Kind.VAR, "per_cpu_thing", pair, tail=[1])
    e.add(Kind.DATASEC, ".data..percpu", 64, vlen=1, tail=[variable, 0, 16])
    e.add(Kind.FLOAT, "double", 8)
    e.add(Kind.DECL_TAG, "kfunc", function, tail=[-1])
    inner = e.aggregate("", 8, [("low", int_, 0), ("high", int_, 32)])
    choice = e.aggregate("", 8, [("whole", volatile, 0), ("", inner, 0)], kind=Kind.UNION)
    e.aggregate(
        "outer",
        56,
        [
            ("plain", int_, 0),
            ("narrow", int_, 32, 3),
            ("wide", int_, 35, 10),
            ("", choice, 64),
            ("nested", pair, 128),
            ("table", e.array(e.array(int_, 2), 1), 256),
            ("there", e.pointer(forward), 320),
            ("tagged", tagged, 384),
            ("rest", e.array(char, 0), 448),
        ],
    )
    return e.blob()
