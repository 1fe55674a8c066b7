"""What a result comes to, in words: the verdict, and numbers as people write them."""

from __future__ import annotations

import math

from hvoinspect.report.result import PoolJson, ScanResult

ENCODINGS = {
    "fake_heads": "tails share their head's frame (fake heads, up to Linux 7.0)",
    "shared_tail": "tails share one read-only frame per zone (7.1+ encoding)",
}


def bytes_text(count: int) -> str:
    """Return a number of bytes in the largest binary unit that leaves at least one: "27.9 MiB".

    Whole numbers of a unit are shown without a fraction: "2 MiB". Others are rounded to a tenth.
    """
    size = float(abs(count))
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if round(size, 1) < 1024 or unit == "TiB":
            break
        size /= 1024
    text = f"{size:.0f}" if size == int(size) else f"{size:.1f}"
    return f"{'-' if count < 0 else ''}{text} {unit}"


def count_text(count: int | None) -> str:
    """Return a count with thousands separated, or a dash where it is not known."""
    return "-" if count is None else f"{count:,}"


def percent_text(fraction: float) -> str:
    """Return a fraction from 0 to 1 as percents, rounded down: only the whole is "100.0%"."""
    return f"{math.floor(fraction * 1000) / 10:.1f}%"


def verdict(result: ScanResult) -> str:
    """Return one sentence on whether HVO is on, does what it should, and what it saves."""
    parts = [_state(result)]
    if result["vmemmap"]["saved_bytes"] is None:
        parts.append("what it really saves cannot be seen from here")
        return "; ".join(parts) + "."
    parts += [_optimized(pools) for pools in _by_size(result["hugetlb"])]
    if not result["hugetlb"]:
        parts.append("there are no hugetlb pages")
    net, potential = result["vmemmap"]["net_saved_bytes"], result["vmemmap"]["potential_bytes"]
    if result["vmemmap"]["saved_bytes"] and net is not None:
        parts.append(
            f"{bytes_text(net)} saved net"
            if net >= 0
            else f"split page tables cost {bytes_text(-net)} more than is saved"
        )
    if potential:
        parts.append(f"{bytes_text(potential)} more could be")
    errors = result["findings_count"]["error"]
    if errors:
        found = f"{errors:,} error{'s' if errors > 1 else ''} found"
        parts.append(f"the vmemmap is not intact: {found}")
    return "; ".join(parts) + "."


def _state(result: ScanResult) -> str:
    encoding = result["encoding"]
    if encoding["hvo"] is None:
        return "Whether this kernel has HVO is not known"
    if encoding["hvo"] == "none":
        return "This kernel is built without HVO"
    how = ENCODINGS[encoding["hvo"]]
    state = {True: "HVO is on", False: "HVO is off", None: "HVO is built in"}[
        encoding["hvo_enabled"]
    ]
    if encoding["hvo_enabled"] is False:
        optimized = any(pool["optimized"] for pool in result["hugetlb"])
        return f"{state} for new hugepages, but was on; {how}" if optimized else state
    return f"{state}; {how}"


def _by_size(pools: list[PoolJson]) -> list[list[PoolJson]]:
    sizes = sorted({pool["size_bytes"] for pool in pools})
    return [[pool for pool in pools if pool["size_bytes"] == size] for size in sizes]


def _optimized(pools: list[PoolJson]) -> str:
    total = sum(pool["total"] for pool in pools)
    optimized = sum(pool["optimized"] or 0 for pool in pools)
    return f"{optimized:,} of {total:,} {bytes_text(pools[0]['size_bytes'])} pages optimized"
