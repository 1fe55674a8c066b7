"""Sums of what a kernel counts on each of its CPUs."""

from __future__ import annotations

import contextlib

import numpy as np
from drgn import FaultError, Program

MAX_CPUS = 1 << 13
"""The largest NR_CPUS that x86-64 can be built with (arch/x86/Kconfig, MAXSMP)."""


def vm_event(prog: Program, name: str) -> int | None:
    """Return how often a VM event has happened, `name` as in enum vm_event_item; None if unknown.

    The sum of `vm_event_states` of all possible CPUs (mm/vmstat.c, `sum_vm_events()`, which leaves
    out those that are offline: their counts are added to another's). Events are only ever counted
    up, so an unchanged sum tells that none has happened in between.
    """
    with contextlib.suppress(LookupError, AttributeError, TypeError, ValueError, FaultError):
        place = prog.symbol("vm_event_states").address + 8 * int(prog.constant(name).value_())
        offsets = prog.symbol("__per_cpu_offset").address
        cpus = min(prog.read_u32(prog.symbol("nr_cpu_ids").address), MAX_CPUS)
        mask = prog.read(prog.symbol("__cpu_possible_mask").address, -(-cpus // 64) * 8)
        possible = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")[:cpus]
        offset = np.frombuffer(prog.read(offsets, 8 * cpus), "<u8")
        counts: list[int] = [
            prog.read_u64((place + int(offset[cpu])) % (1 << 64))
            for cpu in np.flatnonzero(possible).tolist()
        ]
        return sum(counts)
    return None
