"""The kernel's own symbol table, decoded whole: as drgn does it, but in bulk.

drgn reads the names byte by byte and puts no bound to what they come to. The tables are those of
scripts/kallsyms.c in the kernel: a name is its length and as many bytes, each of which stands for
some characters (a token); the first of them all is nm's letter.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from drgn import FaultError, Program, Symbol, SymbolBinding, SymbolKind
from numpy.typing import NDArray

from hvoinspect.target.vmcoreinfo import vmcoreinfo_symbol

MAX_SYMBOLS = 1 << 19
"""Most symbols a kernel may have; a distribution's has 100,000 to 250,000."""
MAX_TOKEN = 512
"""Most characters that a byte of a name stands for: a name has no more (KSYM_NAME_LEN)."""
MAX_TEXT = 1 << 26
"""Most characters of all names; a distribution's have 4 MB."""
MAX_SAME = 1 << 12
"""Most symbols of one name."""
MAX_SIZE = 1 << 16
"""Bytes of a symbol, which ends where the next one begins; beyond them it is a gap, as for drgn."""
PIECE = 4096
_SEPARATOR = 256
"""Stands for the end of a name among the tokens."""


@dataclass(frozen=True)
class Kallsyms:
    """All symbols of a kernel, n of them, in the table's order.

    `text`: a NUL before and after each name. `place` int64[n]: of the NUL before it. `letters`
    uint8[n]: nm's. `addresses` uint64[n].
    """

    text: bytes
    place: NDArray[np.int64]
    letters: NDArray[np.uint8]
    addresses: NDArray[np.uint64]

    def find(
        self, _prog: Program, name: str | None, address: int | None, one: bool
    ) -> list[Symbol]:
        """Find symbols for drgn by name or address, or all of them: a symbol finder.

        Raises ValueError if more than MAX_SAME have the name.
        """
        if name is not None:
            found: Iterable[int] = self._named(name)
        elif address is not None:
            found = self._around(address)
        else:
            found = range(len(self.place))
        symbols = (self._symbol(index) for index in found)
        if address is not None:
            symbols = (s for s in symbols if s.address <= address < s.address + s.size)
        return list(islice(symbols, 1 if one else None))

    def _named(self, name: str) -> Iterator[int]:
        needle = b"\0" + name.encode("ascii", "replace") + b"\0"
        at = self.text.find(needle) if name.isprintable() else -1
        for _ in range(MAX_SAME):
            if at < 0:
                return
            yield int(np.searchsorted(self.place, at))
            at = self.text.find(needle, at + 1)
        raise ValueError(f"more than {MAX_SAME} symbols are named {name}")

    def _around(self, address: int) -> list[int]:
        """Return the symbols that begin where the last one up to `address` does."""
        ordered = self.addresses[self._order]
        last = int(np.searchsorted(ordered, np.uint64(address), side="right"))
        first = int(np.searchsorted(ordered, ordered[last - 1])) if last else 0
        return [int(index) for index in self._order[first:last][:MAX_SAME]]

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(self.addresses, kind="stable")

    def _symbol(self, index: int) -> Symbol:
        start = int(self.place[index]) + 1
        name = self.text[start : self.text.index(b"\0", start)].decode("ascii", "backslashreplace")
        here = int(self.addresses[index])
        after = int(self.addresses[index + 1]) if index + 1 < len(self.addresses) else here
        size = after - here if 0 < after - here < MAX_SIZE else 0
        return Symbol(name, here, size, *_meaning(chr(self.letters[index])))


