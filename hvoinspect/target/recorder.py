"""Records what an analysis reads of a kernel, so that it can be repeated from a small file.

A second drgn program stands before the first: its physical memory is a function that reads the
first and keeps what was read, byte for byte. Everything asked of the second, by drgn or by this
project, is so recorded, page tables, types and symbols included; and nothing else is.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from drgn import FaultError, Program

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.target.learn import START_KERNEL_MAP
from hvoinspect.target.memory import PHYSICAL_BITS

IMAGE_BYTES = 1 << 30
"""Most bytes the kernel's image takes (arch/x86/include/asm/page_64_types.h, KERNEL_IMAGE_SIZE)."""


def unwritable(output: Path, error: OSError) -> HvoinspectError:
    """Return the error of a capture that cannot be written."""
    return HvoinspectError(
        f"{output} cannot be written: {error.strerror}",
        "give a path with room that this user may write",
        ExitStatus.USAGE,
    )


class Recorder:
    """Physical memory of a program, kept as it is read.

    What is read goes to an unnamed file beside `output`, not to memory, of which it takes 24 bytes
    a read. A context manager: the file is gone at the end.
    """

    def __init__(self, source: Program, output: Path) -> None:
        self._source = source
        self._output = output
        self._spool = tempfile.TemporaryFile(dir=output.parent)  # noqa: SIM115 - see __exit__
        self._addresses = array("Q")
        self._sizes = array("Q")
        self._offsets = array("Q")
        self._end = 0
        self._next = -1
        self._last: tuple[int, int] | None = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def program(self, vmcoreinfo: bytes, image_at: int) -> Program:
        """Return a program of the same kernel whose every read is recorded.

        `image_at` is the physical address that START_KERNEL_MAP maps. The image has a segment of
        its own: symbols and types lie in it, and a walk of page tables for each of some 100,000
        names would take a minute.
        """
        prog = Program(self._source.platform)
        prog.add_memory_segment(0, 1 << PHYSICAL_BITS, self._read, physical=True)
        prog.set_linux_kernel_custom(vmcoreinfo, False)
        self.map(prog, START_KERNEL_MAP, IMAGE_BYTES, image_at)
        return prog

    def map(self, prog: Program, virtual: int, size: int, physical: int) -> None:
        """Let `prog` read `size` bytes at `virtual` straight from `physical` on."""

        def read(_address: int, count: int, offset: int, _physical: bool) -> bytes:
            return self._read(physical + offset, count, offset, True)

        prog.add_memory_segment(virtual, size, read)

    def keep(self, address: int, data: bytes) -> None:
        """Take `data` for what was read last at physical `address`.

        Raises HvoinspectError, which whoever reads passes on, if there is no room to keep it.
        """
        if address == self._next:  # goes on where the last one ended, as names of symbols do
            self._sizes[-1] += len(data)
        else:
            self._addresses.append(address)
            self._sizes.append(len(data))
            self._offsets.append(self._end)
        self._next = address + len(data)
        try:
            self._spool.write(data)
        except OSError as error:
            raise unwritable(self._output, error) from error
        self._end += len(data)

    def ranges(self) -> Iterator[tuple[int, bytes]]:
        """Return what was read, as (physical address, content): ascending, none overlapping.

        Where something was read more than once the last reading counts.
        """
        self._spool.flush()
        address = np.frombuffer(self._addresses, np.uint64)
        end = address + np.frombuffer(self._sizes, np.uint64)
        order = np.argsort(address, kind="stable")
        if not len(order):
            return
        # A cluster is a chain of reads that overlap; most are of one read, or of equal ones.
        reach = np.maximum.accumulate(end[order])
        starts = np.flatnonzero(address[order][1:] >= reach[:-1]) + 1
        for cluster in np.split(order, starts):
            yield self._painted(np.sort(cluster).tolist())

    def _painted(self, reads: list[int]) -> tuple[int, bytes]:
        """Return the union of some reads, in the order in which they were made."""
        low = min(self._addresses[read] for read in reads)
        high = max(self._addresses[read] + self._sizes[read] for read in reads)
        content = bytearray(high - low)
        for read in reads:
            at = self._addresses[read] - low
            size, offset = self._sizes[read], self._offsets[read]
            content[at : at + size] = os.pread(self._spool.fileno(), size, offset)
        return low, bytes(content)

    def _read(self, address: int, count: int, _offset: int, _physical: bool) -> bytes:
        data: bytes = self._source.read(address, count, physical=True)
        if len(data) != count:
            raise FaultError("short read", address)
        # A walk of page tables reads the same few entries again and again.
        if self._last != (address, count):
            self._last = (address, count)
            self.keep(address, data)
        return data
