"""What the running kernel's own files tell a recording; `root` is where /proc and /sys are."""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvoinspect.target.denied import no_addresses, no_kallsyms

if TYPE_CHECKING:
    from drgn import Program

_SUFFIX = re.compile(r"\.(isra|constprop|part)\.\d+")
"""What the compiler adds to the name of a function's copy that it changed."""
_BRANCHES = (b"\x0f\x1f\x44\x00\x00", b"\x66\x90", b"\xe9", b"\xeb")
"""What a static branch is on x86: a 5 or 2 byte NOP, or a jump (arch/x86/kernel/jump_label.c)."""
_NOT_CODE = ("__pfx_", "__cfi_")


def read_text(path: Path) -> str | None:
    """Return a file's text without the spaces around it, or None if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


@dataclass(frozen=True)
class Functions:
    """The kernel's own functions, without modules', by address.

    `starts` ascends; `names` are as in /proc/kallsyms. `stext` is the address of `_stext`; `init`
    is where code was that is freed after boot.
    """

    starts: tuple[int, ...]
    names: tuple[str, ...]
    stext: int
    init: range

    def named(self, function: str) -> list[int]:
        """Return where the functions of this name in the source start."""
        return self._by_name.get(function, [])

    def at(self, address: int) -> str | None:
        """Return the name, as in /proc/kallsyms, of the function that an address lies in."""
        place = bisect.bisect_right(self.starts, address) - 1
        return self.names[place] if place >= 0 else None

    def extent(self, start: int) -> int:
        """Return how many bytes lie between a function's start and the next one's."""
        place = bisect.bisect_right(self.starts, start)
        return self.starts[place] - start if place < len(self.starts) else 0

    @functools.cached_property
    def _by_name(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for start, name in zip(self.starts, self.names, strict=True):
            found.setdefault(_SUFFIX.sub("", name), []).append(start)
        return found


def read_functions(root: Path) -> Functions:
    """Read /proc/kallsyms. Raises HvoinspectError if it does not show addresses."""
    path = root / "proc/kallsyms"
    functions, marks = [], {}
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            for kind, address, name in _symbols(file):
                if kind in "tTwW" and not name.startswith(_NOT_CODE):
                    functions.append((address, name))
                if name in ("_stext", "_sinittext", "_einittext"):
                    marks[name] = address
    except OSError as error:
        raise no_kallsyms(path, error) from error
    if not marks.get("_stext"):
        raise no_addresses(path)
    functions.sort()
    return Functions(
        tuple(address for address, _ in functions),
        tuple(name for _, name in functions),
        marks["_stext"],
        range(marks.get("_sinittext", 0), marks.get("_einittext", 0)),
    )


def _symbols(lines: Iterator[str]) -> Iterator[tuple[str, int, str]]:
    for line in lines:
        parts = line.split()
        if len(parts) == 3:  # those of modules have a fourth
            yield parts[1], int(parts[0], 16), parts[2]


def read_code(address: int) -> bytes:
    """Return the first bytes of the instruction at an address, empty if they cannot be read."""
    try:
        code: bytes = _running_kernel().read(address, 5)
    except Exception:  # noqa: BLE001 - drgn raises bare ones; a reason less is no failure
        return b""
    return code


@functools.cache
def _running_kernel() -> Program:
    from drgn import Program  # noqa: PLC0415 - takes long, and is for what cannot be probed

    prog = Program()
    prog.set_kernel()
    return prog


class Forbidden:
    """Says why the kernel does not let an address be probed. `code` is `read_code`, or its like."""

    def __init__(
        self, root: Path, functions: Functions, code: Callable[[int], bytes] = read_code
    ) -> None:
        self._code = code
        self._functions = functions
        self._blacklist = list(_blacklist(root / "sys/kernel/debug/kprobes/blacklist"))
        self._traceable = _traceable(root)

    def why(self, address: int, error: str) -> str:
        """Return the reason, or `error`, which is what the kernel said, if none is known."""
        name = self._functions.at(address)
        if address in self._functions.init:
            return "its code is freed after boot"
        if any(address in span for span in self._blacklist):
            return "the kernel forbids probes there (kprobes/blacklist)"
        if self._traceable and name is not None and name not in self._traceable:
            return "the function is notrace"
        # check_kprobe_address_safe() also refuses what the kernel itself rewrites; the check of a
        # static key is the first instruction of each copy of page_fixed_fake_head().
        if self._code(address).startswith(_BRANCHES):
            return "a static branch is there, which the kernel rewrites"
        return error


def _blacklist(path: Path) -> Iterator[range]:
    for line in (read_text(path) or "").splitlines():
        if match := re.match(r"0x([0-9a-f]{1,16})-0x([0-9a-f]{1,16})\s", line):
            yield range(int(match[1], 16), int(match[2], 16))


def _traceable(root: Path) -> frozenset[str]:
    for folder in tracing_folders(root):
        text = read_text(folder / "available_filter_functions")
        if text:
            return frozenset(line.split()[0] for line in text.splitlines() if line.strip())
    return frozenset()


def tracing_folders(root: Path) -> tuple[Path, ...]:
    """Return where tracefs may be mounted."""
    return (root / "sys/kernel/tracing", root / "sys/kernel/debug/tracing")
