"""What is shipped for others' tools is tried with those tools."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PROJECT
from tests.cli.test_export import listening
from tests.lab.conftest import cannot

CONTRIB = PROJECT / "contrib"
DEMOS = ("before", "after")


def need(program: str) -> str:
    """Return where a program is; skip the test if it is not here, fail it if it must be."""
    found = shutil.which(program)
    if found is None:
        cannot(f"{program} is not installed")
    return found


@dataclass(frozen=True)
class Sample:
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs, and has scraped each demo; `targets`: instance of each demo."""

    url: str
    targets: dict[str, str]

    def ask(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=60) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[Sample]:
        data = self.ask("query", query=expression)
        return [Sample(found["metric"], float(found["value"][1])) for found in data["result"]]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(targets: dict[str, str], folder: Path) -> Iterator[Prometheus]:
    """A real Prometheus on loopback, which scrapes `targets` once a second, with our alerts."""
    program = need("prometheus")
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(CONTRIB / "prometheus/hvoinspect.rules.yml")],
        "scrape_configs": [
            {
                "job_name": "hvoinspect",
                "static_configs": [{"targets": list(targets.values())}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
    port = free_port()
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            while True:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                try:
                    urllib.request.urlopen(f"{url}/-/ready", timeout=60).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield Prometheus(url, targets)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real Prometheus that scrapes `hvoinspect export --listen` of each demo."""
    need("prometheus")
    with ExitStack() as stack:
        targets = {}
        for demo in DEMOS:
            _, host, port = stack.enter_context(listening("--demo", demo))
            targets[demo] = f"{host}:{port}"
        found = stack.enter_context(running(targets, tmp_path_factory.mktemp("prometheus")))
        while len(found.query("hvoinspect_scan_success == 1")) < len(DEMOS):
            time.sleep(0.1)
        yield found
