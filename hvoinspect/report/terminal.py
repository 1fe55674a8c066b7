"""A scan's result on a terminal: readable at 80 columns, without colour and down a pipe."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.errors import printable
from hvoinspect.report.result import PictureJson, ScanResult
from hvoinspect.report.words import bytes_text, count_text, verdict
from hvoinspect.target.layout import VMEMMAP_PAGE

SHOWN_FINDINGS = 10


def show(result: ScanResult, console: Console) -> None:
    """Print `result` on `console`."""
    console.print(Group(*_page(result)), highlight=False)


def _page(result: ScanResult) -> Iterator[RenderableType]:
    yield Text(_title(result), style="dim")
    yield Text()
    yield Sentence(verdict(result), _mood(result))
    if result["hugetlb"]:
        yield Text()
        yield _pools(result)
    yield Text()
    yield _numbers(result)
    if "picture" in result and result["picture"]["cells"]:
        yield Text()
        yield Strip(result["picture"])
    yield Text()
    yield from _findings(result)
    for note in result["notes"]:
        yield Sentence(f"Note: {printable(note)}")
    yield from _coverage(result)


def _title(result: ScanResult) -> str:
    source, kernel = result["source"], result["kernel"]
    what = {"kcore": "/proc/kcore", "kpageflags": "the kernel's own view"}.get(
        source["kind"], source["path"] or source["kind"]
    )
    facts = ", ".join(source["debug_info"])
    return printable(
        f"Linux {kernel['release']} {kernel['arch']}, from {what}"
        + (f" ({facts})" if facts else "")
    )


def _mood(result: ScanResult) -> str:
    severities = {finding["severity"] for finding in result["findings"]}
    if "error" in severities:
        return "bold red"
    return "bold yellow" if severities else "bold green"


def _pools(result: ScanResult) -> Table:
    table = Table(
        Column("hugepages"),
        *(
            Column(name, justify="right")
            for name in ("node", "total", "free", "optimized", "vmemmap kept", "freed")
        ),
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for pool in result["hugetlb"]:
        kept, freed = pool["vmemmap_pages_kept"], pool["vmemmap_pages_freed"]
        table.add_row(
            bytes_text(pool["size_bytes"]),
            str(pool["node"]),
            count_text(pool["total"]),
            count_text(pool["free"]),
            count_text(pool["optimized"]),
            _pages_text(kept),
            _pages_text(freed),
        )
    return table


def _numbers(result: ScanResult) -> Table:
    """Struct pages by class on the left, what the vmemmap takes on the right."""
    pages, tails = result["pages"], result["tails"]
    encoding = "mask" if tails["mask"] else "pointer" if tails["pointer"] else None
    left: list[tuple[str, str]] = [
        ("heads", count_text(pages["head"])),
        ("fake heads", count_text(pages["fake_head"])),
        (f"tails ({encoding})" if encoding else "tails", count_text(pages["tail"])),
        ("single", count_text(pages["single"])),
        ("unreadable", count_text(pages["unreadable"])),
        ("total", count_text(pages["total"])),
    ]
    right = _costs(result)
    seen = any(size is not None for _, size in right)
    table = Table(
        Column("struct pages"),
        Column("", justify="right"),
        Column("", width=3),
        Column("vmemmap" if seen else ""),
        Column("", justify="right"),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for (name, count), (what, size) in zip(left, right, strict=True):
        table.add_row(name, count, "", *((what, _bytes(size)) if seen else ("", "")))
    return table


def _costs(result: ScanResult) -> list[tuple[str, int | None]]:
    """Return what the vmemmap takes and what is saved of it, in bytes; None for what is unknown."""
    vmemmap = result["vmemmap"]
    frames = vmemmap["frames"]
    return [
        ("virtual", vmemmap["virtual_bytes"]),
        ("in frames", None if frames is None else frames * VMEMMAP_PAGE),
        ("saved", vmemmap["saved_bytes"]),
        ("less split page tables", vmemmap["split_cost_bytes"]),
        ("saved net", vmemmap["net_saved_bytes"]),
        ("could still be saved", vmemmap["potential_bytes"]),
    ]


def _bytes(count: int | None) -> str:
    return count_text(None) if count is None else bytes_text(count)


def _pages_text(pages: int | None) -> str:
    return count_text(None) if pages is None else bytes_text(pages * VMEMMAP_PAGE)


def _findings(result: ScanResult) -> Iterator[RenderableType]:
    findings = result["findings"]
    if not findings:
        if result["coverage"]["struct_pages_read"]:
            yield Text("No findings.", style="green")
        return
    for finding in findings[:SHOWN_FINDINGS]:
        style = "red" if finding["severity"] == "error" else "yellow"
        yield Text.assemble(
            (f"{finding['severity']}: {finding['rule']}", style),
            f" at pfn {finding['pfn']:#x} ({finding['address']})",
        )
        yield Sentence(f"  expected {printable(finding['expected'])}", indent=11)
        yield Sentence(f"  found    {printable(finding['found'])}", indent=11)
    more = len(findings) - SHOWN_FINDINGS + sum(result["findings_omitted"].values())
    if more > 0:
        yield Text(f"... and {more:,} more findings: --json lists them.")


def _coverage(result: ScanResult) -> Iterator[Sentence]:
    coverage, pages = result["coverage"], result["pages"]
    if pages["offline"]:
        yield Sentence(
            f"{pages['offline']:,} struct pages belong to offline memory: the kernel uses none of "
            "them, so they count as single."
        )
    if coverage["fraction"] < 1.0 and coverage["struct_pages_read"]:
        yield Sentence(
            f"Partial: {coverage['fraction']:.1%} of the struct pages could be read; "
            "the counts above are of those.",
            "yellow",
        )


class Sentence:
    """Text that is wrapped between words but not between a number and its unit.

    All lines but the first are indented by `indent`.
    """

    def __init__(self, text: str, style: str = "", indent: int = 0) -> None:
        self.text = text
        self.style = style
        self.indent = indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the width at hand."""
        tied = re.sub(r"(\d) (?=[KMGT]?i?B\b)", "\\1\N{NO-BREAK SPACE}", self.text)
        for line in textwrap.wrap(
            tied,
            max(options.max_width, self.indent + 20),
            break_on_hyphens=False,
            subsequent_indent=" " * self.indent,
        ):
            yield Text(line.replace("\N{NO-BREAK SPACE}", " "), self.style)


