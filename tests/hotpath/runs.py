"""Made-up runs: whatever `record` could write, and steady workloads with known rates."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from hvoinspect.hotpath.run import Count, Run, run_json
from hvoinspect.jsonfile import MAX_COUNT

NUMBERS = st.floats(0, 1e9, allow_nan=False)
COUNTS = st.integers(0, MAX_COUNT)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _objects(**members: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Objects with some of `members`, and one that a later version might add."""
    return st.fixed_dictionaries({}, optional={**members, "added": ANYTHING})


@st.composite
def _coverages(draw: st.DrawFn) -> dict[str, object]:
    sites = draw(COUNTS)
    return draw(_objects(sites=st.just(sites), attached=st.none() | st.integers(0, sites)))


RUNS = st.builds(
    Run,
    kernel=_objects(release=st.text(min_size=1), build_id=st.none() | st.text(min_size=1)),
    encoding=_objects(tail=st.sampled_from([None, "pointer", "mask"])),
    seconds=NUMBERS,
    mode=st.sampled_from(["sites", "functions", "sample"]),
    coverage=_coverages(),
    counts=st.lists(
        st.builds(Count, function=st.text(min_size=1), helper=st.text(), sites=COUNTS, hits=COUNTS),
        max_size=4,
    ).map(tuple),
    workload=_objects(
        command=st.none() | st.lists(st.text()),
        status=st.none() | st.integers(-64, 255),
        units=st.none() | NUMBERS,
        unit=st.none() | st.text(min_size=1),
    ),
)
"""Runs of any content that the contract allows."""

Rates = Mapping[tuple[str, str], tuple[int, float]]
"""(function, helper) -> its copies, and its hits per unit of work."""


def steady(
    rates: Rates,
    *,
    release: str,
    runs: int,
    seed: int | list[int],
    units: int = 10_000,
    noise: float = 0.0,
    tail: str = "pointer",
    attached: int | None = None,
) -> list[Run]:
    """Runs that do `units` units of work each, about 10 s long, with hits as rare events have them.

    With `noise`, each run and function has a rate of its own, that much (relative) off.
    """
    random = np.random.default_rng(seed)
    sites = sum(copies for copies, _ in rates.values())
    return [
        Run(
            kernel={"release": release, "arch": "x86_64", "page_size": 4096},
            encoding={"tail": tail},
            seconds=round(10 * float(random.lognormal(0, 0.01)), 3),
            mode="sites",
            coverage={"sites": sites, "attached": sites if attached is None else attached},
            counts=tuple(
                Count(
                    function,
                    helper,
                    copies,
                    int(random.poisson(rate * units * random.lognormal(0, noise))),
                )
                for (function, helper), (copies, rate) in rates.items()
            ),
            workload={"command": ["./zap"], "status": 0, "units": units, "unit": "page"},
        )
        for _ in range(runs)
    ]


BEFORE: Rates = {
    ("unmap_page_range", "_compound_head"): (1, 2.0),
    ("free_pages_and_swap_cache", "_compound_head"): (1, 1.0),
    ("release_pages", "_compound_head"): (1, 0.02),
    ("copy_page_range", "_compound_head"): (8, 0.3),
    ("kfree.part.0", "_compound_head"): (1, 0.5),
    ("unmap_page_range", "page_fixed_fake_head"): (1, 2.0),
    ("free_pages_and_swap_cache", "page_fixed_fake_head"): (1, 1.0),
    ("try_get_folio", "page_ref_add_unless"): (2, 0.1),
    ("filemap_get_entry", "page_ref_add_unless"): (1, 0.004),
    ("isolate_migratepages_block", "_compound_head"): (5, 0.0),
}
AFTER: Rates = {
    ("__zap_vma_range", "_compound_head"): (4, 2.0),
    ("free_pages_and_swap_cache", "_compound_head"): (1, 0.7),
    ("release_pages", "_compound_head"): (1, 0.02),
    ("copy_page_range", "_compound_head"): (16, 0.3),
    ("kfree", "_compound_head"): (1, 0.5),
    ("folio_remove_rmap_ptes", "_compound_head"): (2, 0.25),
    ("try_grab_folio_fast", "page_ref_add_unless_zero"): (6, 0.1),
    ("filemap_get_entry", "page_ref_add_unless_zero"): (1, 0.004),
    ("isolate_migratepages_block", "_compound_head"): (6, 0.0),
}
"""Made-up rates of a workload that zaps pages, with what differs between two kernels in them."""

EXAMPLES = Path(__file__).parent / "examples"


def examples() -> dict[Path, str]:
    """The made-up runs of the documentation: three a side."""
    before = steady(BEFORE, release="7.0.9", runs=3, seed=1, noise=0.005)
    after = steady(AFTER, release="7.1.4", runs=3, seed=2, noise=0.005, tail="mask", attached=36)
    return {
        EXAMPLES / side / f"{index}.json": run_json(run)
        for side, runs in (("before", before), ("after", after))
        for index, run in enumerate(runs, 1)
    }


if __name__ == "__main__":  # python -m tests.hotpath.runs writes them
    for path, text in examples().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path, file=sys.stderr)  # noqa: T201
