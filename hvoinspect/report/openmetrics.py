"""A scan as metrics, in the text formats of Prometheus and of OpenMetrics.

Names and units follow https://prometheus.io/docs/practices/naming/ and the OpenMetrics
specification: base units, and a counter only where something counts up. What is unknown has no
sample: a 0 is always a count of none. Labels have few values, and never name a page.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS_TYPE
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from hvoinspect.errors import printable
from hvoinspect.report.result import PoolJson, ScanResult
from hvoinspect.target.layout import VMEMMAP_PAGE
from hvoinspect.version import __version__
from hvoinspect.vmemmap.checks import RULES

PREFIX = "hvoinspect_"
LAST_SUCCESS = f"{PREFIX}scan_last_success_timestamp_seconds"

Format = Literal["text", "openmetrics"]
CONTENT_TYPES: Mapping[Format, str] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": OPENMETRICS_TYPE,
}


@dataclass(frozen=True)
class Counts:
    """Scans that one process began, and how many of them failed."""

    scans: int = 0
    failures: int = 0


@dataclass(frozen=True)
class Snapshot:
    """What there is to export: the last scan, what came of it, and when one last succeeded.

    `result`: None if the last scan failed, or there was none yet. `begun` and `last_success`: the
    Unix times at which the last scan and the last one that succeeded began, in seconds. `seconds`:
    how long the last one took. `counts`: None where one process makes one scan, and counts nothing.
    """

    result: ScanResult | None = None
    begun: float | None = None
    seconds: float | None = None
    last_success: float | None = None
    counts: Counts | None = None


Labels = Mapping[str, str | None]
"""Label names and values, which may be hostile; one whose value is None is left out."""
Samples = Iterator[tuple[Labels, float | None]]
"""Labels and values; one whose value is None is left out."""


@dataclass(frozen=True)
class Family:
    """A metric: its name in full, but for the suffix `_total` or `_info` of its kind."""

    name: str
    kind: Literal["gauge", "counter", "info"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    samples: Callable[[Snapshot], Samples]

    @property
    def sample_name(self) -> str:
        """The name that queries use."""
        return self.name + {"gauge": "", "counter": "_total", "info": "_info"}[self.kind]

    def metric(self, snapshot: Snapshot) -> Metric:
        """Return the metric of a snapshot, with as many samples as are known."""
        metric = Metric(self.name, self.meaning, self.kind, self.unit)
        for labels, value in self.samples(snapshot):
            if value is not None:
                known = {name: printable(text) for name, text in labels.items() if text is not None}
                metric.add_sample(self.sample_name, known, float(value))
        return metric


def metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield the metrics of a snapshot that have a sample."""
    for family in FAMILIES:
        metric = family.metric(snapshot)
        if metric.samples:
            yield metric


def render(snapshot: Snapshot, form: Format = "text") -> str:
    """Return the metrics of a snapshot.

    "text" is Prometheus's text format 0.0.4, which node_exporter's textfile collector and promtool
    read; "openmetrics" is OpenMetrics 1.0.0.
    """
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(_Once(snapshot))
    generate = generate_latest if form == "text" else generate_openmetrics
    return generate(registry).decode()


def last_success_in(text: str, now: float) -> float | None:
    """Return when a scan last succeeded, as exported `text` says, or None if it does not say it.

    Anyone may have written the text: what is not a time before `now` is not taken for one.
    """
    try:
        for metric in text_string_to_metric_families(text):
            for sample in metric.samples:
                if sample.name == LAST_SUCCESS and not sample.labels:
                    time = sample.value
                    return time if math.isfinite(time) and 0 < time <= now else None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None  # whatever the parser raises of what is no metrics
    return None


class _Once(Collector):
    """What a registry asks for metrics."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        return metrics(self._snapshot)


def success_time(result: ScanResult) -> float:
    """Return when a scan began, in Unix time."""
    return dt.datetime.fromisoformat(result["taken_at"]).timestamp()


# What the table below is made of: where a metric's samples are in a result.


def _one(read: Callable[[ScanResult], float | None]) -> Callable[[Snapshot], Samples]:
    return _each(lambda result: iter([({}, read(result))]))


def _each(read: Callable[[ScanResult], Samples]) -> Callable[[Snapshot], Samples]:
    def samples(snapshot: Snapshot) -> Samples:
        if snapshot.result is not None:
            yield from read(snapshot.result)

    return samples


def _attempt(read: Callable[[Snapshot], float | None]) -> Callable[[Snapshot], Samples]:
    return lambda snapshot: iter([({}, read(snapshot))])


def _info(read: Callable[[ScanResult], Labels]) -> Callable[[Snapshot], Samples]:
    return _each(lambda result: iter([(read(result), 1.0)]))


def _pools(read: Callable[[PoolJson], int | None]) -> Callable[[Snapshot], Samples]:
    return _each(
        lambda result: (
            ({"size_bytes": str(pool["size_bytes"]), "node": str(pool["node"])}, read(pool))
            for pool in result["hugetlb"]
        )
    )


def _in_bytes(pages: int | None) -> int | None:
    return None if pages is None else pages * VMEMMAP_PAGE


def _classes(result: ScanResult) -> Samples:
    pages = result["pages"]
    yield {"class": "head"}, pages["head"]
    yield {"class": "fake_head"}, pages["fake_head"]
    yield {"class": "tail"}, pages["tail"]
    yield {"class": "single"}, pages["single"]
    yield {"class": "unreadable"}, pages["unreadable"]


def _tails(result: ScanResult) -> Samples:
    yield {"encoding": "pointer"}, result["tails"]["pointer"]
    yield {"encoding": "mask"}, result["tails"]["mask"]


def _checked(result: ScanResult) -> list[tuple[str, str]]:
    """Return the rules that were checked, with their severities: none in the kernel's own view."""
    if result["source"]["kind"] == "kpageflags":
        return []
    return [(r.name, r.severity) for r in RULES if r.name not in result["ignored_rules"]]


