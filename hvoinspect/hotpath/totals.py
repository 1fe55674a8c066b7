"""What the copies of a kernel come to, and what two kernels have of each helper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hvoinspect.hotpath.names import function_key, helper_key
from hvoinspect.hotpath.sitesfile import Copy, Sites


@dataclass(frozen=True)
class Total:
    """Some copies added up. Where one lies in another, as helpers call helpers, both count.

    `in_loops` of the copies may run many times in one call of their function.
    """

    copies: int
    functions: int
    in_loops: int
    bytes: int
    instructions: int

    @property
    def bytes_each(self) -> float:
        """The mean of a copy."""
        return self.bytes / self.copies

    @property
    def instructions_each(self) -> float:
        """The mean of a copy."""
        return self.instructions / self.copies


@dataclass(frozen=True)
class Pair:
    """One helper in two kernels, None where one has no copy of it.

    `names` are those that it has in each, or would have; `helper` is the later one.
    """

    helper: str
    names: tuple[str | None, str | None]
    totals: tuple[Total | None, Total | None]


@dataclass(frozen=True)
class SitesComparison:
    """Two kernels side by side. Functions are compared by the name that they have later.

    `functions` are those with copies on both sides, on the first only and on the second only.
    """

    sides: tuple[Sites, Sites]
    pairs: tuple[Pair, ...]
    functions: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def total_of(copies: Iterable[Copy]) -> Total:
    """Add up `copies`."""
    listed = list(copies)
    return Total(
        copies=len(listed),
        functions=len({copy.function for copy in listed}),
        in_loops=sum(copy.in_loop for copy in listed),
        bytes=sum(copy.bytes for copy in listed),
        instructions=sum(copy.instructions for copy in listed),
    )


def totals_by_helper(sites: Sites) -> dict[str, Total]:
    """Return the total of each helper, that with the most copies first."""
    return _totals(sites.copies, [copy.helper for copy in sites.copies])


def totals_by_function(sites: Sites) -> dict[str, Total]:
    """Return the total of each function, that with the most copies first."""
    return _totals(sites.copies, [copy.function for copy in sites.copies])


def compare_sites(before: Sites, after: Sites) -> SitesComparison:
    """Put two kernels side by side, the helper with the most copies first."""
    sides = (before, after)
    totals = [
        _totals(sites.copies, [helper_key(copy.helper) for copy in sites.copies]) for sites in sides
    ]
    names = [{helper_key(copy.helper): copy.helper for copy in sites.copies} for sites in sides]
    helpers = sorted(
        totals[0].keys() | totals[1].keys(),
        key=lambda helper: (-max(_copies(side.get(helper)) for side in totals), helper),
    )
    functions = [{function_key(copy.function) for copy in sites.copies} for sites in sides]
    return SitesComparison(
        sides=sides,
        pairs=tuple(
            Pair(
                helper,
                (names[0].get(helper), names[1].get(helper)),
                (totals[0].get(helper), totals[1].get(helper)),
            )
            for helper in helpers
        ),
        functions=(
            tuple(sorted(functions[0] & functions[1])),
            tuple(sorted(functions[0] - functions[1])),
            tuple(sorted(functions[1] - functions[0])),
        ),
    )


def _copies(total: Total | None) -> int:
    return 0 if total is None else total.copies


def _totals(copies: Sequence[Copy], keys: Sequence[str]) -> dict[str, Total]:
    groups: dict[str, list[Copy]] = defaultdict(list)
    for copy, key in zip(copies, keys, strict=True):
        groups[key].append(copy)
    ordered = sorted(groups, key=lambda key: (-len(groups[key]), key))
    return {key: total_of(groups[key]) for key in ordered}
