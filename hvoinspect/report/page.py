"""The explanation of one struct page: its JSON, and the same for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypedDict

from rich.console import Console, RenderableType
from rich.text import Text

from hvoinspect.errors import ExitStatus, printable
from hvoinspect.report.result import KernelJson, SourceJson
from hvoinspect.report.sentence import Sentence
from hvoinspect.report.words import bytes_text
from hvoinspect.target.layout import VMEMMAP_PAGE
from hvoinspect.version import __version__
from hvoinspect.vmemmap.explain import Backing, Explanation, Hugepage
from hvoinspect.vmemmap.pages import PageClass

SCHEMA = "hvoinspect.page/1"
INDENT = 15
CLASSES = {
    PageClass.HEAD: "head",
    PageClass.FAKE_HEAD: "fake_head",
    PageClass.TAIL: "tail",
    PageClass.SINGLE: "single",
}


class RawJson(TypedDict):
    """The words that were read: `page->flags` and the compound word, `field` its name."""

    flags: str
    info: str
    field: str


class ZoneJson(TypedDict):
    """A zone: its node, and its index among the node's zones."""

    node: int
    zone: int


class HugepageJson(TypedDict):
    """A hugetlb page; `vmemmap_frames` are the distinct frames behind its `vmemmap_pages`."""

    pfn: int
    address: str
    size_bytes: int
    order: int
    node: int
    zone: int
    free: bool | None
    optimized: bool | None
    flagged: bool | None
    vmemmap_pages: int
    vmemmap_frames: int | None


class MappingJson(TypedDict):
    """What the struct page is mapped to; `frame` is a pfn.

    `shared_by` is how many vmemmap pages are mapped to the frame, this one included, of the
    `looked_at` ones: those of its hugepage, or those of the same 2 MiB of vmemmap. Where
    `shared_tail_of` names a zone, it is that zone's shared tail frame, and so all optimized
    hugepages of the size in that zone are mapped to it.
    """

    frame: int
    writable: bool
    shared_by: int
    looked_at: int
    large: bool
    shared_tail_of: ZoneJson | None


PageJson = TypedDict(
    "PageJson",
    {
        "schema": str,
        "version": str,
        "source": SourceJson,
        "kernel": KernelJson,
        "given": str | None,
        "pfn": int,
        "address": str,
        "class": str,
        "head_pfn": int | None,
        "order": int | None,
        "raw": RawJson,
        "static_key": int | None,
        "steps": list[str],
        "hugepage": HugepageJson | None,
        "mapping": MappingJson,
        "problem": str | None,
        "missing": str | None,
        "drgn": list[str],
    },
)
"""What `hvoinspect page --json` prints: `class` is a keyword, so this is no class statement."""


def page_json(found: Explanation, given: str | None) -> PageJson:
    """Return an explanation as JSON; `given` says how the address that was given leads to it."""
    kernel, resolved = found.kernel, found.resolved
    return {
        "schema": SCHEMA,
        "version": __version__,
        "source": {
            "kind": kernel.source.kind,
            "path": kernel.source.path,
            "debug_info": list(kernel.source.debug_info),
        },
        "kernel": {
            "release": kernel.identity.release,
            "build_id": kernel.identity.build_id,
            "arch": kernel.identity.arch,
            "page_size": kernel.identity.page_size,
        },
        "given": given,
        "pfn": found.pfn,
        "address": f"{found.address:#x}",
        "class": CLASSES[resolved.kind],
        "head_pfn": resolved.head,
        "order": found.order,
        "raw": {
            "flags": f"{resolved.flags:#x}",
            "info": f"{resolved.info:#x}",
            "field": kernel.page.compound_field,
        },
        "static_key": kernel.hvo.fake_head_key,
        "steps": list(resolved.steps),
        "hugepage": _hugepage(found, found.hugepage) if found.hugepage else None,
        "mapping": _mapping(found.backing),
        "problem": found.problem,
        "missing": found.missing,
        "drgn": drgn_lines(found.pfn, kernel.page.compound_field),
    }


