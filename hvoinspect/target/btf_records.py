"""The records of a BTF blob: found by one scan, checked, and decoded when they are asked for.

BTF is the kernel's compact description of its own types. The format is the kernel's, from
Documentation/bpf/btf.rst and include/uapi/linux/btf.h. A blob from a dump is hostile input: every
offset and index is checked before use, and every loop is bounded by the size of the blob.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.strings import Strings

MAGIC = 0xEB9F
MAX_TYPES = 0xFFFFF
"""Most types a blob may have: BTF_MAX_TYPE."""
MAX_MEMBERS = 1 << 15
"""Most members, enumerators or parameters of a type that is looked at; a distribution's kernel has
types of 300. The format lets a count have 24 bits."""
MAX_ENUMERATORS = 1 << 20
"""Most of them in all; a distribution's kernel has some 50,000."""
MAX_STRINGS = 1 << 24
"""Most bytes of names: BTF_MAX_NAME_OFFSET and one."""
MAX_REPEATS = 64
"""How often one string, and what is asked for by name, may be there: encoders merge what is equal
(btf__dedup() of libbpf)."""
MAX_NAME = 2048
"""Longest name, in bytes. The kernel's own limit, KSYM_NAME_LEN, is 512."""


class BtfError(HvoinspectError):
    """The type information is damaged, or of a form that is not understood; `reason` says how.

    It can come late, for records are decoded when they are first used, even from inside drgn.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"the kernel's BTF cannot be used: {reason}",
            "give the kernel's debug symbols instead, with --symbols PATH",
        )


class Kind(IntEnum):
    """Kinds of types: BTF_KIND_*."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19
    OPAQUE = 127
    """A kind this code does not know, stepped over because the blob says how long it is."""


# Words that follow the three of struct btf_type, by kind: so many, and so many for each of vlen.
# The vlen of a FUNC is its linkage, not a count.
_TAILS: dict[int, tuple[int, int]] = {
    Kind.INT: (1, 0),
    Kind.PTR: (0, 0),
    Kind.ARRAY: (3, 0),
    Kind.STRUCT: (0, 3),
    Kind.UNION: (0, 3),
    Kind.ENUM: (0, 2),
    Kind.FWD: (0, 0),
    Kind.TYPEDEF: (0, 0),
    Kind.VOLATILE: (0, 0),
    Kind.CONST: (0, 0),
    Kind.RESTRICT: (0, 0),
    Kind.FUNC: (0, 0),
    Kind.FUNC_PROTO: (0, 2),
    Kind.VAR: (1, 0),
    Kind.DATASEC: (0, 3),
    Kind.FLOAT: (0, 0),
    Kind.DECL_TAG: (1, 0),
    Kind.TYPE_TAG: (0, 0),
    Kind.ENUM64: (0, 3),
}


class Record(NamedTuple):
    """One type, as far as its first three words say."""

    id: int
    kind: Kind
    name: str
    vlen: int
    """How many members, enumerators or parameters follow."""
    flag: bool
    """kind_flag: of a STRUCT or UNION, bit fields are told by their members; of an ENUM, it is
    signed; of a FWD, it is a union."""
    value: int
    """The size in bytes, or the id of the type this one refers to."""
    tail: int
    """Index of the word that follows."""


class RawMember(NamedTuple):
    """A member of a STRUCT or UNION."""

    name: str
    type_id: int
    bit_offset: int
    bit_size: int
    """Width of a bit field; 0 if it is none."""


class Integer(NamedTuple):
    """An INT. `bits` is less than 8 * `size` if it stands for a bit field of the older form."""

    size: int
    bits: int
    bit_offset: int
    signed: bool
    boolean: bool


