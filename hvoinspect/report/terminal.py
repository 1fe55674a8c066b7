"""A scan's result on a terminal: readable from 40 columns on, without colour and down a pipe.

What a kernel or a file wrote is escaped, and where the terminal takes ASCII only, all is ASCII.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

from hvoinspect.report.fitted import print_fitted
from hvoinspect.report.result import KernelJson, PictureJson, ScanResult, SourceJson
from hvoinspect.report.sentence import Sentence
from hvoinspect.report.words import bytes_text, count_text, percent_text, verdict
from hvoinspect.target.layout import VMEMMAP_PAGE
from hvoinspect.target.memory import FRAME

SHOWN_FINDINGS = 10
MEANING_COLUMNS = 72
"""From how many columns on a finding's meaning is shown, once a rule."""


def show(result: ScanResult, console: Console) -> None:
    """Print `result` on `console`."""
    print_fitted(console, lambda _: _parts(result))


def _parts(result: ScanResult) -> Iterator[Sequence[RenderableType]]:
    """Yield the parts of the page, each in one or more forms, the widest first."""
    yield [Sentence(title_of(result["source"], result["kernel"]), "dim")]
    yield [Text()]
    yield [Sentence(verdict(result), _mood(result))]
    if result["hugetlb"]:
        yield [Text()]
        yield [_pools(result), Group(*_pool_sentences(result))]
    yield [Text()]
    yield from _numbers(result)
    if "picture" in result and result["picture"]["cells"]:
        yield [Text()]
        yield [Strip(result["picture"])]
    yield [Text()]
    for sentence in (*_findings(result), *_notes(result), *_coverage(result)):
        yield [sentence]


def title_of(source: SourceJson, kernel: KernelJson) -> str:
    """Return which kernel was looked at, and how."""
    path = source["path"] or source["kind"]
    what = {
        "kcore": source["path"] or "/proc/kcore",
        "kpageflags": "the kernel's own view",
        "qemu": f"the guest at {path}",
        "demo": f"the demo {path}",
    }.get(source["kind"], path)
    facts = ", ".join(source["debug_info"])
    title = f"Linux {kernel['release']} {kernel['arch']}, from {what}"
    return f"{title} ({facts})" if facts else title


def _mood(result: ScanResult) -> str:
    count = result["findings_count"]
    if count["error"]:
        return "bold red"
    return "bold yellow" if count["warning"] else "bold green"


def _pools(result: ScanResult) -> Table:
    partly = any(pool["partly_optimized"] for pool in result["hugetlb"])
    names = ("node", "total", "free", "optimized", "partly", "vmemmap kept", "freed")
    table = Table(
        Column("hugepages"),
        *(Column(name, justify="right") for name in names if partly or name != "partly"),
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
            *([count_text(pool["partly_optimized"])] if partly else []),
            _pages_text(kept),
            _pages_text(freed),
        )
    return table


def _pool_sentences(result: ScanResult) -> Iterator[Sentence]:
    """Yield what `_pools` says, for where a table does not fit."""
    for pool in result["hugetlb"]:
        kept, freed = pool["vmemmap_pages_kept"], pool["vmemmap_pages_freed"]
        yield Sentence(
            f"Hugepages of {bytes_text(pool['size_bytes'])} on node {pool['node']}: "
            f"{count_text(pool['total'])} in all, {count_text(pool['free'])} free, "
            f"{count_text(pool['optimized'])} optimized"
            + (f", {pool['partly_optimized']:,} of them partly" if pool["partly_optimized"] else "")
            + f"; vmemmap kept {_pages_text(kept)}, freed {_pages_text(freed)}",
            indent=2,
        )


def _numbers(result: ScanResult) -> Iterator[Sequence[RenderableType]]:
    """Yield struct pages by class on the left, what the vmemmap takes on the right or below."""
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
    pages_table = _list("struct pages", left)
    if all(size is None for _, size in right):
        yield [pages_table]
        return
    vmemmap_table = _list("vmemmap", [(name, _bytes(size)) for name, size in right])
    both = Table.grid(padding=(0, 4, 0, 0))
    both.add_row(pages_table, vmemmap_table)
    yield [both, Group(pages_table, Text(), vmemmap_table)]