def _hugepage(found: Explanation, hugepage: Hugepage) -> HugepageJson:
    kernel = found.kernel
    return {
        "pfn": hugepage.pfn,
        "address": f"{kernel.page_address(hugepage.pfn):#x}",
        "size_bytes": kernel.identity.page_size << hugepage.order,
        "order": hugepage.order,
        "node": hugepage.zone.node,
        "zone": hugepage.zone.index,
        "free": hugepage.free,
        "optimized": hugepage.optimized,
        "flagged": hugepage.flagged,
        "vmemmap_pages": hugepage.vmemmap_pages,
        "vmemmap_frames": hugepage.frames,
    }


def _mapping(backing: Backing) -> MappingJson:
    zone = backing.tail_of
    return {
        "frame": backing.frame,
        "writable": backing.writable,
        "shared_by": backing.shared_by,
        "looked_at": backing.looked_at,
        "large": backing.large,
        "shared_tail_of": None if zone is None else {"node": zone.node, "zone": zone.index},
    }


def drgn_lines(pfn: int, field: str) -> list[str]:
    """Return code that shows the same in a drgn program `prog` of the kernel."""
    return [
        "from drgn.helpers.linux.mm import *",
        f"page = pfn_to_page(prog, {pfn:#x})",
        "head = compound_head(page)",
        f"print(hex(page), hex(page.{field}), PageHead(page), PageTail(page))",
        "print(hex(head), hex(page_to_pfn(head)), int(compound_order(head)))",
        'print(hex(follow_phys(prog["init_mm"].address_of_(), page)))',
    ]


def to_json(page: PageJson) -> str:
    """Return the explanation as one JSON object, ending in a newline."""
    return json.dumps(page, indent=2) + "\n"


def exit_status(page: PageJson) -> ExitStatus:
    """Return what a command that explained this page exits with."""
    if page["problem"] is not None:
        return ExitStatus.FINDINGS
    return ExitStatus.OK if page["missing"] is None else ExitStatus.PARTIAL


def show(page: PageJson, console: Console) -> None:
    """Print an explanation on `console`."""
    for part in _parts(page):
        console.print(part, highlight=False)


def _parts(page: PageJson) -> Iterator[RenderableType]:
    yield Text(_title(page), style="dim")
    yield Text()
    yield Sentence(summary(page), "bold red" if page["problem"] else "bold")
    if page["given"]:
        yield Sentence(page["given"])
    yield Text()
    for name, value in _facts(page):
        yield Sentence(f"{name:<{INDENT}}{value}", indent=INDENT)
    yield Text()
    yield Sentence(write_sentence(page))
    yield Text()
    yield Text("How compound_head(page) gets to the head on this kernel:", style="dim")
    for number, step in enumerate(page["steps"], 1):
        yield Sentence(f" {number}. {step}", indent=4)
    yield Text()
    yield Text("The same in drgn, where it has the kernel's debug information:", style="dim")
    for line in page["drgn"]:
        yield Text(f"    {line}", no_wrap=True, overflow="ignore")
    if page["problem"]:
        yield Text()
        yield Sentence(f"Not intact: {page['problem']}.", "red")
    if page["missing"]:
        yield Text()
        yield Sentence(f"Partial: {printable(page['missing'])}.", "yellow")


def _title(page: PageJson) -> str:
    source, kernel = page["source"], page["kernel"]
    what = source["path"] or ("/proc/kcore" if source["kind"] == "kcore" else source["kind"])
    facts = ", ".join(source["debug_info"])
    return printable(f"Linux {kernel['release']} {kernel['arch']}, from {what} ({facts})")


def summary(page: PageJson) -> str:
    """Return one sentence on what the struct page is."""
    name, head = f"pfn {page['pfn']:#x}", page["head_pfn"]
    if page["class"] == "single":
        return f"{name} is a single page: part of no compound page."
    if head is None:
        return f"{name} is a tail, but of which page cannot be told."
    index = page["pfn"] - head
    role = {
        "head": "the head",
        "tail": f"tail {index:,}",
        "fake_head": f"a fake head: it reads like a head, but is tail {index:,}",
    }[page["class"]]
    return f"{name} is {role} of {_owner(page)}."