def _findings(result: ScanResult) -> Samples:
    """Count findings.

    Of a rule with so many that some are not listed, those have the severity of the last that is:
    errors are listed first.
    """
    count = dict.fromkeys(_checked(result), 0)
    last: dict[str, tuple[str, str]] = {}
    for finding in result["findings"]:
        key = last[finding["rule"]] = (finding["rule"], finding["severity"])
        count[key] = count.get(key, 0) + 1
    for rule, omitted in result["findings_omitted"].items():
        count[last[rule]] += omitted
    for (rule, severity), found in count.items():
        yield {"rule": rule, "severity": severity}, found


def _unstable(result: ScanResult) -> Samples:
    for rule, _ in _checked(result):
        yield {"rule": rule}, result["unstable"].get(rule, 0)


def _success(snapshot: Snapshot) -> float | None:
    return None if snapshot.begun is None else float(snapshot.result is not None)


def _family(
    name: str,
    meaning: str,
    samples: Callable[[Snapshot], Samples],
    *labels: str,
    kind: Literal["gauge", "counter", "info"] = "gauge",
) -> Family:
    last = name.rpartition("_")[2]
    unit = last if last in {"bytes", "seconds", "ratio"} else ""
    return Family(PREFIX + name, kind, unit, labels, meaning, samples)