class Strip:
    """The vmemmap as one line, from pfn 0 to the last: what maps each part of it."""

    def __init__(self, picture: PictureJson) -> None:
        self.picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the width at hand: neighbouring cells are put together."""
        cells = self.picture["cells"]
        width = max(min(options.max_width - 4, 100), 10)
        left, right = "[]" if options.ascii_only else "▕▏"
        line = Text(f" {left}")
        for at in range(width):
            low = at * len(cells) // width
            high = max((at + 1) * len(cells) // width, low + 1)
            line.append_text(_sign(cells[low:high], options))
        line.append(right)
        legend = Text("  ")
        for code, (_, _, _, meaning) in SIGNS.items():
            legend.append(" ").append_text(_sign(code, options)).append(f" {meaning}  ")
        end = len(cells) * self.picture["struct_pages_per_cell"] * VMEMMAP_PAGE
        yield Text(f"the vmemmap of 0 to {bytes_text(end)} of memory", style="dim")
        yield line
        yield legend


SIGNS = {
    "o": ("░", ".", "green", "shared frames (HVO)"),
    "L": ("█", "#", "blue", "2 MiB mappings"),
    "s": ("▒", "+", "cyan", "4 KiB mappings, own frames"),
}
"""Code in the picture -> sign, sign in ASCII, style, meaning; the first of a stretch wins."""


def _sign(cells: str, options: ConsoleOptions) -> Text:
    for code, (sign, ascii_sign, style, _) in SIGNS.items():
        if code in cells:
            return Text(ascii_sign if options.ascii_only else sign, style)
    return Text(" ")