def _owner(page: PageJson) -> str:
    """Return what kind of page the compound page is."""
    hugepage, order = page["hugepage"], page["order"]
    if hugepage is None:
        size = "unknown order" if order is None else f"order {order}"
        return f"a compound page of {size} that is no hugepage of hugetlb"
    words = [
        ("free", "used", hugepage["free"]),
        ("optimized", "not optimized", hugepage["optimized"]),
    ]
    state = ", ".join(yes if known else no for yes, no, known in words if known is not None)
    return f"a hugepage of {bytes_text(hugepage['size_bytes'])}{f' ({state})' if state else ''}"


def _facts(page: PageJson) -> Iterator[tuple[str, str]]:
    raw, hugepage, mapping = page["raw"], page["hugepage"], page["mapping"]
    yield "struct page", page["address"]
    yield "class", page["class"]
    yield "flags", raw["flags"]
    yield raw["field"], raw["info"]
    if page["head_pfn"] is not None:
        yield "head", f"pfn {page['head_pfn']:#x}"
    if hugepage is not None:
        yield "hugepage", _hugepage_text(hugepage)
    elif page["order"] is not None:
        yield "order", str(page["order"])
    unit = "2 MiB or more" if mapping["large"] else "4 KiB"
    how = "writable" if mapping["writable"] else "read-only"
    yield "frame", f"pfn {mapping['frame']:#x}, mapped {how}, {unit} at a time"
    yield "shared with", _sharing(page)


def _hugepage_text(hugepage: HugepageJson) -> str:
    frames, flag = hugepage["vmemmap_frames"], hugepage["flagged"]
    on = {None: "an unknown number of frames", 1: "1 frame"}.get(frames, f"{frames or 0:,} frames")
    text = (
        f"{bytes_text(hugepage['size_bytes'])} (order {hugepage['order']}) at pfn "
        f"{hugepage['pfn']:#x}, node {hugepage['node']}, zone {hugepage['zone']}; "
        f"its {hugepage['vmemmap_pages']:,} vmemmap pages are on {on}"
    )
    if flag is None or flag == hugepage["optimized"] or hugepage["optimized"] is None:
        return text
    return f"{text}, but its flag vmemmap_optimized is {'set' if flag else 'clear'}"


def _sharing(page: PageJson) -> str:
    """Return with whom the frame is shared, and what was looked at to know that."""
    mapping, hugepage = page["mapping"], page["hugepage"]
    others, looked_at = mapping["shared_by"] - 1, mapping["looked_at"] - 1
    where = "of this hugepage" if hugepage else "in the same 2 MiB of vmemmap"
    count = {0: "none of", looked_at: "all"}.get(others, f"{others:,} of")
    text = f"{count} the {looked_at:,} other vmemmap pages {where}"
    zone = mapping["shared_tail_of"]
    if zone is not None:
        size = f" of {bytes_text(hugepage['size_bytes'])}" if hugepage else ""
        text += (
            f", and with the tails of all other optimized hugepages{size} in node {zone['node']}, "
            f"zone {zone['zone']}: it is the shared tail frame of that zone"
        )
    return f"{text} (no others were looked at)"


def write_sentence(page: PageJson) -> str:
    """Return what a write to the struct page does."""
    mapping, hugepage = page["mapping"], page["hugepage"]
    shared = mapping["shared_by"] > 1 or mapping["shared_tail_of"] is not None
    if not mapping["writable"]:
        return "A write here faults: this vmemmap page is mapped read-only" + (
            ", because its frame stands behind others too, and a write would show in all of them."
            if shared
            else "."
        )
    if not shared:
        return "A write here does not fault: this vmemmap page is mapped writable."
    text = (
        f"A write here does not fault, and shows in all {mapping['shared_by']:,} vmemmap pages "
        "that share the frame."
    )
    if hugepage and int(page["address"], 16) - int(hugepage["address"], 16) >= VMEMMAP_PAGE:
        # Measured: see checks.tails_read_only.
        text += (
            " It is meant to be read-only, but kernels from 6.18 to 7.1 protect too few of the "
            "vmemmap pages of a hugepage set up at boot."
        )
    return text
