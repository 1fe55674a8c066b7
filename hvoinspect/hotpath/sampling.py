"""Looks where the CPUs are, many times a second: cheap however hot the path is."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath import perf
from hvoinspect.hotpath.backend import Cost, Filter
from hvoinspect.hotpath.probes import BpfProgram, allow_files

HERTZ = 997
"""A prime, so that it does not keep step with what the kernel itself does at a clock's tick."""
MOST_ADDRESSES = 1 << 16
"""Different instructions that can be told apart: enough for hours, as few are hot."""

Clock = Literal["cycles", "cpu-clock"]
_CLOCKS: tuple[tuple[Clock, int, int], ...] = (
    ("cycles", perf.HARDWARE, perf.CPU_CYCLES),
    ("cpu-clock", perf.SOFTWARE, perf.CPU_CLOCK),
)


class Sampler:
    """Samples all CPUs but idle ones. Address 0 stands for all samples, of user space too.

    `clock` is "cycles" where the CPU has a PMU, and otherwise the kernel's own clock, which cannot
    look where interrupts are off and puts such samples to what turns them on again.
    Raises HvoinspectError if neither can be had.
    """

    name = "bcc"

    def __init__(self, only: Filter) -> None:
        self._program = BpfProgram("sample", "PERF_EVENT", MOST_ADDRESSES, only)
        self._events: list[int] = []
        self.clock: Clock = "cycles"

    def attach(self, addresses: Sequence[int]) -> Mapping[int, str]:  # noqa: ARG002
        """Start the clocks; `addresses` do not matter, as all are sampled."""
        self.clock = self._start()
        return {}

    def read(self) -> Mapping[int, int]:
        """Return the samples at each instruction of the kernel, and all of them under 0."""
        return self._program.read()

    def detach(self, addresses: Iterable[int]) -> None:
        """See `backend.Counter`: samples cost the same wherever they are taken."""

    def cost(self) -> Cost | None:
        """See `backend.Counter`."""
        return self._program.cost()

    def missed(self) -> int:
        """See `backend.Counter`."""
        return self._program.missed()

    def close(self) -> None:
        """See `backend.Counter`."""
        while self._events:
            os.close(self._events.pop())
        self._program.close()

    def _start(self) -> Clock:
        cpus = online_cpus()
        allow_files(len(cpus))
        reason = "there is no clock to sample by"
        for name, kind, config in _CLOCKS:
            try:
                for cpu in cpus:
                    self._events.append(
                        perf.attach_clock(kind, config, HERTZ, cpu, self._program.fd)
                    )
            except OSError as error:
                reason = f"{error.strerror} ({errno.errorcode.get(error.errno or 0)})"
                while self._events:
                    os.close(self._events.pop())
            else:
                return name
        raise HvoinspectError(
            f"the kernel cannot be sampled: {reason}", "run it as root, on the host"
        )


def online_cpus() -> list[int]:
    """Return the numbers of the CPUs that are online, as cpulist(7) says them in sysfs."""
    with open("/sys/devices/system/cpu/online", encoding="ascii") as file:  # noqa: PTH123
        parts = [part.split("-") for part in file.read().strip().split(",")]
    return [cpu for part in parts for cpu in range(int(part[0]), int(part[-1]) + 1)]
