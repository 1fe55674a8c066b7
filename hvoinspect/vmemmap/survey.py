"""The whole question about memdescs: all of a vmemmap looked at, its runs, and their guards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hvoinspect.target.descriptors import DEVICE
from hvoinspect.target.directory import (
    MAPPED,
    Directory,
    Missing,
    missing_tables,
    walk_directory,
)
from hvoinspect.target.layout import VMEMMAP_PAGE, Descriptors, Kernel
from hvoinspect.vmemmap.census import Progress, no_progress
from hvoinspect.vmemmap.chunks import CHUNK_PAGES, chunk_starts, map_chunk
from hvoinspect.vmemmap.descriptor_frames import places_of
from hvoinspect.vmemmap.descriptors import EXAMPLES, Rows, look
from hvoinspect.vmemmap.frames import read_frames
from hvoinspect.vmemmap.jobs import jobs_for, looks
from hvoinspect.vmemmap.look import look_until_still, map_now, map_windows
from hvoinspect.vmemmap.memdesc import DAMAGE, NULL, Cells, Model, Verdict, judge
from hvoinspect.vmemmap.pages import Encoding
from hvoinspect.vmemmap.runs import (
    Guard,
    Runs,
    Spans,
    guard_of,
    missing_after,
    runs_of,
    spans_of,
    worst_split,
)
from hvoinspect.vmemmap.scan import ATTEMPTS, as_of_now

SUBSECTION = 512
"""Struct pages of 2 MiB, the least that ZONE_DEVICE has (include/linux/mmzone.h)."""

CLOSE_LOOKS = 3
"""How often what looks damaged on a live kernel is looked at again."""


@dataclass(frozen=True)
class Survey:
    """What the rule comes to on a kernel, and what its runs need.

    `verdicts`: struct pages of each Verdict, all that are mapped, or whose mapping could not be
    read. `examples`: the pfns of a few of each. `offline`: struct pages of offline sections, taken
    for single; they are not read. `encodings`: of the tails. `unstable`: how many looked damaged on
    a live kernel, but not when they were read again. `before`: what is not there to map the page in
    front of each of `runs`. `block_sections`: sections of a memory block; `worst`: the guard that
    is needed when every second one of them is gone, and `worst_runs` are left.
    """

    kernel: Kernel
    more: Descriptors
    model: Model
    verdicts: Mapping[Verdict, int]
    examples: Mapping[Verdict, tuple[int, ...]]
    offline: int
    unstable: int
    encodings: frozenset[Encoding]
    runs: Runs
    before: Missing
    guard: Guard
    block_sections: int
    worst: Guard
    worst_runs: int

    @property
    def judged(self) -> int:
        """Struct pages that the rule says something of."""
        return sum(self.verdicts.values()) - self.verdicts[Verdict.UNJUDGED]


@dataclass(frozen=True)
class _Piece:
    """What a chunk comes to, but for the verdict on its first struct page.

    `first`, `last`: what they hold, `there` whether there are such struct pages.
    """

    first_pfn: int
    verdicts: NDArray[np.int64]
    examples: Mapping[Verdict, NDArray[np.uint64]]
    offline: int
    unstable: int
    encodings: frozenset[Encoding]
    spans: Spans
    first: Cells
    last: np.uint64
    there: tuple[bool, bool]


def survey(
    kernel: Kernel, model: Model, progress: Progress = no_progress, *, jobs: int | None = None
) -> Survey:
    """Emulate the rule on `kernel` under `model`, reading every struct page, and find the runs.

    `jobs`: in how many processes, as the size of the machine wants if None. On a live kernel what
    looks damaged is read again, and only what still does is counted so. Raises HvoinspectError for
    page tables that no machine has.
    """
    more = kernel.descriptors()
    for _ in range(ATTEMPTS):
        kernel = as_of_now(kernel)
        pieces = list(_pieces(_with_devices(kernel, more), more, model, progress, jobs))
        if as_of_now(kernel) is kernel:
            break
    verdicts = np.sum([piece.verdicts for piece in pieces], axis=0)
    examples: dict[Verdict, list[int]] = {verdict: [] for verdict in Verdict}
    previous: _Piece | None = None
    for piece in pieces:
        for verdict in _verdict_of_first(piece, previous, model):
            verdicts[verdict] += 1
            if verdict > Verdict.AGREES:
                examples[verdict].append(piece.first_pfn)
        for verdict, pfns in piece.examples.items():
            examples[verdict] += pfns.tolist()
        previous = piece

    runs = runs_of([piece.spans for piece in pieces], kernel.vmemmap)
    before = in_front_of(kernel, runs.start)
    blocks = more.block_sections or 1
    start, end = worst_split(kernel, blocks)
    left = missing_after(start, end, kernel.paging.levels)
    # What is before the vmemmap is somebody else's, who has page tables of his own.
    if len(start) and int(start[0]) == kernel.vmemmap:
        left[0] = in_front_of(kernel, start[:1]).tables[0]
    return Survey(
        kernel=kernel,
        more=more,
        model=model,
        verdicts={verdict: int(verdicts[verdict]) for verdict in Verdict},
        examples={verdict: tuple(sorted(pfns)[:EXAMPLES]) for verdict, pfns in examples.items()},
        offline=sum(piece.offline for piece in pieces),
        unstable=sum(piece.unstable for piece in pieces),
        encodings=frozenset[Encoding]().union(*(piece.encodings for piece in pieces)),
        runs=runs,
        before=before,
        guard=guard_of(runs.start, before.tables),
        block_sections=blocks,
        worst=guard_of(start, left),
        worst_runs=len(start),
    )


def in_front_of(kernel: Kernel, start: NDArray[np.uint64]) -> Missing:
    """Tell what is not there to map the page in front of each address of `start`, uint64[n]."""
    return missing_tables(kernel.memory, kernel.paging, start - np.uint64(1))


def _with_devices(kernel: Kernel, more: Descriptors) -> Kernel:
    """Return `kernel` with memory of devices as if online, whose struct pages are as good.

    ZONE_DEVICE is never online, and only a section that has other memory too is marked as having
    some (SECTION_TAINT_ZONE_DEVICE, 1f90a3477df3, 5.12). So the struct pages tell: those of memory
    that was never online are zeros, or poisoned, and all others have the zone they were in.
    """
    device = [index for index, name in more.zones.items() if name == DEVICE]
    sections, size = kernel.sections, kernel.page.size
    offline = np.flatnonzero(~sections.online)
    if not device or not len(offline):
        return kernel
    each = np.arange(sections.pages // SUBSECTION, dtype=np.uint64) * np.uint64(SUBSECTION)
    pfn = (sections.numbers[offline] * np.uint64(sections.pages))[:, None] + each
    address = np.uint64(kernel.vmemmap) + pfn.ravel() * np.uint64(size)
    missing = missing_tables(kernel.memory, kernel.paging, address)
    mapped = np.flatnonzero(missing.tables == MAPPED)
    words, readable = read_frames(kernel.memory, missing.frame[mapped])
    place = places_of(words[:, kernel.page.flags // 8], kernel.page)
    is_device = np.zeros(len(address), np.bool_)
    is_device[mapped] = readable & (place & 0xFF == device[0])
    online = sections.online.copy()
    online[offline] = is_device.reshape(pfn.shape).any(axis=1)
    return replace(kernel, sections=replace(sections, online=online))


def _pieces(
    kernel: Kernel, more: Descriptors, model: Model, progress: Progress, jobs: int | None
) -> Iterator[_Piece]:
    directory = walk_directory(kernel.memory, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    starts = chunk_starts(kernel)
    jobs = jobs_for(kernel) if jobs is None else jobs
    progress(0, len(starts))
    found = looks(partial(_piece, kernel, more, directory, model), starts, jobs)
    for done, (_, piece) in enumerate(found, 1):
        yield piece
        progress(done, len(starts))


def _piece(
    kernel: Kernel, more: Descriptors, directory: Directory, model: Model, first_pfn: int
) -> _Piece:
    """Look at a chunk; on a live kernel while it holds still, and at what looks damaged again."""
    see = partial(look, kernel, more, model, first_pfn)
    whole = (first_pfn, first_pfn + CHUNK_PAGES)
    if kernel.live:
        found = look_until_still(partial(map_now, kernel, whole, whole), see)
    else:
        found = see(map_chunk(kernel, directory, first_pfn))
    rows = found.rows
    verdicts, examples, suspects = _verdicts(rows, model), rows.examples, 0
    if kernel.live and len(at := _damaged(verdicts)):
        suspects = int(verdicts[:, DAMAGE].sum())
        for _ in range(CLOSE_LOOKS):
            windows = [_with_the_one_before(rows, row) for row in at.tolist()]
            again = look_until_still(partial(map_windows, kernel, whole, windows), see).rows
            verdicts[at] = _verdicts(again, model)[at]
            examples = {**rows.examples, **dict.fromkeys(DAMAGE, rows.pfn[:0]), **again.examples}
            at = at[verdicts[at][:, DAMAGE].any(axis=1)]
            if not len(at):
                break
        suspects -= int(verdicts[:, DAMAGE].sum())
    return _Piece(
        first_pfn=first_pfn,
        verdicts=verdicts.sum(axis=0),
        examples=examples,
        offline=found.offline,
        unstable=suspects,
        encodings=found.encodings,
        spans=spans_of(first_pfn * kernel.page.size // VMEMMAP_PAGE, found.mapped, found.place),
        first=Cells(rows.pfn[:1], rows.first[:1], rows.first_tail[:1]),
        last=rows.last[-1],
        there=(bool(rows.there[0]), bool(rows.there[-1])),
    )


def _damaged(verdicts: NDArray[np.int32]) -> NDArray[np.intp]:
    return np.flatnonzero(verdicts[:, DAMAGE].any(axis=1))


def _with_the_one_before(rows: Rows, row: int) -> tuple[int, int]:
    """Return the pfns of a row and the one before it."""
    start = rows.first_pfn + row * rows.per
    return max(start - rows.per, rows.first_pfn), start + rows.per


def _verdicts(rows: Rows, model: Model) -> NDArray[np.int32]:
    """Return how many struct pages of each row get each Verdict, int32[r, 8].

    Of all but the first of the first row, the one before which is not in it.
    """
    verdicts = rows.verdicts.copy()
    at = np.flatnonzero(rows.there[1:]) + 1
    first = Cells(rows.pfn[at], rows.first[at], rows.first_tail[at])
    of_first = judge(first, rows.last[at - 1], ~rows.there[at - 1], model)
    verdicts[at, of_first] += 1
    for value in np.flatnonzero(np.bincount(of_first, minlength=len(Verdict))).tolist():
        if value > Verdict.AGREES:
            known = rows.examples.get(Verdict(value), rows.pfn[:0])
            some = first.own[of_first == value][:EXAMPLES]
            rows.examples[Verdict(value)] = np.sort(np.append(known, some))[:EXAMPLES]
    return verdicts


def _verdict_of_first(piece: _Piece, before: _Piece | None, model: Model) -> Iterator[Verdict]:
    """Yield the verdict on the first struct page of a chunk, if there is one."""
    if not piece.there[0]:
        return
    follows = before is not None and before.first_pfn + CHUNK_PAGES == piece.first_pfn
    last = before.last if before is not None and follows else NULL
    begins = before is None or not (follows and before.there[1])
    verdict = judge(piece.first, np.array([last]), np.array([begins]), model)
    yield Verdict(int(verdict[0]))