def read_kallsyms(prog: Program) -> Kallsyms:
    """Read the tables that VMCOREINFO names.

    Raises LookupError if it does not name them (before 6.0), FaultError if they cannot be read, and
    ValueError if they make no sense.
    """
    count = prog.read_u32(_place(prog, "num_syms"))
    if not 0 < count <= MAX_SYMBOLS:
        raise ValueError(f"the kernel would have {count} symbols")
    text, place, letters = _expand(*_names(prog, count), _tokens(prog))
    stext = text.find(b"\0_stext\0")
    if stext < 0:
        raise ValueError("_stext is not among the symbols")
    addresses = _addresses(prog, count, int(np.searchsorted(place, stext)))
    return Kallsyms(text, place, letters, addresses)


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
        """Have at least `size` bytes. Raises FaultError.

        What follows a table may not be there, as in a capture: hence ever smaller pieces then.
        """
        while len(self.data) < size:
            try:
                self.data += self._prog.read(self._start + len(self.data), self._piece)
            except FaultError:
                if self._piece == 1:
                    raise
                self._piece //= 2


def _names(prog: Program, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the names, and where the length of each is in them: int64[n].

    A length of two bytes has the highest bit of the first set, since 73bbb94466fd "kallsyms:
    support "big" kernel symbols" (6.1); before that no name was that long.
    """
    memory = _Bytes(prog, _place(prog, "names"))
    data, lengths, at = memory.data, array("q"), 0
    for _ in range(count):
        if at + 2 > len(data):
            memory.up_to(at + 2)
        lengths.append(at)
        size = data[at]
        if size & 0x80:
            size = (size & 0x7F | data[at + 1] << 7) + 1
        if size == 0:
            raise ValueError("a symbol has no name")
        at += size + 1
    memory.up_to(at)
    return np.frombuffer(bytes(data[:at]), np.uint8), np.frombuffer(lengths, np.int64)


def _tokens(prog: Program) -> list[bytes]:
    """Return the text that each byte of a name stands for."""
    index = np.frombuffer(prog.read(_place(prog, "token_index"), 512), "<u2")
    start, last = _place(prog, "token_table"), int(index.max())
    table = prog.read(start, last) + prog.read_c_string(start + last, max_size=MAX_TOKEN) + b"\0"
    tokens = [table[at : table.index(b"\0", at)] for at in index.tolist()]
    if max(map(len, tokens)) >= MAX_TOKEN:
        raise ValueError("a part of the symbols' names is too long")
    return tokens


def _expand(
    names: NDArray[np.uint8], lengths: NDArray[np.int64], tokens: list[bytes]
) -> tuple[bytes, NDArray[np.int64], NDArray[np.uint8]]:
    """Return the text, the places and the letters of `Kallsyms`."""
    codes = names.astype(np.int16)
    codes[lengths] = _SEPARATOR
    codes = np.delete(codes, lengths[names[lengths] >= 0x80] + 1)
    text = _text(codes, [*tokens, b"\0"])
    place = np.flatnonzero(text == 0)
    if len(place) != len(lengths) or (np.diff(np.append(place, len(text))) < 2).any():
        raise ValueError("a symbol has no name")
    keep = np.ones(len(text), np.bool_)
    keep[place + 1] = False
    letters = text[place + 1]
    return text[keep].tobytes() + b"\0", place - np.arange(len(place)), letters


def _text(codes: NDArray[np.int16], parts: list[bytes]) -> NDArray[np.uint8]:
    """Return the characters that `codes` stand for: uint8[c]."""
    sizes = np.array([len(part) for part in parts], np.int64)
    starts = np.cumsum(sizes) - sizes
    total = int((np.bincount(codes, minlength=len(parts)) * sizes).sum())
    if total > MAX_TEXT:
        raise ValueError(f"the names of the symbols would have {total} characters")
    characters, text = np.frombuffer(b"".join(parts), np.uint8), np.empty(total, np.uint8)
    at = 0
    for low in range(0, len(codes), 1 << 15):  # small enough for the processor's cache
        piece = codes[low : low + (1 << 15)]
        size = sizes[piece]
        ends = np.cumsum(size)
        end = int(ends[-1])
        source = np.arange(end) + np.repeat(starts[piece] - (ends - size), size)
        np.take(characters, source, out=text[at : at + end])
        at += end
    return text


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
