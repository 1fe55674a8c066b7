"""`hvoinspect hotpath record` from the command line: what it asks for, prints, and exits with."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hvoinspect.api import hotpath as api
from hvoinspect.hotpath.plan import Wish
from hvoinspect.hotpath.run import Run, read_run
from hvoinspect.hotpath.workload import Request
from tests.cli.conftest import Call
from tests.cli.test_main import told
from tests.report.test_hotpath import RUN

RECORD = ("hotpath", "record")


class Recorder:
    """In place of counting: remembers what was asked for, and returns a run."""

    def __init__(self) -> None:
        self.run = RUN
        self.asked: list[tuple[Wish, Request]] = []

    def __call__(self, wish: Wish, request: Request, watch: Any = None) -> Run:
        assert watch is None  # there is no terminal
        self.asked.append((wish, request))
        return self.run


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(api, "record_hot_path", recorder)
    return recorder


def test_options_after_the_command_are_the_commands(call: Call, recorder: Recorder) -> None:
    assert call(*RECORD, "-d", "5", "-q", "make", "-j8", "--json") == (0, "", "")
    wish, request = recorder.asked[0]
    assert (request.command, request.seconds) == (("make", "-j8", "--json"), 5.0)
    assert wish == Wish()


def test_all_that_can_be_asked_for(call: Call, recorder: Recorder, tmp_path: Path) -> None:
    call(
        *(*RECORD, "--mode", "sites", "--sites", "k.sites", "--backend", "bcc", "--budget", "2.5"),
        *("--pid", os.getpid(), "--cgroup", "/cg", "--units", "100", "--unit", "page", "-q"),
    )
    wish, request = recorder.asked[0]
    assert (wish.mode, wish.backend, wish.sites) == ("sites", "bcc", Path("k.sites"))
    assert (wish.only.process, wish.only.cgroup) == (os.getpid(), Path("/cg"))
    assert (wish.budget, request.units, request.unit) == (2.5, 100.0, "page")
    assert (request.command, request.seconds) == ((), None)


def test_a_page_or_json_or_a_file(call: Call, recorder: Recorder, tmp_path: Path) -> None:
    status, out, err = call(*RECORD, "-d", "1")
    assert (status, err) == (0, "")
    assert "30,000 hits in 2.0 s" in out
    status, out, _ = call(*RECORD, "-d", "1", "--json")
    assert json.loads(out)["counts"][0]["function"] == "__zap_vma_range"
    path = tmp_path / "run.json"
    assert call(*RECORD, "-d", "1", "-o", path) == (0, "", "")
    assert read_run(path) == RUN


def test_json_is_not_mixed_with_what_the_command_prints(call: Call, recorder: Recorder) -> None:
    call(*RECORD, "--json", "--", "true")
    call(*RECORD, "-q", "--", "true")
    assert [request.stdout for _, request in recorder.asked] == [2, None]


def test_a_command_that_failed_is_told_and_its_result_is_shown(
    call: Call, recorder: Recorder
) -> None:
    workload = {**RUN.workload, "command": ["x"], "status": 3, "ended": "command"}
    recorder.run = replace(RUN, workload=workload)
    status, out, err = call(*RECORD, "--", "x")
    assert (status, err) == (1, "hvoinspect: the command ended with status 3\n")
    assert "The command ended with status 3." in out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--command-only"], "wants a COMMAND"),
        (["--command-only", "--pid", "1", "--", "x"], "exclude each other"),
        (["--mode", "functions", "--sites", "f"], "modes sites and sample"),
        (["--pid", str(2**30)], "there is no process"),
        (["-d", "0"], "0.0 is not in the range"),
        (["-d", "nan"], "nan"),
        (["--budget", "101"], "101.0 is not in the range"),
        (["--mode", "guess"], "guess"),
        (["-o", "/proc/self/status"], "exists already"),
    ],
)
def test_usage_errors_count_nothing(
    call: Call, recorder: Recorder, arguments: list[str], why: str
) -> None:
    status, out, err = call(*RECORD, *arguments)
    assert (status, out, recorder.asked) == (2, "", [])
    assert why in told(err)[0]


def test_only_root_may(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    status, out, err = call(*RECORD, "-d", "1")
    assert (status, out) == (3, "")
    why, remedy = told(err)
    assert "only root" in why
    assert "sudo" in remedy
