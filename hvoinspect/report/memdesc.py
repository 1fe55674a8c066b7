"""Whether memdescs could tell tails from heads on a machine: the JSON, and the words for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal, TypedDict

from hvoinspect.errors import ExitStatus
from hvoinspect.report.result import (
    EncodingJson,
    KernelJson,
    SourceJson,
    Taken,
    encoding_json,
    kernel_json,
)
from hvoinspect.report.words import bytes_text
from hvoinspect.target.directory import MAPPED, NOT_KNOWN
from hvoinspect.target.layout import VMEMMAP_PAGE, Kernel
from hvoinspect.version import __version__
from hvoinspect.vmemmap.descriptor_frames import UNPLACED
from hvoinspect.vmemmap.descriptors import OFFLINE
from hvoinspect.vmemmap.memdesc import FALSE_TAILS, MISSED_TAILS, Verdict
from hvoinspect.vmemmap.pages import MAX_MASK_ORDER, Encoding
from hvoinspect.vmemmap.runs import Guard
from hvoinspect.vmemmap.survey import Survey

SCHEMA = "hvoinspect.memdesc/1"
MAX_RUNS = 1000
"""Runs listed, and spans of one; the rest are counted in `runs_omitted` and `spans_omitted`."""

Side = Literal["false_tail", "missed_tail"]

KINDS: dict[Verdict, tuple[str, str]] = {
    Verdict.FREE: (
        "free",
        "free memory that holds what the free memory before it holds",
    ),
    Verdict.GUARD: (
        "run-start-null",
        "the first of a run holds NULL, as the page of zeros in front of it",
    ),
    Verdict.LED_TO: (
        "led-to",
        "no tail, but the page before it is one that leads here: damage",
    ),
    Verdict.UNNAMED: (
        "unnamed",
        "tails of compound pages that are neither folio, slab nor page table",
    ),
    Verdict.RUN_START: (
        "run-start-tail",
        "a tail that is the first of a run: damage",
    ),
    Verdict.ASTRAY: (
        "astray",
        "a tail that leads elsewhere than the page before it: damage",
    ),
}
"""Verdict -> its name, and what it is."""


class RuleJson(TypedDict):
    """Struct pages of which the rule says the truth, or not; `unjudged` are none of them."""

    agree: int
    false_tail: int
    missed_tail: int
    unjudged: int


class ExampleJson(TypedDict):
    """A struct page."""

    pfn: int
    address: str


class DisagreementJson(TypedDict):
    """One kind of struct pages of which the rule does not say the truth."""

    kind: str
    side: Side
    meaning: str
    count: int
    examples: list[ExampleJson]


class SpanJson(TypedDict):
    """A part of a run that backs one zone; unknown are node and zone of offline memory."""

    start: str
    bytes: int
    node: int | None
    zone: str | None
    offline: bool


class RunJson(TypedDict):
    """What is mapped without a gap; `node` and `zone` where all of it is of one.

    Of the page in front: `before_mapped`, whether it is mapped; to which frame, or how many page
    tables that would take first; null says that page tables cannot be read.
    """

    start: str
    bytes: int
    first_pfn: int
    node: int | None
    zone: str | None
    before_mapped: bool | None
    before_frame: int | None
    before_missing_tables: int | None
    spans: list[SpanJson]
    spans_omitted: int


class GuardJson(TypedDict):
    """What a page of zeros in front of each run takes: mappings of it, and page tables.

    `bytes` of page tables; the zeros are one page for all. `unknown`: runs in front of which page
    tables cannot be read.
    """

    zero_pages: int
    pte_tables: int
    pmd_tables: int
    pud_tables: int
    p4d_tables: int
    bytes: int
    unknown: int


class WorstJson(GuardJson):
    """The same where every second memory block is gone. `runs` that are left then."""

    runs: int
    memory_block_bytes: int
    memory_block_known: bool


class NeedsJson(TypedDict):
    """What masks need: the vmemmap as aligned as the struct pages of the largest folio are long."""

    vmemmap: str
    vmemmap_aligned_bytes: int
    largest_hugepage_order: int | None
    largest_hugepage_needs_bytes: int | None
    largest_folio_order: int
    largest_folio_needs_bytes: int
    aligned: bool
    struct_page_power_of_two: bool
    words: list[str]


class MemdescResult(TypedDict):
    """What `hvoinspect memdesc --json` prints.

    `unstable`: struct pages that looked damaged on a live kernel, but not when they were read
    again. `offline`: those of offline memory, which are not read and taken for single.
    """

    schema: str
    version: str
    taken_at: str
    source: SourceJson
    kernel: KernelJson
    encoding: EncodingJson
    model: str
    model_text: str
    rule: RuleJson
    disagreements: list[DisagreementJson]
    offline: int
    unstable: int
    runs: list[RunJson]
    runs_omitted: int
    guard: GuardJson
    worst_case: WorstJson
    needs: NeedsJson
    coverage: float
    elapsed_seconds: float


def memdesc_result(survey: Survey, taken: Taken) -> MemdescResult:
    """Return the result of a survey."""
    kernel, verdicts = survey.kernel, survey.verdicts
    total = sum(verdicts.values())
    listed = min(len(survey.runs.start), MAX_RUNS)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "taken_at": taken.at.isoformat(timespec="seconds"),
        "source": {
            "kind": kernel.source.kind,
            "path": kernel.source.path,
            "debug_info": list(kernel.source.debug_info),
        },
        "kernel": kernel_json(kernel.identity),
        "encoding": encoding_json(
            kernel, Encoding.POINTER in survey.encodings, Encoding.MASK in survey.encodings
        ),
        "model": survey.model.name,
        "model_text": survey.model.text,
        "rule": {
            "agree": verdicts[Verdict.AGREES],
            "false_tail": sum(verdicts[verdict] for verdict in FALSE_TAILS),
            "missed_tail": sum(verdicts[verdict] for verdict in MISSED_TAILS),
            "unjudged": verdicts[Verdict.UNJUDGED],
        },
        "disagreements": [
            {
                "kind": name,
                "side": "false_tail" if verdict in FALSE_TAILS else "missed_tail",
                "meaning": meaning,
                "count": verdicts[verdict],
                "examples": [
                    {"pfn": pfn, "address": f"{kernel.page_address(pfn):#x}"}
                    for pfn in survey.examples[verdict]
                ],
            }
            for verdict, (name, meaning) in KINDS.items()
            if verdicts[verdict]
        ],
        "offline": survey.offline,
        "unstable": survey.unstable,
        "runs": [_run(survey, at) for at in range(listed)],
        "runs_omitted": len(survey.runs.start) - listed,
        "guard": _guard(survey.guard),
        "worst_case": {
            **_guard(survey.worst),
            "runs": survey.worst_runs,
            "memory_block_bytes": survey.block_sections
            * kernel.sections.pages
            * kernel.identity.page_size,
            "memory_block_known": survey.more.block_sections is not None,
        },
        "needs": _needs(survey),
        "coverage": survey.judged / total if total else 0.0,
        "elapsed_seconds": round(taken.seconds, 3),
    }


def to_json(result: MemdescResult) -> str:
    """Return the result as one JSON object, ending in a newline."""
    return json.dumps(result, indent=2) + "\n"


def exit_status(result: MemdescResult) -> ExitStatus:
    """Return what `memdesc` exits with: that the rule is wrong is an answer, not a finding."""
    return ExitStatus.PARTIAL if result["rule"]["unjudged"] else ExitStatus.OK


def _guard(guard: Guard) -> GuardJson:
    tables = guard.pte_tables + guard.pmd_tables + guard.pud_tables + guard.p4d_tables
    return {
        "zero_pages": guard.zero_pages,
        "pte_tables": guard.pte_tables,
        "pmd_tables": guard.pmd_tables,
        "pud_tables": guard.pud_tables,
        "p4d_tables": guard.p4d_tables,
        "bytes": tables * VMEMMAP_PAGE,
        "unknown": guard.unknown,
    }


def _run(survey: Survey, at: int) -> RunJson:
    kernel, runs = survey.kernel, survey.runs
    start = int(runs.start[at])
    first, last = runs.first_span[at : at + 2].tolist()
    missing = int(survey.before.tables[at])
    spans = [_span(survey, span) for span in range(first, min(last, first + MAX_RUNS))]
    places = {(span["node"], span["zone"]) for span in spans}
    node, zone = places.pop() if len(places) == 1 and last - first <= MAX_RUNS else (None, None)
    nodes = {span["node"] for span in spans}
    return {
        "start": f"{start:#x}",
        "bytes": int(runs.bytes[at]),
        "first_pfn": (start - kernel.vmemmap) // kernel.page.size,
        "node": node if len(nodes) != 1 else nodes.pop(),
        "zone": zone,
        "before_mapped": None if missing == NOT_KNOWN else missing == MAPPED,
        "before_frame": int(survey.before.frame[at]) if missing == MAPPED else None,
        "before_missing_tables": missing if missing >= 0 else None,
        "spans": spans,
        "spans_omitted": last - first - len(spans),
    }


def _span(survey: Survey, at: int) -> SpanJson:
    spans, place = survey.runs.spans, int(survey.runs.spans.place[at])
    known = place not in (OFFLINE, UNPLACED)
    zone = place & 0xFF
    return {
        "start": f"{survey.kernel.vmemmap + int(spans.page[at]) * VMEMMAP_PAGE:#x}",
        "bytes": int(spans.pages[at]) * VMEMMAP_PAGE,
        "node": place >> 8 if known else None,
        "zone": survey.more.zones.get(zone, str(zone)) if known else None,
        "offline": place == OFFLINE,
    }


def _needs(survey: Survey) -> NeedsJson:
    kernel = survey.kernel
    size = kernel.page.size
    orders = [hstate.order for hstate in kernel.hstates]
    largest = max(orders) if orders else None
    aligned = kernel.vmemmap & -kernel.vmemmap
    needed = size << MAX_MASK_ORDER
    return {
        "vmemmap": f"{kernel.vmemmap:#x}",
        "vmemmap_aligned_bytes": aligned,
        "largest_hugepage_order": largest,
        "largest_hugepage_needs_bytes": None if largest is None else size << largest,
        "largest_folio_order": MAX_MASK_ORDER,
        "largest_folio_needs_bytes": needed,
        "aligned": aligned >= needed,
        "struct_page_power_of_two": size & (size - 1) == 0,
        "words": [*_encoding_words(survey), _sharing_words(survey), _alignment_words(kernel)],
    }


def _encoding_words(survey: Survey) -> Iterator[str]:
    """Say which encoding this kernel has, and which condition decides it."""
    page, seen = survey.kernel.page, survey.encodings
    if len(seen) > 1:
        yield "Some tails hold masks and some hold pointers: the memory is damaged."
    elif seen:
        yield f"All tails hold {'masks' if Encoding.MASK in seen else 'pointers'}."
    else:
        yield "There are no tails, so only the kernel's types tell their encoding."
    size = f"struct page has {page.size} bytes, "
    power_of_two = page.size & (page.size - 1) == 0
    if page.compound_field == "compound_head":
        yield (
            "The word is compound_head, not compound_info: the kernel is from before masks "
            "(8c846c879e22 and d50569612c29, Linux 7.1), and it is a pointer whatever else holds."
        )
    elif not power_of_two:
        yield (
            f"{size}no power of two: the head cannot be told by a mask, so "
            "compound_info_has_mask() is false and the word is a pointer."
        )
    elif not survey.kernel.hvo.supported:
        yield (
            "HVO is not built in (CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP), so "
            "compound_info_has_mask() is false and the word is a pointer."
        )
    else:
        yield (
            f"HVO is built in and {size}a power of two: compound_info_has_mask() is true "
            "(8c846c879e22, Linux 7.1), and the word is a mask in every compound page."
        )


def _sharing_words(survey: Survey) -> str:
    """Say what HVO would have to do so that tails can hold memdescs."""
    if not survey.kernel.hvo.supported:
        return "Without HVO, each tail has memory of its own to hold a memdesc in."
    if survey.kernel.hvo.has_shared_tails:
        return (
            "HVO lets all optimized hugepages of a size in a zone share one frame of tails "
            "(622026e87c40, Linux 7.1). That frame cannot hold the memdesc of one of them: each "
            "would need a frame of its own again, and its head's will do, as up to Linux 7.0."
        )
    return (
        "HVO lets the tails of a hugepage share its head's frame (e7d324850bfc, Linux 5.18). That "
        "frame can hold the same memdesc 64 times over; what is a fake head today would be told "
        "from the head by the page before it."
    )


def _alignment_words(kernel: Kernel) -> str:
    aligned, size = kernel.vmemmap & -kernel.vmemmap, kernel.page.size
    orders = [("the largest folio there can be", MAX_MASK_ORDER)]
    orders += [("the largest hugepage here", max(h.order for h in kernel.hstates))] * bool(
        kernel.hstates
    )
    needs = ", ".join(
        f"{bytes_text(size << order)} for {what} (order {order})"
        for what, order in reversed(orders)
    )
    enough = "It is." if aligned >= size << MAX_MASK_ORDER else "It is not: sparse_init() warns."
    return (
        f"The vmemmap begins at {kernel.vmemmap:#x}, aligned to {bytes_text(aligned)}. Masks need "
        f"it as aligned as the struct pages of a folio are long: {needs}. {enough}"
    )
