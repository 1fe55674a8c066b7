"""Several processes look at a machine and come to what one comes to, whatever becomes of them."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from hvoinspect.target.layout import Kernel
from hvoinspect.target.memory import ByRanges
from hvoinspect.vmemmap.jobs import MANY_PAGES, jobs_for, looks
from hvoinspect.vmemmap.part import Part
from hvoinspect.vmemmap.scan import scan
from tests.madeup import SECTION_PAGES, TAILS, Machine, Tail

CHUNKS = (0, 40, 70, 100)
"""Sections in chunks of their own."""


def machine(tail: Tail) -> Machine:
    made = Machine(CHUNKS, tail=tail)
    for section in CHUNKS:
        made.hugetlb(section * SECTION_PAGES)
        made.slab(section * SECTION_PAGES + 1024, 3)
    return made


def _note(steps: list[tuple[int, int]], done: int, total: int) -> None:
    steps.append((done, total))


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("exhaustive", [False, True])
def test_many_processes_come_to_the_same_as_one(tail: Tail, exhaustive: bool) -> None:
    kernel = machine(tail).kernel()
    one = scan(kernel, exhaustive=exhaustive, jobs=1)
    for jobs in (2, 9):
        steps: list[tuple[int, int]] = []
        many = scan(
            kernel, lambda *at, steps=steps: steps.append(at), exhaustive=exhaustive, jobs=jobs
        )
        assert steps == [(done, len(CHUNKS)) for done in range(len(CHUNKS) + 1)]
        assert (many.classes, many.encodings, many.covered) == (
            one.classes,
            one.encodings,
            one.covered,
        )
        assert np.array_equal(many.hugepages.pfn, one.hugepages.pfn)
        assert np.array_equal(many.mappings.frame, one.mappings.frame)
        assert many.findings == one.findings == ()


def test_a_process_that_is_killed_loses_nothing() -> None:
    parent = os.getpid()

    def look(start: int) -> Part:
        if os.getpid() != parent and start == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return cast("Part", start)  # whatever it is, it is only passed on

    assert [*looks(look, [0, 1, 2, 3], 2)] == [(at, cast("Part", at)) for at in range(4)]


class Forkable(ByRanges):
    forkable = True

    def read(self, address: int, size: int) -> bytes:
        raise AssertionError


def test_large_machines_get_several_processes_if_their_memory_can_be_read_in_them() -> None:
    def sized(kernel: Kernel, pages: int) -> Kernel:
        numbers = np.arange(pages // SECTION_PAGES, dtype=np.uint64)
        return replace(kernel, sections=replace(kernel.sections, numbers=numbers))

    kernel = replace(Machine((0,)).kernel(), memory=Forkable())
    cpus = len(os.sched_getaffinity(0))
    assert jobs_for(sized(kernel, MANY_PAGES - SECTION_PAGES)) == 1
    assert jobs_for(sized(kernel, MANY_PAGES)) == min(cpus, 8)
    assert jobs_for(replace(sized(kernel, MANY_PAGES), memory=Machine((0,)))) == 1
