"""What `memdesc` tells, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.report.fitted import print_fitted
from hvoinspect.report.memdesc import GuardJson, MemdescResult, RunJson
from hvoinspect.report.sentence import Sentence
from hvoinspect.report.terminal import title_of
from hvoinspect.report.words import bytes_text, percent_text
from hvoinspect.target.layout import VMEMMAP_PAGE

SHOWN_RUNS = 12
TABLES = {"pte_tables": "PTE", "pmd_tables": "PMD", "pud_tables": "PUD", "p4d_tables": "P4D"}


def show(result: MemdescResult, console: Console) -> None:
    """Print `result` on `console`."""
    print_fitted(console, lambda _: _parts(result))


def _parts(result: MemdescResult) -> Iterator[Sequence[RenderableType]]:
    """Yield the parts of the page, each in one or more forms, the widest first."""
    yield [Sentence(title_of(result["source"], result["kernel"]), "dim")]
    yield [Text()]
    agrees = not (result["rule"]["false_tail"] or result["rule"]["missed_tail"])
    yield [Sentence(verdict(result), "bold green" if agrees else "bold yellow")]
    yield [Sentence(f"Model {result['model']}: {result['model_text']}.")]
    if result["disagreements"]:
        yield [Text()]
        yield from _disagreements(result)
    yield [Text()]
    yield [_Strip(result)]
    yield [Text()]
    yield from _runs(result)
    yield [Text()]
    guard = guard_text(result["guard"])
    yield [Sentence(f"A page of zeros in front of each run would take {guard}.")]
    yield [Sentence(_worst_text(result))]
    yield [Text()]
    for words in result["needs"]["words"]:
        yield [Sentence(words, indent=2)]
    for note in _notes(result):
        yield [Sentence(note, "yellow")]


def verdict(result: MemdescResult) -> str:
    """Return in a sentence whether the rule holds."""
    rule = result["rule"]
    judged = rule["agree"] + rule["false_tail"] + rule["missed_tail"]
    if rule["agree"] == judged:
        return (
            f"A page is a tail exactly where its memdesc is that of the page before it: so it is "
            f"for all of {judged:,} struct pages."
        )
    wrong = []
    if rule["false_tail"]:
        wrong.append(f"{rule['false_tail']:,} that are none would be taken for tails")
    if rule["missed_tail"]:
        wrong.append(f"{rule['missed_tail']:,} tails would be missed")
    return (
        "That a page is a tail where its memdesc is that of the page before it is wrong for "
        f"{judged - rule['agree']:,} of {judged:,} struct pages: {' and '.join(wrong)}."
    )


def _disagreements(result: MemdescResult) -> Iterator[Sequence[RenderableType]]:
    table = Table(
        Column("taken for", no_wrap=True),
        Column("struct pages", justify="right", no_wrap=True),
        Column("which"),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for kind in result["disagreements"]:
        side = "tails" if kind["side"] == "false_tail" else "no tails"
        examples = ", ".join(f"{example['pfn']:#x}" for example in kind["examples"][:2])
        which = f"{kind['meaning']} (pfn {examples})" if examples else kind["meaning"]
        table.add_row(side, f"{kind['count']:,}", Sentence(which))
    yield [table]


def _runs(result: MemdescResult) -> Iterator[Sequence[RenderableType]]:
    runs, page_size = result["runs"], result["kernel"]["page_size"]
    names = ("run at", "vmemmap", "memory at", "node", "zones", "in front of it")
    table = Table(
        *(Column(name, no_wrap=True) for name in names),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for run in runs[:SHOWN_RUNS]:
        table.add_row(
            run["start"],
            bytes_text(run["bytes"]),
            bytes_text(run["first_pfn"] * page_size),
            _node_text(run),
            _zones_text(run),
            _before_text(run),
        )
    lines = [
        Sentence(
            f"Run at {run['start']}: {bytes_text(run['bytes'])} of vmemmap, for memory from "
            f"{bytes_text(run['first_pfn'] * 4096)} on, node {_node_text(run)}, "
            f"zones {_zones_text(run)}; in front of it {_before_text(run)}",
            indent=2,
        )
        for run in runs[:SHOWN_RUNS]
    ]
    yield [table, Group(*lines)]
    more = len(runs) - SHOWN_RUNS + result["runs_omitted"]
    if more > 0:
        yield [Sentence(f"... and {more:,} more runs: --json lists {len(runs):,} of all.")]


def _node_text(run: RunJson) -> str:
    nodes = sorted({span["node"] for span in run["spans"] if span["node"] is not None})
    return ",".join(map(str, nodes)) or "-"


def _zones_text(run: RunJson) -> str:
    """Return the zones of a run in their order, offline memory among them."""
    zones = [("offline" if span["offline"] else span["zone"] or "?") for span in run["spans"]]
    return ", ".join(dict.fromkeys(zones))


def _before_text(run: RunJson) -> str:
    if run["before_mapped"] is None:
        return "not known"
    if run["before_mapped"]:
        return f"frame {run['before_frame']:#x}"
    missing = run["before_missing_tables"]
    return f"unmapped ({missing} table{'s' * (missing != 1)})" if missing else "unmapped"


def guard_text(guard: GuardJson) -> str:
    """Return what guards take: "2 mappings of it and 3 page tables (2 PTE, 1 PMD), 12 KiB"."""
    mappings = f"{guard['zero_pages']:,} mapping{'s' * (guard['zero_pages'] != 1)} of it"
    counts = {TABLES[name]: guard[name] for name in TABLES}  # type: ignore[literal-required]
    total = sum(counts.values())
    text = mappings
    if total:
        kinds = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        text += f" and {total:,} page table{'s' * (total != 1)} ({kinds}), "
        text += bytes_text(total * VMEMMAP_PAGE)
    else:
        text += " and no page table"
    if guard["unknown"]:
        text += f"; of {guard['unknown']:,} more the page tables cannot be read"
    return text


def _worst_text(result: MemdescResult) -> str:
    worst = result["worst_case"]
    size = bytes_text(worst["memory_block_bytes"])
    sure = "" if worst["memory_block_known"] else " (a section: the kernel does not tell more)"
    return (
        f"The worst that memory hotplug can make of it, every second memory block of {size}{sure} "
        f"taken away, leaves {worst['runs']:,} run{'s' * (worst['runs'] != 1)}: "
        f"{guard_text(worst)}."
    )


def _notes(result: MemdescResult) -> Iterator[str]:
    rule = result["rule"]
    if result["offline"]:
        yield (
            f"{result['offline']:,} struct pages belong to offline memory: they are not read, and "
            "taken for single."
        )
    if result["unstable"]:
        yield (
            f"{result['unstable']:,} struct pages looked damaged, but not when they were read "
            "again: the kernel was at work on them."
        )
    if rule["unjudged"]:
        yield (
            f"Partial: of {rule['unjudged']:,} struct pages ({percent_text(result['coverage'])} "
            "judged) they, or those before them, cannot be read or lead nowhere."
        )


class _Strip:
    """The vmemmap as one line, from pfn 0 to the last: which node has it, and where runs begin."""

    def __init__(self, result: MemdescResult) -> None:
        self.result = result

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the width at hand: a sign a cell, the runs' beginnings below."""
        runs, base = self.result["runs"], int(self.result["needs"]["vmemmap"], 16)
        end = max((int(run["start"], 16) + run["bytes"] for run in runs), default=base) - base
        width = max(min(options.max_width - 4, 100), 10)
        cells, marks = [" "] * width, [" "] * width

        def cell(offset: int) -> int:
            return min(offset * width // max(end, 1), width - 1)

        for run in runs:
            for span in run["spans"]:
                start = int(span["start"], 16) - base
                sign = _sign(span["node"], offline=span["offline"])
                first, last = cell(start), cell(start + span["bytes"] - 1)
                cells[first : last + 1] = sign * (last + 1 - first)
            marks[cell(int(run["start"], 16) - base)] = "^"
        per_page = self.result["encoding"]["struct_page_bytes"] or 64
        memory = bytes_text(end // per_page * self.result["kernel"]["page_size"])
        count = len(runs) + self.result["runs_omitted"]
        yield Text(
            f"the vmemmap of 0 to {memory} of memory: {count:,} run{'s' * (count != 1)}",
            style="dim",
        )
        left, right = "[]" if options.ascii_only else "▕▏"
        yield Text(f" {left}").append("".join(cells), "cyan").append(right)
        yield Text(f"  {''.join(marks)}".rstrip(), "yellow")
        yield Sentence("digits: the node; o: offline; ?: not known; ^: a run begins", "dim")


def _sign(node: int | None, *, offline: bool) -> str:
    if offline:
        return "o"
    return "?" if node is None else format(node % 16, "x")
