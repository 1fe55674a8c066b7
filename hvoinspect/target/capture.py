"""Writes captures: small files that hold just what an analysis reads of a kernel.

A capture is an ELF core, like /proc/vmcore but with byte ranges for segments, compressed as one xz
stream: `xz -dc host.hvo > host.core` makes the core that drgn and other tools open. The stream's
check sum tells a damaged or cut file.
"""

from __future__ import annotations

import contextlib
import lzma
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, cast

from drgn import FaultError, ObjectAbsentError, Program
from drgn.helpers.linux.mm import (
    PageHead,
    PageTail,
    compound_head,
    compound_order,
    follow_phys,
    page_to_pfn,
    pfn_to_page,
)

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.btf import read_btf
from hvoinspect.target.elfcore import Mapping, write_headers
from hvoinspect.target.facts import Facts
from hvoinspect.target.layout import Kernel
from hvoinspect.target.learn import START_KERNEL_MAP, image_physical, learn
from hvoinspect.target.recorder import IMAGE_BYTES, Recorder, unwritable
from hvoinspect.target.symbols import register_all
from hvoinspect.target.vmcoreinfo import vmcoreinfo

PRESET = 1
"""Of xz: what 0 packs, a little faster, takes half as long again to unpack; 2 gains 3 % of room."""
DIRECT_MAP_BYTES = 1 << 46
"""Bytes of the direct map with four levels of page tables, 64 TiB; more memory is read by physical
address (Documentation/arch/x86/x86_64/mm.rst)."""


def write_capture(
    source: Program, output: Path, analyse: Callable[[Kernel], Iterable[int]], *, live: bool
) -> None:
    """Record what `analyse` reads of the kernel that `source` has open, and write it to `output`.

    It returns a few pfns, on which drgn's own helpers are tried, so that what these read is kept.
    The file comes into being whole, readable by its owner only; an existing one is replaced. Takes
    24 bytes of memory a read, and disk for what is read, beside `output`. Raises HvoinspectError.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with Recorder(source, output) as recorder:
            note = source["VMCOREINFO"].string_()
            image = image_physical(source, Facts(source, vmcoreinfo(source), "btf"))
            prog = recorder.program(note, image)
            btf = register_all(prog)
            mappings = (
                Mapping(START_KERNEL_MAP, image, IMAGE_BYTES),
                Mapping(_direct_map(prog), 0, DIRECT_MAP_BYTES),
            )
            recorder.map(prog, mappings[1].virtual, DIRECT_MAP_BYTES, 0)
            kernel = learn(prog, "core", None, ("vmcoreinfo", "btf"), live=live)
            for pfn in analyse(kernel):
                _ask_drgn(prog, pfn)
            types = read_btf(prog)
            place = prog.symbol("__start_BTF").address - START_KERNEL_MAP + image
            recorder.keep(place, btf.records.reduced(types))
            try:
                with open(temporary, "xb", opener=_private) as raw:
                    with lzma.open(raw, "wb", preset=PRESET) as file:
                        _write_core(cast("BinaryIO", file), note, recorder, mappings)
                    raw.flush()
                    os.fsync(raw.fileno())
                temporary.replace(output)
            finally:
                temporary.unlink(missing_ok=True)
    except LookupError as error:
        raise HvoinspectError(
            f"the kernel does not tell what a capture needs: {error}", "is it older than Linux 6.0?"
        ) from error
    except OSError as error:
        raise unwritable(output, error) from error


def _write_core(
    file: BinaryIO, note: bytes, recorder: Recorder, mappings: tuple[Mapping, ...]
) -> None:
    ranges = [(address, len(content)) for address, content in recorder.ranges()]
    write_headers(file, note, ranges, mappings)
    for _, content in recorder.ranges():
        file.write(content)


def _ask_drgn(prog: Program, pfn: int) -> None:
    """Let drgn's helpers read what they need to tell of a page, as far as they know this kernel."""
    with contextlib.suppress(LookupError, FaultError, ObjectAbsentError, ValueError):
        page = pfn_to_page(prog, pfn)
        PageHead(page)
        PageTail(page)
        page_to_pfn(compound_head(page))
        compound_order(page)
        follow_phys(prog["init_mm"].address_of_(), page)


def _direct_map(prog: Program) -> int:
    """Return where the kernel maps all physical memory."""
    try:
        return int(prog["page_offset_base"].value_())
    except (LookupError, FaultError):
        return (
            0xFFFF_8880_0000_0000  # its place without KASLR (Documentation/arch/x86/x86_64/mm.rst)
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
