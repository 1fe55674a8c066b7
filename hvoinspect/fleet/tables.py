"""The tables that questions are asked of: their columns, and a scan's rows in them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hvoinspect.errors import printable
from hvoinspect.report.result import ScanResult


class Column(NamedTuple):
    """A column, its type in DuckDB, and what it holds."""

    name: str
    type: str
    about: str


class Table(NamedTuple):
    """A table and what a row of it is."""

    about: str
    columns: tuple[Column, ...]


SCAN = Column("scan", "INTEGER", "number of the scan, the same in all tables")

TABLES: Mapping[str, Table] = {
    "scans": Table(
        "a row a file that could be read",
        (
            SCAN,
            Column("path", "VARCHAR", "the file"),
            Column("host", "VARCHAR", "the host's name; if the scan has none, its file's"),
            Column("boot_id", "VARCHAR", "which boot of the host"),
            Column("version", "VARCHAR", "the release of hvoinspect that scanned"),
            Column("taken_at", "TIMESTAMP", "when it was taken, in UTC"),
            Column("source", "VARCHAR", "kcore, core, qemu, demo, or kpageflags: the own view"),
            Column("release", "VARCHAR", "the kernel's"),
            Column("build_id", "VARCHAR", "the kernel's"),
            Column("arch", "VARCHAR", "the kernel's"),
            Column("tail", "VARCHAR", "how tails name their head: pointer, mask"),
            Column("struct_page_bytes", "BIGINT", "size of a struct page"),
            Column("hvo", "VARCHAR", "none, fake_heads (to 7.0), shared_tail (7.1)"),
            Column("hvo_enabled", "BOOLEAN", "whether new hugepages are optimized"),
            Column("total_pages", "BIGINT", "struct pages"),
            Column("head_pages", "BIGINT", "of them real heads"),
            Column("fake_head_pages", "BIGINT", "of them fake heads"),
            Column("tail_pages", "BIGINT", "of them other tails"),
            Column("single_pages", "BIGINT", "of them single pages"),
            Column("unreadable_pages", "BIGINT", "of them not seen"),
            Column("offline_pages", "BIGINT", "of the single pages those of offline memory"),
            Column("virtual_bytes", "BIGINT", "the vmemmap's size"),
            Column("frames", "BIGINT", "4 KiB of memory that it takes"),
            Column("shared_frames", "BIGINT", "of them mapped more than once"),
            Column("read_only_pages", "BIGINT", "4 KiB of it that are mapped read-only"),
            Column("pmd_mapped_bytes", "BIGINT", "mapped 2 MiB or more at a time"),
            Column("pte_tables", "BIGINT", "page tables of 4 KiB entries"),
            Column("saved_bytes", "BIGINT", "what HVO saves"),
            Column("split_cost_bytes", "BIGINT", "less the page tables it takes"),
            Column("net_saved_bytes", "BIGINT", "the difference"),
            Column("potential_bytes", "BIGINT", "what more could be saved"),
            Column("errors", "BIGINT", "findings of severity error, all"),
            Column("warnings", "BIGINT", "findings of severity warning, all"),
            Column("ignored_rules", "VARCHAR[]", "rules that were not checked, as asked"),
            Column("notes", "VARCHAR[]", "what the scan says of itself"),
            Column("fraction", "DOUBLE", "of the struct pages that were seen, 0 to 1"),
            Column("elapsed_seconds", "DOUBLE", "what the scan took"),
        ),
    ),
    "pools": Table(
        "a row a scan, hugepage size and node",
        (
            SCAN,
            Column("size_bytes", "BIGINT", "the hugepages' size"),
            Column("node", "INTEGER", "NUMA node"),
            Column("total", "BIGINT", "hugepages"),
            Column("free", "BIGINT", "of them free"),
            Column("optimized", "BIGINT", "of them optimized"),
            Column("partly_optimized", "BIGINT", "of the optimized ones those that are so in part"),
            Column("vmemmap_pages_kept", "BIGINT", "4 KiB of vmemmap that they have"),
            Column("vmemmap_pages_freed", "BIGINT", "4 KiB that they do without"),
        ),
    ),
    "findings": Table(
        "a row a finding that is listed: of a rule a scan lists 1,000",
        (
            SCAN,
            Column("rule", "VARCHAR", "name in `hvoinspect scan --rules`"),
            Column("severity", "VARCHAR", "error, warning"),
            Column("pfn", "BIGINT", "page frame number"),
            Column("address", "VARCHAR", "of the struct page, hexadecimal"),
            Column("expected", "VARCHAR", "what should be there"),
            Column("found", "VARCHAR", "what is"),
            Column("confirmed", "BOOLEAN", "seen again when it was read again"),
            Column("meaning", "VARCHAR", "what follows from it"),
        ),
    ),
    "omitted": Table(
        "a row a scan and rule of which not all findings are listed",
        (
            SCAN,
            Column("rule", "VARCHAR", "name of the rule"),
            Column("count", "BIGINT", "findings that are not listed"),
        ),
    ),
    "refused": Table(
        "a row a file that is no scan, or could not be read",
        (Column("path", "VARCHAR", "the file"), Column("why", "VARCHAR", "what is wrong")),
    ),
}

Rows = dict[str, list[dict[str, Any]]]
"""Table -> its rows, by column."""


def rows(number: int, path: Path, scan: ScanResult) -> Rows:
    """Return the rows of a scan that was read from `path`."""
    return {
        "scans": [_scan(number, path, scan)],
        "pools": [{"scan": number, **pool} for pool in scan["hugetlb"]],
        "findings": [{"scan": number, **finding} for finding in scan["findings"]],
        "omitted": [
            {"scan": number, "rule": rule, "count": count}
            for rule, count in scan["findings_omitted"].items()
        ],
    }


def _scan(number: int, path: Path, scan: ScanResult) -> dict[str, Any]:
    taken_at = dt.datetime.fromisoformat(scan["taken_at"]).astimezone(dt.UTC)
    encoding = scan["encoding"]
    return {
        "scan": number,
        "path": printable(str(path)),
        "host": scan["host"]["name"] or printable(path.stem),
        "boot_id": scan["host"]["boot_id"],
        "version": scan["version"],
        "taken_at": taken_at.replace(tzinfo=None).isoformat(),
        "source": scan["source"]["kind"],
        "release": scan["kernel"]["release"],
        "build_id": scan["kernel"]["build_id"],
        "arch": scan["kernel"]["arch"],
        "tail": encoding["tail"],
        "struct_page_bytes": encoding["struct_page_bytes"],
        "hvo": encoding["hvo"],
        "hvo_enabled": encoding["hvo_enabled"],
        **{f"{name}_pages": count for name, count in scan["pages"].items()},
        **scan["vmemmap"],
        "errors": scan["findings_count"]["error"],
        "warnings": scan["findings_count"]["warning"],
        "ignored_rules": scan["ignored_rules"],
        "notes": scan["notes"],
        "fraction": scan["coverage"]["fraction"],
        "elapsed_seconds": scan["elapsed_seconds"],
    }
