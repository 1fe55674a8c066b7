"""The dashboard: its panels ask for what is exported, and a real Prometheus answers each."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from hvoinspect.report.openmetrics import FAMILIES
from tests.contrib.conftest import CONTRIB, DEMOS, Prometheus

DASHBOARD: dict[str, Any] = json.loads((CONTRIB / "grafana/hvoinspect.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
TARGETS = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
COLUMNS = 24


def filled_in(expression: str) -> str:
    """An expression as Grafana sends it where all jobs and hosts are chosen."""
    filled = expression.replace("$instance", ".*").replace("$job", ".*")
    assert "$" not in filled
    return filled


@pytest.mark.parametrize("expression", TARGETS)
def test_each_query_has_data(prometheus: Prometheus, expression: str) -> None:
    assert prometheus.query(filled_in(expression))


@pytest.mark.parametrize("expression", TARGETS)
def test_each_query_is_of_the_chosen_hosts_and_of_what_is_exported(expression: str) -> None:
    names = re.findall(r"hvoinspect_\w+", expression)
    assert names
    assert set(names) <= {family.sample_name for family in FAMILIES}
    assert expression.count('{job=~"$job", instance=~"$instance"') == len(names)


def test_the_variables_are_what_prometheus_knows(prometheus: Prometheus) -> None:
    source, *variables = DASHBOARD["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert [variable["name"] for variable in variables] == ["job", "instance"]
    values = []
    for variable in variables:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert found
        values.append(
            prometheus.ask(f"label/{found[2]}/values", **{"match[]": filled_in(found[1])})
        )
    assert values == [["hvoinspect"], sorted(prometheus.targets[demo] for demo in DEMOS)]


def test_panels_have_titles_units_and_the_chosen_data_source() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["title"]
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
        metrics = [re.findall(r"hvoinspect_\w+", target["expr"]) for target in panel["targets"]]
        bytes_only = all(name.endswith("_bytes") for names in metrics for name in names)
        assert (panel["fieldConfig"]["defaults"]["unit"] == "bytes") == bytes_only
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_panels_lie_beside_each_other() -> None:
    areas = []
    for panel in PANELS:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        areas.append({(x, y) for x in columns for y in rows})
    assert not any(one & other for one, other in itertools.combinations(areas, 2))