FAMILIES: tuple[Family, ...] = (
    _family(
        "build",
        "The version of hvoinspect that exports.",
        lambda _snapshot: iter([({"version": __version__}, 1.0)]),
        "version",
        kind="info",
    ),
    _family("scan_success", "1 if the last scan succeeded, 0 if it failed.", _attempt(_success)),
    _family(
        "scan_timestamp_seconds",
        "When the last scan began, whether or not it succeeded, in Unix time.",
        _attempt(lambda snapshot: snapshot.begun),
    ),
    _family(
        "scan_last_success_timestamp_seconds",
        "When the last scan that succeeded began, in Unix time.",
        _attempt(lambda snapshot: snapshot.last_success),
    ),
    _family(
        "scan_duration_seconds",
        "How long the last scan took, whether or not it succeeded.",
        _attempt(lambda snapshot: snapshot.seconds),
    ),
    _family(
        "scans",
        "Scans since this process began; absent where it makes but one.",
        _attempt(lambda snapshot: snapshot.counts.scans if snapshot.counts else None),
        kind="counter",
    ),
    _family(
        "scan_failures",
        "Scans that failed since this process began; absent where it makes but one.",
        _attempt(lambda snapshot: snapshot.counts.failures if snapshot.counts else None),
        kind="counter",
    ),
    _family(
        "source",
        "Which memory was read: kcore, core, qemu, demo, or kpageflags, the kernel's own view.",
        _info(lambda result: {"kind": result["source"]["kind"]}),
        "kind",
        kind="info",
    ),
    _family(
        "kernel",
        "Which kernel it is.",
        _info(
            lambda result: {
                "release": result["kernel"]["release"],
                "build_id": result["kernel"]["build_id"],
                "arch": result["kernel"]["arch"],
            }
        ),
        "release",
        "build_id",
        "arch",
        kind="info",
    ),
    _family(
        "encoding",
        "How tails name their head (tail: pointer or mask; field), and how HVO shares frames "
        "(hvo: none, fake_heads, shared_tail).",
        _info(
            lambda result: {
                "tail": result["encoding"]["tail"],
                "field": result["encoding"]["field"],
                "hvo": result["encoding"]["hvo"],
            }
        ),
        "tail",
        "field",
        "hvo",
        kind="info",
    ),
    _family(
        "hvo_enabled",
        "1 if the kernel optimizes hugepages from now on (vm.hugetlb_optimize_vmemmap), 0 if not.",
        _one(lambda result: result["encoding"]["hvo_enabled"]),
    ),
    _family(
        "kernel_page_bytes",
        "Size of a page.",
        _one(lambda result: result["kernel"]["page_size"]),
    ),
    _family(
        "struct_page_bytes",
        "Size of a struct page.",
        _one(lambda result: result["encoding"]["struct_page_bytes"]),
    ),
    _family(
        "struct_pages",
        "Mapped struct pages by class; the classes add up to all of them.",
        _each(_classes),
        "class",
    ),
    _family(
        "offline_struct_pages",
        "Struct pages of offline memory, which are among those of class single.",
        _one(lambda result: result["pages"]["offline"]),
    ),
    _family(
        "tails",
        "Tails that are no fake heads, by the encoding that they were seen to have.",
        _each(_tails),
        "encoding",
    ),
    _family(
        "hugetlb_pages",
        "Hugetlb pages in the pool.",
        _pools(lambda pool: pool["total"]),
        "size_bytes",
        "node",
    ),
    _family(
        "hugetlb_free_pages",
        "Hugetlb pages that are free.",
        _pools(lambda pool: pool["free"]),
        "size_bytes",
        "node",
    ),
    _family(
        "hugetlb_optimized_pages",
        "Hugetlb pages whose vmemmap is optimized, as the page tables show.",
        _pools(lambda pool: pool["optimized"]),
        "size_bytes",
        "node",
    ),
    _family(
        "hugetlb_partly_optimized_pages",
        "Those of the optimized ones that have some tail vmemmap pages on frames of their own.",
        _pools(lambda pool: pool["partly_optimized"]),
        "size_bytes",
        "node",
    ),
    _family(
        "hugetlb_vmemmap_kept_bytes",
        "Memory behind the vmemmap of hugetlb pages.",
        _pools(lambda pool: _in_bytes(pool["vmemmap_pages_kept"])),
        "size_bytes",
        "node",
    ),
    _family(
        "hugetlb_vmemmap_freed_bytes",
        "Memory that HVO freed from behind the vmemmap of hugetlb pages.",
        _pools(lambda pool: _in_bytes(pool["vmemmap_pages_freed"])),
        "size_bytes",
        "node",
    ),
    _family(
        "vmemmap_virtual_bytes",
        "Size of the vmemmap: addresses that are mapped.",
        _one(lambda result: result["vmemmap"]["virtual_bytes"]),
    ),
    _family(
        "vmemmap_frames",
        "Distinct 4 KiB frames behind the vmemmap.",
        _one(lambda result: result["vmemmap"]["frames"]),
    ),
    _family(
        "vmemmap_shared_frames",
        "Frames behind the vmemmap that are mapped more than once.",
        _one(lambda result: result["vmemmap"]["shared_frames"]),
    ),
    _family(
        "vmemmap_read_only_pages",
        "4 KiB pages of the vmemmap that are mapped read-only.",
        _one(lambda result: result["vmemmap"]["read_only_pages"]),
    ),
    _family(
        "vmemmap_pmd_mapped_bytes",
        "The part of the vmemmap that is mapped 2 MiB or more at a time.",
        _one(lambda result: result["vmemmap"]["pmd_mapped_bytes"]),
    ),
    _family(
        "vmemmap_pte_tables",
        "Page tables of 4 KiB entries that map the vmemmap.",
        _one(lambda result: result["vmemmap"]["pte_tables"]),
    ),
    _family(
        "vmemmap_saved_bytes",
        "Memory that HVO saves, gross.",
        _one(lambda result: result["vmemmap"]["saved_bytes"]),
    ),
    _family(
        "vmemmap_split_cost_bytes",
        "Memory that the page tables take that HVO splits mappings with.",
        _one(lambda result: result["vmemmap"]["split_cost_bytes"]),
    ),
    _family(
        "vmemmap_net_saved_bytes",
        "Memory that HVO saves, net of split page tables.",
        _one(lambda result: result["vmemmap"]["net_saved_bytes"]),
    ),
    _family(
        "vmemmap_potential_bytes",
        "Memory that HVO could still save on the hugetlb pages that there are.",
        _one(lambda result: result["vmemmap"]["potential_bytes"]),
    ),
    _family(
        "findings",
        "Breaches of a rule. Rules without any are 0, with the severity that they usually have.",
        _each(_findings),
        "rule",
        "severity",
    ),
    _family(
        "unstable",
        "What looked like a breach of a rule and was not the same when it was read again.",
        _each(_unstable),
        "rule",
    ),
    _family(
        "read_struct_pages",
        "Struct pages that were read.",
        _one(lambda result: result["coverage"]["struct_pages_read"]),
    ),
    _family(
        "inferred_struct_pages",
        "Struct pages that were inferred from others and not read.",
        _one(lambda result: result["coverage"]["struct_pages_inferred"]),
    ),
    _family(
        "coverage_ratio",
        "The part of all struct pages that was read or inferred: 1 is all of them.",
        _one(lambda result: result["coverage"]["fraction"]),
    ),
)
"""All metrics, in the order in which they are exported."""


def metrics_table() -> str:
    """Return all metrics as a table in Markdown, as docs/export.md has it."""
    rows = ["| metric | kind | labels | what it is |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.sample_name}` | {family.kind} | {labels} | {family.meaning} |")
    return "\n".join(rows) + "\n"
