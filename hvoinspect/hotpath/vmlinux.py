"""Reads what DWARF does not tell out of a kernel's ELF file: who it is, its symbols, its code.

System V ABI, "Object Files". Whatever the file says is checked against its size first.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.elfcore import ELF_HEADER, EM_X86_64, SECTION_HEADER
from hvoinspect.target.notes import build_id_of

DEBUG = Path("/usr/lib/debug")
REMEDY = "give a vmlinux of x86-64 with DWARF, as a distribution's debug package has it"

_SHT_PROGBITS, _SHT_SYMTAB, _SHT_NOTE, _SHT_NOBITS = 1, 2, 7, 8
_SHF_EXECINSTR = 4
_STT_FUNC, _STB_LOCAL = 2, 0
_SYMBOL = np.dtype(
    [
        *(("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2")),
        *(("value", "<u8"), ("size", "<u8")),
    ]
)


@dataclass(frozen=True)
class Section:
    """A section header, as far as it is used."""

    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class Function:
    """A function's symbol: its code is from `start` to `end`, which is excluded."""

    name: str
    start: int
    end: int


class Vmlinux:
    """An open vmlinux."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises HvoinspectError if it is no x86-64 kernel's ELF file."""
        self.path = path
        try:
            # A pipe would be waited for until someone writes to it.
            self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or str(error)
            raise HvoinspectError(f"{path} cannot be read: {reason}", REMEDY) from error
        try:
            self._data = mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ)
        except (OSError, ValueError):  # empty, or no file
            os.close(self.descriptor)
            self.refuse("is no ELF file")
        try:
            self._sections = tuple(self._read_sections())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    def __enter__(self) -> Vmlinux:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def build_id(self) -> str:
        """The build-id. Raises HvoinspectError if there is none."""
        notes = (section for section in self._sections if section.kind == _SHT_NOTE)
        ids = (build_id_of(self._bytes(section.offset, section.size)) for section in notes)
        found = next((build_id for build_id in ids if build_id is not None), None)
        if found is None:
            self.refuse("has no build-id")
        return found

    @cached_property
    def stext(self) -> int:
        """The address of `_stext`. Raises HvoinspectError if there is none."""
        return self._must("_stext")

    @cached_property
    def release(self) -> str:
        """What `uname -r` says, out of linux_banner (init/version-timestamp.c).

        Raises HvoinspectError if it is not there.
        """
        text = self._at(self._must("linux_banner"), 512)
        banner = text and re.match(rb"Linux version ([!-~]{1,64}) ", text)
        if not banner:
            self.refuse("is no Linux kernel: its linux_banner names none")
        return banner[1].decode()

    @cached_property
    def static_branches(self) -> dict[int, int]:
        """Where code is patched as static keys are switched, and where each such jump goes.

        struct jump_entry, include/linux/jump_label.h: (s32 code, s32 target, long key), each
        relative to itself. Nothing, if the kernel has no table of them.
        """
        start = self._symbol("__start___jump_table")
        stop = self._symbol("__stop___jump_table")
        if start is None or stop is None or stop <= start:
            return {}
        content = self._at(start, stop - start) or b""
        entries = np.frombuffer(content[: len(content) // 16 * 16], "<i4").reshape(-1, 4)
        at = np.uint64(start) + np.arange(len(entries), dtype=np.uint64) * np.uint64(16)
        code = at + entries[:, 0].astype(np.uint64)
        target = at + np.uint64(4) + entries[:, 1].astype(np.uint64)
        return dict(zip(code.tolist(), target.tolist(), strict=True))

    def function_at(self, address: int) -> Function | None:
        """Return the function whose code `address` is in, None if it is in none.

        Of several names of the same code a global one is returned, if there is one.
        """
        symbols = self._functions
        index = int(np.searchsorted(symbols["value"], np.uint64(address), side="right")) - 1
        if index < 0:
            return None
        start = symbols["value"][index]
        index = int(np.searchsorted(symbols["value"], start, side="left"))
        symbol = symbols[index]
        begin, size = int(symbol["value"]), int(symbol["size"])
        if address >= begin + size:
            return None
        return Function(self._name(int(symbol["name"])), begin, begin + size)

    def code(self, start: int, end: int) -> bytes:
        """Return the code from `start` to `end`. Raises HvoinspectError if there is none."""
        found = self._at(start, end - start, executable=True)
        if found is None or len(found) < end - start:
            self.refuse(f"holds no code at {start:#x}")
        return found

    def refuse(self, why: str) -> NoReturn:
        """Raise HvoinspectError for this file."""
        raise HvoinspectError(f"{self.path} {why}", REMEDY)

    def _read_sections(self) -> Iterator[Section]:
        header = self._bytes(0, min(ELF_HEADER.size, len(self._data)))
        if header[:4] != b"\x7fELF" or len(header) < ELF_HEADER.size:
            self.refuse("is no ELF file")
        # The little-endian ELF64 of x86-64; what else starts like it has other fields.
        _, _, machine, _, _, _, offset, _, _, _, _, size, number, _ = ELF_HEADER.unpack(header)
        if header[4:6] != b"\x02\x01" or machine != EM_X86_64:
            self.refuse("is of another architecture than x86-64")
        if offset == 0 or size != SECTION_HEADER.size:
            self.refuse("has no sections")
        for at in range(offset, offset + number * size, size):
            _, kind, flags, address, start, length, link, *_ = SECTION_HEADER.unpack(
                self._bytes(at, size)
            )
            if kind != _SHT_NOBITS and start + length > len(self._data):
                self.refuse("is damaged or cut off: a section lies beyond its end")
            yield Section(kind, flags, address, start, length, link)

    def _bytes(self, offset: int, size: int) -> bytes:
        if offset + size > len(self._data):
            self.refuse("is damaged or cut off: it ends too early")
        return self._data[offset : offset + size]

    def _at(self, address: int, size: int, *, executable: bool = False) -> bytes | None:
        """Return up to `size` bytes of the section at `address`, None if there is no content."""
        for section in self._sections:
            wanted = not executable or section.flags & _SHF_EXECINSTR
            within = section.address <= address < section.address + section.size
            if section.kind == _SHT_PROGBITS and section.address and wanted and within:
                skip = address - section.address
                return self._bytes(section.offset + skip, min(size, section.size - skip))
        return None

    @cached_property
    def _symtab(self) -> Section:
        tables = [section for section in self._sections if section.kind == _SHT_SYMTAB]
        if not tables or tables[0].link >= len(self._sections):
            self.refuse("has no symbols")
        return tables[0]

    @cached_property
    def _symbols(self) -> NDArray[np.void]:
        table = self._symtab
        content = self._bytes(table.offset, table.size // _SYMBOL.itemsize * _SYMBOL.itemsize)
        return np.frombuffer(content, _SYMBOL)

    @cached_property
    def _strings(self) -> bytes:
        strings = self._sections[self._symtab.link]
        return self._bytes(strings.offset, strings.size)

    @cached_property
    def _functions(self) -> NDArray[np.void]:
        """The symbols of functions by address; of one address, global ones first."""
        symbols = self._symbols
        chosen = symbols[((symbols["info"] & 15) == _STT_FUNC) & (symbols["size"] > 0)]
        order = np.lexsort(((chosen["info"] >> 4) == _STB_LOCAL, chosen["value"]))
        functions: NDArray[np.void] = chosen[order]
        return functions

    def _must(self, name: str) -> int:
        """Return the value of the symbol `name`. Raises HvoinspectError if there is none."""
        found = self._symbol(name)
        if found is None:
            self.refuse(f"is no Linux kernel, or has lost its symbols: there is no {name}")
        return found

    def _symbol(self, name: str) -> int | None:
        """Return the value of the symbol `name`, None if there is none."""
        # A linker may have put a name at the end of a longer one, so that any place may be it.
        wanted = re.escape(name.encode()) + rb"\0"
        places = [match.start() for match in re.finditer(wanted, self._strings)]
        found = self._symbols[np.isin(self._symbols["name"], places)]
        return int(found["value"][0]) if len(found) else None

    def _name(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        return self._strings[offset : end if end >= 0 else None].decode(errors="replace")


def find_vmlinux(
    build_id: str | None,
    release: str,
    debug: Path = DEBUG,
) -> Path:
    """Return the vmlinux of a kernel from where distributions' debug packages put it.

    Only one with that build-id is returned. Raises HvoinspectError if there is none.
    """
    if build_id is None:
        raise HvoinspectError(
            "the running kernel does not tell its build-id in /sys/kernel/notes",
            "name its vmlinux with --vmlinux PATH",
        )
    other = ""
    for path in (
        debug / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug",
        debug / "boot" / f"vmlinux-{release}",
        debug / "lib/modules" / release / "vmlinux",
    ):
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists() raises where a folder is closed
            continue
        try:
            with Vmlinux(path) as kernel:
                if kernel.build_id == build_id:
                    return path
            other = f"; {path} is of another build"
        except HvoinspectError as error:
            other = f"; {error.why}"
    raise HvoinspectError(
        f"no vmlinux with DWARF of {release}, build-id {build_id}, is in {debug}{other}",
        f"install its debug package (Debian: linux-image-{release}-dbg), or give --vmlinux PATH, "
        "or --sites FILE made where it is",
    )
