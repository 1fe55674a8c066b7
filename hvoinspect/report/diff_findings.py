"""Which findings of two scans are new, gone, or still there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypedDict

from hvoinspect.report.result import FindingJson, ScanResult
from hvoinspect.vmemmap.rules import Severity

By = Literal["pfn", "rule"]


class RuleDiff(TypedDict):
    """The findings of one rule and severity, counted, with those that are not listed.

    `before` and `after` are None where the rule was not checked. `new`, `gone` and `still` are None
    where that is not known: a side did not check it, or does not list all. `worse`: the later scan
    has some that the earlier one has not.
    """

    rule: str
    severity: Severity
    before: int | None
    after: int | None
    new: int | None
    gone: int | None
    still: int | None
    worse: bool


class FindingsDiff(TypedDict):
    """All findings of both sides, counted, and those listed of which it is known what they are.

    `by`: findings are the same where rule, severity and pfn are ("pfn"), or are only counted
    ("rule"), since pfns mean nothing across boots: there those are new, or gone, whose rule the
    other side has none of.
    """

    by: By
    rules: list[RuleDiff]
    new: list[FindingJson]
    gone: list[FindingJson]
    still: list[FindingJson]


Kind = tuple[Severity, str]


class _Side:
    """A scan's findings by severity and rule."""

    def __init__(self, scan: ScanResult) -> None:
        self.ignored = scan["ignored_rules"]
        self.checked = is_checked(scan)
        self.listed: dict[Kind, list[FindingJson]] = {}
        for finding in scan["findings"]:
            kind = (finding["severity"], finding["rule"])
            self.listed.setdefault(kind, []).append(finding)
        # Of a rule errors are listed first: what is left out are warnings if any are listed.
        self.omitted: dict[Kind, int] = {}
        for rule, count in scan["findings_omitted"].items():
            severity: Severity = "warning" if ("warning", rule) in self.listed else "error"
            self.omitted[severity, rule] = count

    def count(self, kind: Kind) -> int | None:
        """Return how many there are, None if nobody looked."""
        known = len(self.listed.get(kind, ())) + self.omitted.get(kind, 0)
        looked = self.checked and kind[1] not in self.ignored
        return known if looked or known else None


def is_checked(scan: ScanResult) -> bool:
    """Whether the vmemmap itself was looked at."""
    return scan["source"]["kind"] != "kpageflags"


def compare_findings(before: ScanResult, after: ScanResult, *, by: By) -> FindingsDiff:
    """Compare the findings of two scans."""
    sides = _Side(before), _Side(after)
    found: FindingsDiff = {"by": by, "rules": [], "new": [], "gone": [], "still": []}
    for kind in sorted(_kinds(*sides)):
        old, new = (side.listed.get(kind, []) for side in sides)
        counts = sides[0].count(kind), sides[1].count(kind)
        whole = None not in counts and not any(kind in side.omitted for side in sides)
        row = _row(kind, counts)
        if by == "pfn" and whole:
            was, now = {one["pfn"] for one in old}, {one["pfn"] for one in new}
            parts = (
                [one for one in new if one["pfn"] not in was],
                [one for one in old if one["pfn"] not in now],
                [one for one in new if one["pfn"] in was],
            )
            row["new"], row["gone"], row["still"] = (len(part) for part in parts)
            row["worse"] = bool(parts[0])
        else:
            parts = (new if counts[0] == 0 else [], old if counts[1] == 0 else [], [])
            if by == "pfn" and 0 not in counts:
                row["new"] = row["gone"] = row["still"] = None
        found["rules"].append(row)
        for name, part in zip(("new", "gone", "still"), parts, strict=True):
            found[name].extend(part)  # type: ignore[literal-required]
    return found


def _kinds(*sides: _Side) -> Iterator[Kind]:
    yield from {kind for side in sides for kind in (*side.listed, *side.omitted)}


def _row(kind: Kind, counts: tuple[int | None, int | None]) -> RuleDiff:
    """Return a rule's counts, by how many there are alone."""
    before, after = counts
    known = before is not None and after is not None
    return {
        "rule": kind[1],
        "severity": kind[0],
        "before": before,
        "after": after,
        "new": max((after or 0) - (before or 0), 0) if known else None,
        "gone": max((before or 0) - (after or 0), 0) if known else None,
        "still": min(after or 0, before or 0) if known else None,
        "worse": (after or 0) > (before or 0),
    }
