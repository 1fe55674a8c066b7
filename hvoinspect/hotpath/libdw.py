"""A thin, typed wrapper of libdw, which reads DWARF: elfutils, libdw.h.

Only what finds the inlined copies of functions. libdw does it in a second for a kernel, where
readers written in Python take minutes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from hvoinspect.errors import HvoinspectError

LIBRARY = "libdw.so.1"
_DWARF_C_READ = 0
_OK, _ABORT = 0, 1
_MAX_RANGES = 10_000


class Die(ctypes.Structure):
    """A debugging information entry. Valid until the `Dwarf` it came from is closed."""

    _fields_ = (
        ("addr", ctypes.c_void_p),
        ("cu", ctypes.c_void_p),
        ("abbrev", ctypes.c_void_p),
        ("padding__", ctypes.c_long),
    )


_DIE = ctypes.POINTER(Die)
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, _DIE, ctypes.c_void_p)
_OFFSET, _ADDRESS, _SIZE = ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "dwarf_begin": (ctypes.c_void_p, [ctypes.c_int, ctypes.c_int]),
    "dwarf_end": (ctypes.c_int, [ctypes.c_void_p]),
    "dwarf_errmsg": (ctypes.c_char_p, [ctypes.c_int]),
    "dwarf_nextcu": (
        ctypes.c_int,
        [
            *(ctypes.c_void_p, _OFFSET, ctypes.POINTER(_OFFSET), ctypes.POINTER(_SIZE)),
            *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
        ],
    ),
    "dwarf_offdie": (ctypes.c_void_p, [ctypes.c_void_p, _OFFSET, _DIE]),
    "dwarf_getfuncs": (ctypes.c_ssize_t, [_DIE, _CALLBACK, ctypes.c_void_p, ctypes.c_ssize_t]),
    "dwarf_func_inline": (ctypes.c_int, [_DIE]),
    "dwarf_func_inline_instances": (ctypes.c_int, [_DIE, _CALLBACK, ctypes.c_void_p]),
    "dwarf_diename": (ctypes.c_char_p, [_DIE]),
    "dwarf_entrypc": (ctypes.c_int, [_DIE, ctypes.POINTER(_ADDRESS)]),
    "dwarf_ranges": (
        ctypes.c_ssize_t,
        [_DIE, ctypes.c_ssize_t, *(ctypes.POINTER(_ADDRESS),) * 3],
    ),
}


class Dwarf:
    """The DWARF of an open ELF file; a context manager, since its memory is libdw's.

    What it holds was written by others: damage raises HvoinspectError with `remedy`.
    """

    def __init__(self, descriptor: int, what: str, remedy: str) -> None:
        """Open it. Raises HvoinspectError if libdw is missing, or if there is no DWARF."""
        self._what, self._remedy = what, remedy
        self._library = _load()
        self._dwarf: int | None = self._library.dwarf_begin(descriptor, _DWARF_C_READ)
        if self._dwarf is None:
            raise self._damaged("has no debug data (DWARF)")

    def __enter__(self) -> Dwarf:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._library.dwarf_end(self._dwarf)
        self._dwarf = None

    def units(self) -> Iterator[Die]:
        """Yield each compilation unit. Raises HvoinspectError."""
        offset, following, header = 0, _OFFSET(), _SIZE()
        while True:
            found = self._library.dwarf_nextcu(
                self._dwarf, offset, following, header, None, None, None
            )
            if found < 0 or (found == 0 and following.value <= offset):
                raise self._damaged("has damaged debug data")
            if found > 0:
                return
            unit = Die()
            if not self._library.dwarf_offdie(self._dwarf, offset + header.value, unit):
                raise self._damaged("has damaged debug data")
            yield unit
            offset = following.value

    def functions(self, unit: Die, names: frozenset[bytes]) -> list[tuple[bytes, Die]]:
        """Return the functions of a unit that have one of `names`, abstract ones among them.

        A function that was inlined has an abstract entry, and one more if it has a body, too.
        """
        found = []
        name_of = self._library.dwarf_diename

        def see(die: Any) -> None:
            name = name_of(die)
            if name in names:
                found.append((name, Die.from_buffer_copy(die.contents)))

        self._visit(self._library.dwarf_getfuncs, see, unit, 0)
        return found

    def is_inlined(self, function: Die) -> bool:
        """Whether `function` is an abstract entry that copies refer to."""
        return bool(self._library.dwarf_func_inline(function) > 0)

    def copies(self, function: Die) -> list[Die]:
        """Return the inlined copies of an abstract entry; all are in its unit."""
        found: list[Die] = []

        def see(die: Any) -> None:
            found.append(Die.from_buffer_copy(die.contents))

        self._visit(self._library.dwarf_func_inline_instances, see, function)
        return found

    def ranges(self, die: Die) -> list[tuple[int, int]]:
        """Return the code of `die` as (start, end), sorted, without empty pieces.

        Nothing, if it has no code. Raises HvoinspectError.
        """
        base, start, end = _ADDRESS(), _ADDRESS(), _ADDRESS()
        found: list[tuple[int, int]] = []
        state = 0
        for _ in range(_MAX_RANGES):
            state = self._library.dwarf_ranges(die, state, base, start, end)
            if state < 0:
                break
            if state == 0:
                return sorted(found)
            if start.value < end.value:
                found.append((start.value, end.value))
        raise self._damaged("has damaged debug data")

    def entry(self, die: Die) -> int | None:
        """Return where the code of `die` is entered, None if DWARF does not say."""
        address = _ADDRESS()
        return address.value if self._library.dwarf_entrypc(die, address) == 0 else None

    def _visit(self, visit: Any, see: Callable[[Any], None], die: Die, *more: int) -> None:
        """Call `see` for each entry that libdw visits.

        What Python raises in there, Ctrl-C among it, would be printed and lost in C.
        """
        raised: list[BaseException] = []

        def callback(die: Any, _argument: Any) -> int:
            try:
                see(die)
            except BaseException as error:  # noqa: BLE001 - raised again below
                raised.append(error)
                return _ABORT
            return _OK

        result = visit(die, _CALLBACK(callback), None, *more)
        if raised:
            raise raised[0]
        if result < 0:
            raise self._damaged("has damaged debug data")

    def _damaged(self, why: str) -> HvoinspectError:
        message = self._library.dwarf_errmsg(-1) or b""
        return HvoinspectError(
            f"{self._what} {why}: {message.decode(errors='replace')}", self._remedy
        )


def _load() -> ctypes.CDLL:
    """Return libdw, its functions typed. Raises HvoinspectError if it is missing."""
    try:
        library = ctypes.CDLL(LIBRARY)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise HvoinspectError(
            f"libdw, which reads debug data, cannot be loaded: {error}",
            "install elfutils' libdw (Debian and Ubuntu: apt install libdw1), or take a sites "
            "file from where it is",
        ) from error
    return library