@dataclass(frozen=True)
class Records:
    """All records of a blob. Types are known by their id, from 1 on; 0 is void."""

    little_endian: bool
    _words: memoryview
    _starts: npt.NDArray[np.int64]
    """For each id the index of its first word; entry 0 stands for void and means nothing."""
    _strings: bytes
    decoded: set[int] = field(default_factory=set)
    """Ids of the types that were decoded: what a capture keeps."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Find the records in `data`, a whole BTF blob of either byte order.

        Raises BtfError if the blob is cut short, inconsistent, beyond the format's own limits or
        of a version or kind that is not known.
        """
        if len(data) < 24:
            raise BtfError(f"it is {len(data)} bytes long, shorter than its header")
        order = {MAGIC.to_bytes(2, "little"): "<", MAGIC.to_bytes(2, "big"): ">"}.get(data[:2])
        if order is None:
            raise BtfError(f"it does not start with the BTF magic but with {data[:2].hex()}")
        version, flags, header, type_at, type_length, string_at, string_length = struct.unpack_from(
            f"{order}BB5I", data, 2
        )
        if version != 1 or flags:
            raise BtfError(f"version {version} with flags {flags:#x} is not known")
        if header < 24 or type_at % 4 or type_length % 4:
            raise BtfError("its header is inconsistent")
        types = _section(data, header + type_at, type_length, "types")
        strings = bytes(_section(data, header + string_at, string_length, "strings"))
        if not 0 < len(strings) <= MAX_STRINGS or strings[0] or strings[-1]:
            raise BtfError("its string section is too large or not closed by NUL bytes")
        words = np.frombuffer(types, f"{order}u4").astype(np.uint32)
        tails = _TAILS | _layout(data, order, header)
        starts = np.asarray(_scan(words.data, tails), np.int64)
        _check_names(words[starts[1:]], strings)
        return cls(order == "<", words.data, starts, strings)

    def __len__(self) -> int:
        """Count the types, void not included."""
        return len(self._starts) - 1

    @cached_property
    def _names(self) -> npt.NDArray[np.uint32]:
        """Offset of each type's name, by id; 0 for void."""
        names = np.asarray(self._words)[self._starts]
        names[0] = 0
        return names

    @cached_property
    def _kinds(self) -> npt.NDArray[np.uint32]:
        """Kind of each type, by id."""
        kinds = (np.asarray(self._words)[self._starts + 1] >> 24) & 0x7F
        kinds[0] = Kind.VOID
        return kinds.astype(np.uint32)

    def record(self, type_id: int) -> Record:
        """Decode the start of type `type_id`. Raises BtfError if there is none, or a huge one."""
        if not 0 < type_id < len(self._starts):
            if type_id == 0:
                return Record(0, Kind.VOID, "", 0, False, 0, 0)
            raise BtfError(f"type {type_id} is referred to, of {len(self)}")
        self.decoded.add(type_id)
        start = int(self._starts[type_id])
        info = self._words[start + 1]
        number = info >> 24 & 0x7F
        kind = Kind(number) if number in _TAILS else Kind.OPAQUE
        if info & 0xFFFFFF > MAX_MEMBERS:
            raise BtfError(f"type {type_id} has more than {MAX_MEMBERS} members")
        return Record(
            type_id,
            kind,
            self._string(self._words[start]),
            info & 0xFFFFFF,
            bool(info >> 31),
            self._words[start + 2],
            start + 3,
        )

    def _string(self, offset: int) -> str:
        """Return the name at `offset`; what is no ASCII becomes a backslash escape."""
        if offset == 0:
            return ""
        return self._strings[offset : self._end(offset)].decode("ascii", "backslashreplace")

    def _end(self, offset: int) -> int:
        """Return where the name at `offset` ends."""
        end = self._strings.find(b"\0", offset, offset + MAX_NAME + 1)
        if end < 0:
            raise BtfError(f"the name at {offset} is too long or outside the string section")
        return end

    def members(self, record: Record) -> Iterator[RawMember]:
        """Yield the members of a STRUCT or UNION in their order."""
        for at in range(record.tail, record.tail + 3 * record.vlen, 3):
            name, type_id, where = self._words[at : at + 3]
            width = 0
            if record.flag:
                where, width = where & 0xFFFFFF, where >> 24
            elif self._is_integer(type_id):
                # Without kind_flag, which 9d5f9f701b18 introduced (btf.rst says why both ways
                # exist), the width of a bit field is in an INT of its own.
                integer = self.integer(self.record(type_id))
                if integer.bits != 8 * integer.size:
                    where, width = where + integer.bit_offset, integer.bits
            yield RawMember(self._string(name), type_id, where, width)

    def _is_integer(self, type_id: int) -> bool:
        return 0 < type_id < len(self._starts) and bool(self._kinds[type_id] == Kind.INT)

    def enumerators(self, record: Record) -> Iterator[tuple[str, int]]:
        """Yield name and value of each enumerator of an ENUM or ENUM64."""
        step = 3 if record.kind == Kind.ENUM64 else 2
        for at in range(record.tail, record.tail + step * record.vlen, step):
            yield self._string(self._words[at]), self._enumerator_value(at, step, record.flag)

    def _enumerator_value(self, at: int, step: int, signed: bool) -> int:
        value = self._words[at + 1] | (self._words[at + 2] << 32 if step == 3 else 0)
        top = 1 << (63 if step == 3 else 31)
        return value - 2 * top if signed and value & top else value

    def parameters(self, record: Record) -> Iterator[tuple[str, int]]:
        """Yield name and type id of each parameter of a FUNC_PROTO; a last ("", 0) means "..."."""
        for at in range(record.tail, record.tail + 2 * record.vlen, 2):
            yield self._string(self._words[at]), self._words[at + 1]

    def element(self, record: Record) -> tuple[int, int]:
        """Return element type id and length of an ARRAY; a flexible one has length 0."""
        return self._words[record.tail], self._words[record.tail + 2]

    def integer(self, record: Record) -> Integer:
        """Decode an INT. Raises BtfError if its parts do not fit together."""
        word = self._words[record.tail]
        encoding, offset, bits = word >> 24 & 0xF, word >> 16 & 0xFF, word & 0xFF
        if not 0 < record.value <= 16 or not 0 < bits <= 8 * record.value - offset:
            raise BtfError(f"integer {record.id} has {record.value} bytes and {bits} bits")
        return Integer(record.value, bits, offset, bool(encoding & 1), bool(encoding & 4))

    def reduced(self, data: bytes) -> bytes:
        """Return `data`, the blob these records are of, with only the decoded types left in it.

        All others keep their id, kind and length and lose name and content; so does every string
        that no type left needs. The blob is as long as before, but packs to a tenth. Raises
        BtfError if a member that nobody looked at has a name that is none.
        """
        order = "<" if self.little_endian else ">"
        header, type_at, type_length, string_at, string_length = struct.unpack_from(
            f"{order}5I", data, 4
        )
        words = np.zeros(len(self._words), np.uint32)
        old = np.asarray(self._words)
        starts = self._starts[1:]
        words[starts + 1] = old[starts + 1]
        strings = bytearray(string_length)
        ends = np.append(self._starts, len(old))
        for type_id in self.decoded:
            low, high = int(ends[type_id]), int(ends[type_id + 1])
            words[low:high] = old[low:high]
            step = _NAMED_TAILS.get(Kind(int(self._kinds[type_id])))
            for at in (low, *(range(low + 3, high, step) if step else ())):
                offset = int(old[at])
                end = self._end(offset)
                strings[offset:end] = self._strings[offset:end]
        result = bytearray(data)
        result[header + type_at : header + type_at + type_length] = words.astype(
            f"{order}u4"
        ).tobytes()
        result[header + string_at : header + string_at + string_length] = strings
        return bytes(result)

    def ids_named(self, name: str, kinds: tuple[Kind, ...]) -> list[int]:
        """Return the ids of all types of that name and one of those kinds, in ascending order.

        Raises BtfError if there are more than MAX_REPEATS.
        """
        found = self._few(np.flatnonzero(self._named(self._names, name)), name)
        return [each for each in found if self._kinds[each] in kinds]

    def enumerators_named(self, name: str) -> list[tuple[int, int]]:
        """Return the type id and value of each enumerator of that name, wherever it is."""
        names, owners, places = self._enumerator_index
        found = []
        for i in self._few(np.flatnonzero(self._named(names, name)), name):
            owner = self.record(int(owners[i]))
            step = 3 if owner.kind == Kind.ENUM64 else 2
            value = self._enumerator_value(int(places[i]), step, owner.flag)
            found.append((owner.id, value))
        return found

    @staticmethod
    def _few(found: npt.NDArray[np.intp], name: str) -> list[int]:
        if len(found) > MAX_REPEATS:
            raise BtfError(f"it has {len(found)} definitions of {name}")
        return [int(each) for each in found]

    def _named(self, names: npt.NDArray[np.uint32], name: str) -> npt.NDArray[np.bool_]:
        """Say which of `names`, offsets of strings, stand for `name`."""
        if not name:
            return np.zeros(len(names), np.bool_)
        try:
            offsets = self._searched.find(name.encode("ascii", "replace"))
        except ValueError as error:
            raise BtfError(str(error)) from error
        if len(offsets) > MAX_REPEATS:
            raise BtfError(f"it has the string {name} more than {MAX_REPEATS} times")
        found = np.zeros(len(names), np.bool_)
        for offset in offsets.astype(np.uint32):  # hardly ever more than one
            found |= names == offset
        return found

    @cached_property
    def _searched(self) -> Strings:
        return Strings(self._strings)

    @cached_property
    def _enumerator_index(
        self,
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Offset of the name, type id and index of the first word of every enumerator."""
        words = np.asarray(self._words)
        owners, places = [], []
        for kind, step in ((Kind.ENUM, 2), (Kind.ENUM64, 3)):
            ids = np.flatnonzero(self._kinds == kind)
            counts = (words[self._starts[ids] + 1] & 0xFFFFFF).astype(np.int64)
            if counts.sum() > MAX_ENUMERATORS:
                raise BtfError(f"it has {counts.sum()} enumerators")
            before = np.cumsum(counts) - counts
            rank = np.arange(counts.sum()) - np.repeat(before, counts)
            owners.append(np.repeat(ids, counts))
            places.append(np.repeat(self._starts[ids] + 3, counts) + step * rank)
        place = np.concatenate(places)
        _check_names(words[place], self._strings)
        return words[place], np.concatenate(owners), place


# Words from one name to the next in the tail of a record that has names there.
_NAMED_TAILS = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.ENUM64: 3,
    Kind.FUNC_PROTO: 2,
}


def _section(data: bytes, start: int, length: int, what: str) -> memoryview:
    if start + length > len(data):
        raise BtfError(f"its {what} end at {start + length}, but it has {len(data)} bytes")
    return memoryview(data)[start : start + length]


def _check_names(offsets: npt.NDArray[np.uint32], strings: bytes) -> None:
    """Raise BtfError unless each offset is 0 or where a string starts.

    The format lets a name be the end of another's string. No known encoder does that; one that did
    would have its names missed by a search for whole strings, so it is refused instead.
    """
    if (offsets >= len(strings)).any():
        raise BtfError("a name lies outside its string section")
    if np.frombuffer(strings, np.uint8)[offsets - (offsets > 0)].any():
        raise BtfError("a name starts within another")


def _layout(data: bytes, order: str, header: int) -> dict[int, tuple[int, int]]:
    """Return the tails of kinds that are newer than this code, where the blob describes them.

    Newer blobs have a longer header and in a section of its own the length of every kind's records
    (struct btf_layout), made for readers that do not know them all.
    """
    tails: dict[int, tuple[int, int]] = {}
    if header < 32 or len(data) < 32:
        return tails
    start, length = struct.unpack_from(f"{order}2I", data, 24)
    section = _section(data, header + start, min(length, 4 * 128), "layout")
    for kind, (once, each, _) in enumerate(
        struct.iter_unpack(f"{order}BBH", section[: len(section) & ~3])
    ):
        if kind > max(_TAILS) and once % 4 == 0 and each % 4 == 0:
            tails[kind] = (once // 4, each // 4)
    return tails


def _scan(words: memoryview, tails: dict[int, tuple[int, int]]) -> array[int]:
    """Return the index of each type's first word, by id.

    The loop has some 120,000 rounds for a distribution's kernel.
    """
    ends = _ends(words, tails).data
    starts = array("q", [0])
    append = starts.append
    at, end = 0, len(words)
    for _ in range(MAX_TYPES + 1):
        if at >= end - 2:
            break
        append(at)
        at = ends[at]
    if not 1 < len(starts) <= MAX_TYPES + 1:
        raise BtfError(f"it has {len(starts) - 1} types or more, of 1 to {MAX_TYPES} there may be")
    if at == _UNKNOWN:
        info = words[starts[-1] + 1]
        raise BtfError(f"type {len(starts) - 1} is of a kind that is not known ({info:#x})")
    if at != end:
        raise BtfError(f"type {len(starts) - 1} is cut short")
    return starts


_UNKNOWN = np.iinfo(np.int32).max


def _ends(words: memoryview, tails: dict[int, tuple[int, int]]) -> npt.NDArray[np.int32]:
    """Return for every word where a type that began there would end; _UNKNOWN if of no known kind.

    Most words begin no type, but all of them are looked at faster than only those that do.
    """
    # Kinds had 4 or 5 bits and vlen 16, between them bits that were zero: f7a6b9eaff3e "bpf: Extend
    # BTF UAPI vlen, kinds to use unused bits" gave them away. So the wide reading is right for all.
    lengths = np.array([tails.get(kind, (_UNKNOWN, 0)) for kind in range(128)])
    ends = np.empty(max(0, len(words) - 2), np.int32)
    for low in range(0, len(ends), 1 << 16):  # small enough for the processor's cache
        info = np.asarray(words[low + 1 : low + 1 + min(1 << 16, len(ends) - low)])
        once, each = lengths[info >> 24 & 0x7F].T
        end = np.arange(low, low + len(info)) + 3 + once + each * (info & 0xFFFFFF)
        ends[low : low + len(info)] = np.minimum(end, _UNKNOWN)
    return ends
