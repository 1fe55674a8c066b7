"""The kernel's own symbol table, decoded whole: as drgn does it, but in bulk.

drgn reads the names byte by byte and puts no bound to what they come to. The tables are those of
scripts/kallsyms.c in the kernel: a name is its length and as many bytes, each of which stands for
some characters (a token); the first of them all is nm's letter.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
from drgn import FaultError, Program, Symbol, SymbolBinding, SymbolKind
from numpy.typing import NDArray

from hvoinspect.target.ranges import places_in
from hvoinspect.target.vmcoreinfo import vmcoreinfo_symbol

MAX_SYMBOLS = 1 << 19
"""Most symbols a kernel may have; a distribution's has 100,000 to 250,000."""
MAX_NAMES = 1 << 24
"""Most bytes of all names as they are kept; a distribution's have 2 MB."""
MAX_TOKEN = 512
"""Most characters that a byte of a name stands for: a name has no more (KSYM_NAME_LEN)."""
MAX_TEXT = 1 << 24
"""Most characters of all names; a distribution's have 4 MB."""
MAX_ALIKE = 1 << 22
"""Most characters of all names that are as long as one that is looked for, and end as it does."""
MAX_SAME = 1 << 12
"""Most symbols of one name."""
MAX_SIZE = 1 << 16
"""Bytes of a symbol, which ends where the next one begins; beyond them it is a gap, as for drgn."""
PIECE = 1 << 16