def _list(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    table = Table(
        Column(title, overflow="fold"),
        Column("", justify="right", overflow="fold"),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
    )
    for name, value in rows:
        table.add_row(name, value)
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


def _findings(result: ScanResult) -> Iterator[Sentence]:
    findings = result["findings"]
    if not findings and result["coverage"]["struct_pages_read"]:
        yield Sentence("No findings.", "green")
    told: set[str] = set()
    for finding in findings[:SHOWN_FINDINGS]:
        style = "red" if finding["severity"] == "error" else "yellow"
        yield Sentence(
            f"{finding['severity']}: {finding['rule']} "
            f"at pfn {finding['pfn']:#x} ({finding['address']})",
            style,
            indent=2,
        )
        yield Sentence(f"  expected {finding['expected']}", indent=11)
        yield Sentence(f"  found    {finding['found']}", indent=11)
        if finding["meaning"] not in told:
            yield Sentence(f"  meaning  {finding['meaning']}", indent=11, columns=MEANING_COLUMNS)
            told.add(finding["meaning"])
    listed, omitted = len(findings), sum(result["findings_omitted"].values())
    more = listed + omitted - SHOWN_FINDINGS
    if more > 0:
        which = f"the first {listed:,} of all" if omitted else "them"
        yield Sentence(f"... and {more:,} more finding{'s' * (more > 1)}: --json lists {which}.")
    if result["ignored_rules"]:
        yield Sentence(f"Not checked, as asked: {', '.join(result['ignored_rules'])}.")


def _notes(result: ScanResult) -> Iterator[Sentence]:
    for note in result["notes"]:
        yield Sentence(f"Note: {note}")


def _coverage(result: ScanResult) -> Iterator[Sentence]:
    coverage, pages = result["coverage"], result["pages"]
    if pages["offline"]:
        yield Sentence(
            f"{pages['offline']:,} struct pages belong to offline memory: the kernel uses none of "
            "them, so they count as single."
        )
    inferred = coverage["struct_pages_inferred"] - (pages["offline"] or 0)
    if inferred:
        yield Sentence(
            f"{inferred:,} struct pages inferred, not read; --exhaustive reads all.", "dim"
        )
    if coverage["fraction"] < 1.0 and coverage["struct_pages_read"]:
        yield Sentence(
            f"Partial: {percent_text(coverage['fraction'])} of the struct pages could be read; "
            "the counts above are of those.",
            "yellow",
        )


def struct_pages(picture: PictureJson) -> int:
    """Return how many struct pages a picture shows, holes among them."""
    return len(picture["cells"]) * picture["struct_pages_per_cell"]


class Strip:
    """The vmemmap as one line, from pfn 0 to the last: what maps each part of it.

    `span` is how many struct pages the line stands for, if not those of the picture: two pictures
    of one span are to one scale. `title` is what the line above says, if not of what it is.
    """

    def __init__(
        self, picture: PictureJson, span: int | None = None, title: str = "", *, legend: bool = True
    ) -> None:
        self.picture = picture
        self.span = span or struct_pages(picture)
        self.title = title or f"the vmemmap of 0 to {bytes_text(self.span * FRAME)} of memory"
        self.legend = legend

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the width at hand: neighbouring cells are put together."""
        cells, per_cell = self.picture["cells"], self.picture["struct_pages_per_cell"]
        width = max(min(options.max_width - 4, 100), 10)
        left, right = "[]" if options.ascii_only else "▕▏"
        line = Text(f" {left}")
        for at in range(width):
            low = at * self.span // width // per_cell
            high = max((at + 1) * self.span // width // per_cell, low + 1)
            line.append_text(_sign(cells[low:high], options))
        line.append(right)
        yield Text(self.title, style="dim")
        yield line
        if self.legend:
            yield from self._legend(options)

    @staticmethod
    def _legend(options: ConsoleOptions) -> Iterator[Text]:
        """Yield the signs and their meanings, broken only between one and the next."""
        line = Text()
        for code, (_, _, _, meaning) in SIGNS.items():
            item = Text("   ").append_text(_sign(code, options)).append(f" {meaning}")
            if line and line.cell_len + item.cell_len > options.max_width:
                yield line
                line = Text()
            line.append_text(item)
        yield line


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
