"""A real Prometheus scrapes a demo, and gives back what its JSON says; and the alerts."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from hvoinspect.report.openmetrics import FAMILIES
from tests.cli.conftest import PROJECT, command, environment
from tests.contrib.conftest import CONTRIB, DEMOS, Prometheus, need
from tests.report.exported import key
from tests.report.test_openmetrics import expected

RULES = CONTRIB / "prometheus/hvoinspect.rules.yml"
OF_PROMETHEUS = {"__name__", "instance", "job"}


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [need("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module", params=DEMOS)
def demo(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """The name of a demo, and its scan's JSON."""
    name: str = request.param
    done = subprocess.run(
        command("scan", "--demo", name, "--json"),
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
        env=environment({}),
    )
    return name, json.loads(done.stdout)


class TestScraped:
    def test_the_values_are_those_of_the_scans_json(
        self, prometheus: Prometheus, demo: tuple[str, Any]
    ) -> None:
        name, scan = demo
        instance = prometheus.targets[name]
        found = {
            (
                sample.labels["__name__"],
                frozenset((k, v) for k, v in sample.labels.items() if k not in OF_PROMETHEUS),
            ): sample.value
            for sample in prometheus.query(f'{{instance="{instance}"}}')
        }
        wanted = expected(scan)
        del wanted[key("scan_duration_seconds")]  # of another scan
        assert {k: found.get(k) for k in wanted} == wanted
        for finding in scan["findings"]:
            labels = {"rule": finding["rule"], "severity": finding["severity"]}
            assert found[key("findings", **labels)] == 1
        kernel = {k: scan["kernel"][k] for k in ("release", "build_id", "arch")}
        assert found[key("kernel_info", **kernel)] == 1
        assert found[key("source_info", kind="demo")] == 1
        assert found[key("scans_total")] == 1

    def test_it_is_up_and_knows_what_each_metric_is(self, prometheus: Prometheus) -> None:
        targets = prometheus.ask("targets")["activeTargets"]
        assert [target["health"] for target in targets] == ["up"] * len(DEMOS)
        known = prometheus.ask("metadata")
        exported = {sample.labels["__name__"] for sample in prometheus.query('{job="hvoinspect"}')}
        for family in FAMILIES:
            assert family.sample_name in exported
            # OpenMetrics names a counter or info without its suffix.
            [told] = known[family.name]
            assert (told["help"], told["type"]) == (family.meaning, family.kind)
            assert told["unit"] == family.unit

    def test_its_alerts_can_be_evaluated(self, prometheus: Prometheus) -> None:
        """Nothing is wrong with the demos but a warning, so none fires."""
        groups = prometheus.ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) == 6
        assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
        assert [rule["name"] for rule in rules if rule["alerts"]] == []


class TestAlerts:
    def test_they_are_rules(self) -> None:
        done = promtool("check", "rules", RULES)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "6 rules found" in done.stdout

    def test_they_fire_when_they_should_and_do_not_otherwise(self) -> None:
        done = promtool("test", "rules", RULES.with_name("hvoinspect.rules.test.yml"))
        assert done.returncode == 0, done.stdout + done.stderr

    def test_those_tests_try_each_of_them(self) -> None:
        text = RULES.with_name("hvoinspect.rules.test.yml").read_text()
        names = [line.split()[-1] for line in RULES.read_text().splitlines() if "- alert: " in line]
        assert len(names) == 6
        for name in names:
            assert text.count(f"alertname: {name}\n") == 2
