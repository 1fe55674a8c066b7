"""Made-up runs: whatever `record` could write, and steady workloads with known rates."""

from __future__ import annotations

from hypothesis import strategies as st

from hvoinspect.hotpath.jsonfile import MAX_COUNT
from hvoinspect.hotpath.run import Count, Run

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
