"""Metrics that were exported, read back by the parsers of prometheus_client."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families as text_families

from hvoinspect.report.openmetrics import Format

Key = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""


def key(name: str, **labels: object) -> Key:
    """The key of the sample `hvoinspect_NAME` with these labels."""
    return f"hvoinspect_{name}", frozenset((name, str(value)) for name, value in labels.items())


def samples(text: str, form: Format = "text") -> Mapping[Key, float]:
    """All samples of a text; no series is there twice."""
    families = (text_families if form == "text" else openmetrics_families)(text)
    found = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in families
        for sample in family.samples
    ]
    assert len(dict(found)) == len(found)
    return dict(found)
