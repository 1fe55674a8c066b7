"""What changed from scan to scan: the lines of `watch`, and the values behind its screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hvoinspect.report.result import PoolJson, ScanResult
from hvoinspect.report.words import bytes_text, count_text

POOL_COLUMNS = ("total", "free", "optimized", "partly")


@dataclass(frozen=True)
class Value:
    """A number of the latest scan, and what was added to it since the one before and the first.

    None where it is not known, or was not.
    """

    now: int | None
    last: int | None
    start: int | None


@dataclass(frozen=True)
class Pool:
    """The hugetlb pages of one size on one node; `counts` as in POOL_COLUMNS."""

    size_bytes: int
    node: int
    counts: tuple[Value, ...]


@dataclass(frozen=True)
class Seen:
    """The scans that a screen or a line tells of: the first, the one before, and the latest."""

    first: ScanResult
    before: ScanResult
    now: ScanResult

    @classmethod
    def after(cls, seen: Seen | None, result: ScanResult) -> Seen:
        """Return what there is to tell of once there is one more `result`."""
        if seen is None:
            return cls(result, result, result)
        return cls(seen.first, seen.now, result)

    def pools(self) -> Iterator[Pool]:
        """Yield all pools that have hugepages in one of the scans, smaller hugepages first."""
        scans = [
            {(pool["size_bytes"], pool["node"]): pool for pool in result["hugetlb"]}
            for result in (self.now, self.before, self.first)
        ]
        for size, node in sorted({key for pools in scans for key in pools}):
            counts = zip(*(_counts(pools.get((size, node))) for pools in scans), strict=True)
            yield Pool(size, node, tuple(_value(*each) for each in counts))

    def sizes(self) -> list[tuple[str, Value]]:
        """Return what is saved, spent and could be saved, in bytes."""
        scans = (self.now["vmemmap"], self.before["vmemmap"], self.first["vmemmap"])
        return [
            ("saved", _value(*(scan["saved_bytes"] for scan in scans))),
            ("less split page tables", _value(*(scan["split_cost_bytes"] for scan in scans))),
            ("saved net", _value(*(scan["net_saved_bytes"] for scan in scans))),
            ("could still be saved", _value(*(scan["potential_bytes"] for scan in scans))),
        ]

    def rules(self) -> list[tuple[str, Value]]:
        """Return the rules that speak or spoke, with the number of findings, errors first."""
        counts = [_rules(result) for result in (self.now, self.before, self.first)]
        names = dict.fromkeys(name for found in counts for name in found)
        return [(name, _value(*(found[name] for found in counts))) for name in names]

    def switched(self) -> Iterator[str]:
        """Yield what is otherwise than it was, beside numbers."""
        for which, then in (("the last scan", self.before), ("the start", self.first)):
            if then["kernel"] != self.now["kernel"]:
                yield f"another kernel than at {which}: that was {then['kernel']['release']}"
            if then["encoding"]["hvo_enabled"] != self.now["encoding"]["hvo_enabled"]:
                yield f"HVO was {hvo_text(then)} at {which}"


def hvo_text(result: ScanResult) -> str:
    """Return whether HVO is on, in a word or two."""
    encoding = result["encoding"]
    if encoding["hvo"] is None:
        return "not known"
    if encoding["hvo"] == "none":
        return "not built in"
    return {True: "on", False: "off", None: "built in"}[encoding["hvo_enabled"]]


def change_text(change: int | None, *, of_bytes: bool = False) -> str:
    """Return what was added, with its sign: "+2", "-1.5 MiB", "0"; a dash if it is not known."""
    if change is None:
        return "-"
    if not change:
        return "0"
    size = bytes_text(abs(change)) if of_bytes else f"{abs(change):,}"
    return f"{'+' if change > 0 else '-'}{size}"


def line_of(seen: Seen) -> str:
    """Return the latest scan as one line: when, HVO, what is saved, pools, findings.

    What changed since the scan before is in parentheses.
    """
    result = seen.now
    named = dict(seen.sizes())
    net, potential = named["saved net"], named["could still be saved"]
    parts = [
        f"{result['taken_at']} HVO {hvo_text(result)}, {_size(net)} saved net"
        f"{_changed(net, of_bytes=True)}, {_size(potential)} more could be",
        *(_pool_text(pool) for pool in seen.pools()),
        _findings_text(seen),
    ]
    fraction = result["coverage"]["fraction"]
    if fraction < 1.0:
        parts.append("partial" if fraction else "the kernel's own view only")
    return "; ".join(parts)


def findings_count(result: ScanResult) -> str:
    """Return how many findings there are: "2 errors, 1 warning", "no findings".

    Where no struct page was read, there was nothing to find.
    """
    count = result["findings_count"]
    parts = [
        f"{number:,} {name}{'s' * (number > 1)}"
        for name, number in (("error", count["error"]), ("warning", count["warning"]))
        if number
    ]
    unseen = not result["coverage"]["struct_pages_read"]
    return ", ".join(parts) or ("nothing was checked" if unseen else "no findings")


def _pool_text(pool: Pool) -> str:
    counts = ", ".join(
        f"{count_text(value.now)} {name}{_changed(value)}"
        for name, value in zip(POOL_COLUMNS, pool.counts, strict=True)
        if name != "partly" or value.now or value.last
    )
    return f"{bytes_text(pool.size_bytes)} node {pool.node}: {counts}"


def _findings_text(seen: Seen) -> str:
    spoken = [f"{name} {value.now}{_changed(value)}" for name, value in seen.rules()]
    count = findings_count(seen.now)
    return f"{count}: {', '.join(spoken)}" if spoken else count


def _size(value: Value) -> str:
    return "-" if value.now is None else bytes_text(value.now)


def _changed(value: Value, *, of_bytes: bool = False) -> str:
    return f" ({change_text(value.last, of_bytes=of_bytes)})" if value.last else ""


def _counts(pool: PoolJson | None) -> Sequence[int | None]:
    if pool is None:
        return (0, 0, 0, 0)
    return (pool["total"], pool["free"], pool["optimized"], pool["partly_optimized"])


def _rules(result: ScanResult) -> Counter[str]:
    found = Counter(finding["rule"] for finding in result["findings"])
    found.update(result["findings_omitted"])
    return found


def _value(now: int | None, before: int | None, first: int | None) -> Value:
    def added(then: int | None) -> int | None:
        return None if now is None or then is None else now - then

    return Value(now, added(before), added(first))
