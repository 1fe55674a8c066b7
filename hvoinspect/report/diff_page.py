"""What changed between two scans, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.report.diff import Change, Diff, PoolDiff, Side
from hvoinspect.report.diff_findings import RuleDiff
from hvoinspect.report.fitted import print_fitted
from hvoinspect.report.result import FindingJson
from hvoinspect.report.sentence import Sentence
from hvoinspect.report.terminal import Strip, struct_pages
from hvoinspect.report.words import bytes_text, count_text
from hvoinspect.target.layout import VMEMMAP_PAGE

SHOWN_FINDINGS = 5
"""Listed of those that are new, and of those that are gone."""

BYTES = {
    "virtual_bytes": "vmemmap, virtual",
    "frames": "vmemmap, in frames",
    "saved_bytes": "saved",
    "split_cost_bytes": "less split page tables",
    "net_saved_bytes": "saved net",
    "potential_bytes": "could still be saved",
}
PAGES = {
    "total": "struct pages",
    "head": "heads",
    "fake_head": "fake heads",
    "tail": "tails",
    "single": "single",
    "unreadable": "unreadable",
    "offline": "offline",
}
POOL = {"total": "total", "free": "free", "optimized": "optimized", "vmemmap_pages_freed": "freed"}


def show(found: Diff, console: Console) -> None:
    """Print `found` on `console`."""
    print_fitted(console, lambda _: _parts(found))


def _parts(found: Diff) -> Iterator[Sequence[RenderableType]]:
    """Yield the parts of the page, each in one or more forms, the widest first."""
    yield [Sentence(f"before  {_side(found['before'])}", "dim", indent=8)]
    yield [Sentence(f"after   {_side(found['after'])}", "dim", indent=8)]
    yield [Text()]
    yield [Sentence(verdict(found), _mood(found))]
    changed = [pool for pool in found["hugetlb"] if _is_changed(pool)]
    if changed:
        yield [Text()]
        yield [_pools(changed), Group(*map(_pool_sentence, changed))]
    if len(changed) < len(found["hugetlb"]):
        same = len(found["hugetlb"]) - len(changed)
        more = " more" if changed else ""
        yield [Sentence(f"{same}{more} pool{'s are' if same > 1 else ' is'} as before.", "dim")]
    yield [Text()]
    rows = list(_rows(found))
    yield [_numbers(rows), Group(*map(_row_sentence, rows))]
    yield from _pictures(found)
    sentences = [*_findings(found), *(Sentence(f"Note: {note}") for note in found["notes"])]
    if sentences:
        yield [Text()]
    for sentence in sentences:
        yield [sentence]


def _side(side: Side) -> str:
    host, kernel = side["host"]["name"], side["kernel"]
    parts = [] if host is None else [host]
    parts.append(f"Linux {kernel['release']} {kernel['arch']}")
    return ", ".join([*parts, side["taken_at"].replace("T", " "), side["path"]])


def _mood(found: Diff) -> str:
    if found["worse"]:
        return "bold red"
    return "bold yellow" if found["worse_strictly"] or found["less_seen"] else "bold green"


def verdict(found: Diff) -> str:
    """Return one sentence on what changed, and whether anything is worse."""
    parts = [*_who(found), *_encodings(found), _saved(found["vmemmap"]["net_saved_bytes"])]
    new = {
        severity: sum(
            (rule["after"] or 0) - (rule["before"] or 0) if rule["new"] is None else rule["new"]
            for rule in found["findings"]["rules"]
            if rule["severity"] == severity and rule["worse"]
        )
        for severity in ("error", "warning")
    }
    parts += [
        f"{count:,} {severity}{'s' * (count > 1)} more than before"
        for severity, count in new.items()
        if count
    ]
    if not any(new.values()):
        parts.append("nothing is worse" + (" of what was seen" if found["less_seen"] else ""))
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def _who(found: Diff) -> Iterator[str]:
    if found["changed"]["host"]:
        yield "another host"
    if found["changed"]["kernel"]:
        yield "another kernel"
    elif found["same_boot"]:
        yield "the same boot"
    else:
        yield "the same kernel" + (", another boot" if found["same_boot"] is False else "")


def _encodings(found: Diff) -> Iterator[str]:
    old, new = found["before"]["encoding"], found["after"]["encoding"]
    if old["tail"] != new["tail"]:
        yield f"tails: {old['tail'] or 'not known'} -> {new['tail'] or 'not known'}"
    if old["struct_page_bytes"] != new["struct_page_bytes"]:
        sizes = (count_text(side["struct_page_bytes"]) for side in (old, new))
        yield f"struct page: {' -> '.join(sizes)} B"
    if old["hvo"] != new["hvo"]:
        kinds = ((side["hvo"] or "not known").replace("_", " ") for side in (old, new))
        yield f"HVO: {' -> '.join(kinds)}"
    if found["changed"]["hvo"]:
        yield f"HVO was switched {found['changed']['hvo']} for new hugepages"


def _saved(net: Change) -> str:
    if net["change"] is None:
        return "what that saves cannot be compared"
    if net["change"] == 0:
        return "as much is saved"
    more = "more" if net["change"] > 0 else "less"
    return f"{bytes_text(abs(net['change']))} {more} saved net"


def _is_changed(pool: PoolDiff) -> bool:
    counts = pool["counts"].values()
    return pool["state"] != "both" or any(count["change"] != 0 for count in counts)


def _signed(number: int, *, size: bool) -> str:
    text = bytes_text(abs(number)) if size else f"{abs(number):,}"
    return f"{'-' if number < 0 else '+'}{text}"


def _value(count: int | None, *, size: bool) -> str:
    return count_text(None) if count is None else bytes_text(count) if size else f"{count:,}"


def _cell(name: str, count: Change) -> str:
    """Return what a pool has now, and how much more that is."""
    size = name == "vmemmap_pages_freed"
    now, more = (
        None if number is None else number * (VMEMMAP_PAGE if size else 1)
        for number in (count["after"], count["change"])
    )
    return _value(now, size=size) + (f" {_signed(more, size=size)}" if more else "")


def _pools(pools: Sequence[PoolDiff]) -> Table:
    table = Table(
        Column("hugepages"),
        *(Column(name, justify="right") for name in ("node", *POOL.values())),
        Column(""),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for pool in pools:
        table.add_row(
            bytes_text(pool["size_bytes"]),
            str(pool["node"]),
            *(_cell(name, pool["counts"][name]) for name in POOL),
            "" if pool["state"] == "both" else pool["state"],
        )
    return table


def _pool_sentence(pool: PoolDiff) -> Sentence:
    state = "" if pool["state"] == "both" else f" {pool['state']}"
    counts = ", ".join(f"{text} {_cell(name, pool['counts'][name])}" for name, text in POOL.items())
    size = bytes_text(pool["size_bytes"])
    return Sentence(f"Hugepages of {size} on node {pool['node']}{state}: {counts}", indent=2)


Row = tuple[str, str, str, str]


def _rows(found: Diff) -> Iterator[Row]:
    for names, changes, size in (
        (BYTES, found["vmemmap"], True),
        (PAGES, found["pages"], False),
    ):
        for name, text in names.items():
            factor = VMEMMAP_PAGE if name == "frames" else 1
            before, after, more = (
                None if number is None else number * factor
                for number in (
                    changes[name]["before"],
                    changes[name]["after"],
                    changes[name]["change"],
                )
            )
            if before or after:
                change = "" if more == 0 else "?" if more is None else _signed(more, size=size)
                yield text, _value(before, size=size), _value(after, size=size), change


def _numbers(rows: Sequence[Row]) -> Table:
    table = Table(
        Column(""),
        *(Column(name, justify="right") for name in ("before", "after", "change")),
        box=None,
        pad_edge=False,
        padding=(0, 3, 0, 0),
        header_style="dim",
    )
    for row in rows:
        table.add_row(*row)
    return table


def _row_sentence(row: Row) -> Sentence:
    name, before, after, change = row
    return Sentence(f"{name}: {before} -> {after}{f' ({change})' * bool(change)}", indent=2)


def _pictures(found: Diff) -> Iterator[Sequence[RenderableType]]:
    """Yield both vmemmaps, to one scale."""
    before, after = (found[side].get("picture") for side in ("before", "after"))
    if not before or not after or not before["cells"] or not after["cells"]:
        return
    span = max(struct_pages(before), struct_pages(after))
    yield [Text()]
    yield [Strip(before, span, "the vmemmap before", legend=False)]
    yield [Strip(after, span, "and after")]


def _findings(found: Diff) -> Iterator[Sentence]:
    findings = found["findings"]
    for rule in findings["rules"]:
        yield Sentence(_rule_text(rule), "red" if rule["worse"] else "", indent=2)
    for name in ("new", "gone"):
        listed: list[FindingJson] = findings[name]
        for finding in listed[:SHOWN_FINDINGS]:
            yield Sentence(
                f"{name}: {finding['rule']} at pfn {finding['pfn']:#x} ({finding['address']})",
                "yellow" if name == "new" else "dim",
                indent=2,
            )
            yield Sentence(f"  found {finding['found']}", indent=2)
        if len(listed) > SHOWN_FINDINGS:
            yield Sentence(f"... and {len(listed) - SHOWN_FINDINGS:,} more {name}: --json.", "dim")


def _rule_text(rule: RuleDiff) -> str:
    head = f"{rule['severity']}: {rule['rule']}:"
    if rule["before"] is None or rule["after"] is None:
        sides = ("not checked" if n is None else f"{n:,}" for n in (rule["before"], rule["after"]))
        return f"{head} {' -> '.join(sides)}"
    if rule["new"] is None or rule["gone"] is None or rule["still"] is None:
        return f"{head} {rule['before']:,} -> {rule['after']:,}"
    parts = ((rule["new"], "new"), (rule["gone"], "gone"), (rule["still"], "still there"))
    return f"{head} {', '.join(f'{count:,} {word}' for count, word in parts if count)}"