class Tokens:
    """What each of the 256 bytes of a name stands for: its characters, one after the other."""

    def __init__(self, texts: list[bytes]) -> None:
        self._characters = np.frombuffer(b"".join(texts), np.uint8)
        self.sizes = np.array([len(text) for text in texts], np.int32)
        self._starts = np.cumsum(self.sizes) - self.sizes
        self.last = np.array([text[-1] if text else 0 for text in texts], np.uint8)

    def text(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the characters that `codes` stand for: uint8[c]."""
        return self._characters[places_in(self._starts[codes], self.sizes[codes])]


@dataclass(frozen=True)
class Kallsyms:
    """All symbols of a kernel, n of them, in the table's order.

    `codes` uint8[c]: the names as they are kept; that of symbol i, nm's letter first, is the
    `counts[i]` bytes from `starts[i]` on (int64[n] both). `sizes` int64[n]: of the names in
    characters, the letter among them. `addresses` uint64[n].
    """

    codes: NDArray[np.uint8]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    tokens: Tokens
    addresses: NDArray[np.uint64]

    def find(
        self, _prog: Program, name: str | None, address: int | None, one: bool
    ) -> list[Symbol]:
        """Find symbols for drgn by name or address, or all of them: a symbol finder.

        Raises ValueError if more than MAX_SAME have the name.
        """
        if name is not None:
            if name not in self._known:
                self._known[name] = self.named(name)
            found = self._known[name]
            if len(found) > MAX_SAME and not one:
                raise ValueError(f"{len(found)} symbols are named {name}")
        elif address is not None:
            found = self._around(address)
        else:
            found = np.arange(len(self.starts))
        symbols = self._symbols(found)
        if address is not None:
            symbols = (s for s in symbols if s.address <= address < s.address + s.size)
        return list(islice(symbols, 1 if one else None))

    def named(self, name: str) -> NDArray[np.intp]:
        """Return the numbers of the symbols of a name. Raises ValueError if too many are alike."""
        wanted = np.frombuffer(name.encode("ascii", "replace"), np.uint8)
        if not len(wanted):
            return np.zeros(0, np.intp)
        # Few names are as long and end so; only theirs are spelled out.
        found = np.flatnonzero(self.sizes == 1 + len(wanted))
        last = self.codes[self.starts[found] + self.counts[found] - 1]
        found = found[self.tokens.last[last] == wanted[-1]]
        if len(found) * (1 + len(wanted)) > MAX_ALIKE:
            raise ValueError(f"{len(found)} symbols are as long as {name} and end as it does")
        spelled = self._text(found).reshape(len(found), 1 + len(wanted))
        same: NDArray[np.intp] = found[(spelled[:, 1:] == wanted).all(axis=1)]
        return same

    def _text(self, numbers: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the characters of some names, one after the other."""
        return self.tokens.text(self.codes[places_in(self.starts[numbers], self.counts[numbers])])

    def _around(self, address: int) -> NDArray[np.intp]:
        """Return the symbols that begin where the last one up to `address` does."""
        ordered = self.addresses[self._order]
        last = int(np.searchsorted(ordered, np.uint64(address), side="right"))
        first = int(np.searchsorted(ordered, ordered[last - 1])) if last else 0
        return self._order[first:last][:MAX_SAME]

    @cached_property
    def _known(self) -> dict[str, NDArray[np.intp]]:
        """What `named` returned: a few names are asked for again and again."""
        return {}

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(self.addresses, kind="stable")

    def _symbols(self, numbers: NDArray[np.intp]) -> Iterator[Symbol]:
        text = self._text(numbers).tobytes()
        ends = np.cumsum(self.sizes[numbers]).tolist()
        for number, begin, end in zip(numbers.tolist(), [0, *ends], ends, strict=False):
            here = int(self.addresses[number])
            after = int(self.addresses[number + 1]) if number + 1 < len(self.addresses) else here
            size = after - here if 0 < after - here < MAX_SIZE else 0
            name = text[begin + 1 : end].decode("ascii", "backslashreplace")
            yield Symbol(name, here, size, *_meaning(chr(text[begin])))


def read_kallsyms(prog: Program) -> Kallsyms:
    """Read the tables that VMCOREINFO names.

    Raises LookupError if it does not name them (before 6.0), FaultError if they cannot be read, and
    ValueError if they make no sense.
    """
    count = prog.read_u32(_place(prog, "num_syms"))
    if not 0 < count <= MAX_SYMBOLS:
        raise ValueError(f"the kernel would have {count} symbols")
    codes, starts, counts = _names(prog, count)
    tokens = _tokens(prog)
    # Of all names together modulo 2^32, which differences do not mind.
    before = np.cumsum(tokens.sizes[codes], dtype=np.uint32)
    sizes = (before[starts + counts - 1] - before[starts - 1]).astype(np.int64)
    if sizes.min() < 2:
        raise ValueError("a symbol has no name")
    if sizes.sum() > MAX_TEXT:
        raise ValueError(f"the names of the symbols would have {sizes.sum()} characters")
    symbols = Kallsyms(codes, starts, counts, sizes, tokens, np.zeros(0, np.uint64))
    stext = symbols.named("_stext")
    if not len(stext):
        raise ValueError("_stext is not among the symbols")
    return replace(symbols, addresses=_addresses(prog, count, int(stext[0])))


def _place(prog: Program, table: str) -> int:
    address = vmcoreinfo_symbol(prog, f"kallsyms_{table}")
    if address is None:
        raise LookupError(f"VMCOREINFO does not tell where kallsyms_{table} is")
    return address


class _Bytes:
    """Memory from an address on, read as far as it is asked for."""

    def __init__(self, prog: Program, start: int) -> None:
        self._prog = prog
        self._start = start
        self._piece = PIECE
        self.data = bytearray()

    def up_to(self, size: int) -> None:
        """Have at least `size` bytes. Raises FaultError, and ValueError beyond MAX_NAMES.

        What follows a table may not be there, as in a capture: hence ever smaller pieces then.
        """
        if size > MAX_NAMES:
            raise ValueError(f"the names of the symbols would have {size} bytes or more")
        while len(self.data) < size:
            try:
                self.data += self._prog.read(self._start + len(self.data), self._piece)
            except FaultError:
                if self._piece == 1:
                    raise
                self._piece //= 2


def _names(
    prog: Program, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return `codes`, `starts` and `counts` of Kallsyms.

    A length of two bytes has the highest bit of the first set, since 73bbb94466fd "kallsyms:
    support "big" kernel symbols" (6.1); before that no name was that long.
    """
    memory = _Bytes(prog, _place(prog, "names"))
    data, ends, at, known = memory.data, array("q"), 0, -1
    append = ends.append
    for _ in range(count):  # one after the other, since a name's length tells where the next is
        if at >= known:
            memory.up_to(at + 2)
            known = len(data) - 1
        size = data[at]
        if size > 0x7F:
            size = (size & 0x7F | data[at + 1] << 7) + 1
        at += size + 1
        append(at)
    memory.up_to(at)
    codes = np.frombuffer(bytes(data[:at]), np.uint8)
    end = np.frombuffer(ends, np.int64)
    begin = np.append(0, end[:-1])
    starts = begin + np.where(codes[begin] > 0x7F, 2, 1)
    return codes, starts, end - starts


def _tokens(prog: Program) -> Tokens:
    index = np.frombuffer(prog.read(_place(prog, "token_index"), 512), "<u2")
    start, last = _place(prog, "token_table"), int(index.max())
    table = prog.read(start, last) + prog.read_c_string(start + last, max_size=MAX_TOKEN) + b"\0"
    texts = [table[at : table.index(b"\0", at)] for at in index.tolist()]
    if max(map(len, texts)) >= MAX_TOKEN:
        raise ValueError("a part of the symbols' names is too long")
    return Tokens(texts)


def _addresses(prog: Program, count: int, stext: int) -> NDArray[np.uint64]:
    """Return the addresses: uint64[n]. That of _stext, number `stext`, tells how they are kept."""
    absolute = vmcoreinfo_symbol(prog, "kallsyms_addresses")
    if absolute is not None:  # up to 6.10: 64e166099b69
        return np.frombuffer(prog.read(absolute, 8 * count), "<u8").astype(np.uint64)
    place = _place(prog, "offsets")
    signed = np.frombuffer(prog.read(place, 4 * count), "<i4")
    offset = signed.astype(np.uint64)  # of what is below zero, modulo 2^64
    own = np.uint64(place) + np.arange(0, 4 * count, 4, dtype=np.uint64)
    ways = [own + offset]  # from where each is itself: 7.0, a081b5789255
    base_at = vmcoreinfo_symbol(prog, "kallsyms_relative_base")
    if base_at is not None:
        base = np.uint64(prog.read_u64(base_at))
        ways.append(base + (offset & np.uint64(0xFFFF_FFFF)))
        # Those of per-CPU variables as they are, CONFIG_KALLSYMS_ABSOLUTE_PERCPU: until 6.15.
        ways.append(np.where(signed >= 0, offset, base - np.uint64(1) - offset))
    expected = vmcoreinfo_symbol(prog, "_stext")
    for addresses in ways:
        if expected is None or int(addresses[stext]) == expected:
            return addresses
    raise ValueError(f"none of the ways to keep addresses puts _stext at {expected:#x}")


def _meaning(letter: str) -> tuple[SymbolBinding, SymbolKind]:
    """Return what a letter of nm(1) says."""
    lower = letter.lower()
    binding = SymbolBinding.GLOBAL if letter.isupper() else SymbolBinding.UNKNOWN
    if lower in "vw":
        binding = SymbolBinding.WEAK
    elif letter == "u":
        binding = SymbolBinding.UNIQUE
    if lower == "t":
        return binding, SymbolKind.FUNC
    return binding, SymbolKind.OBJECT if lower in "bcdgrv" else SymbolKind.UNKNOWN
