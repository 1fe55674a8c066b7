"""The workload of `lab cost`, on this machine: what it does, and what it says."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest

from lab.cost import experiment, workload
from lab.errors import LabError
from tests.lab.conftest import COST_OPERATIONS as OPERATIONS

NOBODY = 65534


def run(program: Path, *arguments: str | int) -> subprocess.CompletedProcess[str]:
    """Run the workload as an ordinary user."""
    return subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=program.parent,
        user=NOBODY if os.geteuid() == 0 else None,
    )


def able(done: subprocess.CompletedProcess[str]) -> str:
    """Return what it printed; skip the test if this machine cannot do it."""
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_workload_lists_what_it_can_do(program: Path) -> None:
    listed = workload.operations(program)
    assert tuple(one.name for one in listed) == (workload.CALIBRATE, *OPERATIONS)
    assert listed[0].pages == experiment.CALIBRATION.pages
    assert all(one.pages > 0 and one.what for one in listed)


@pytest.mark.parametrize("operation", [workload.CALIBRATE, *OPERATIONS])
def test_a_run_does_as_many_units_as_it_says(program: Path, operation: str) -> None:
    said = json.loads(able(run(program, "run", operation, 7, 3)))
    assert said == {"operation": operation, "units": 21}


@pytest.mark.parametrize("operation", [workload.CALIBRATE, *OPERATIONS])
def test_a_measurement_is_of_two_sizes(program: Path, operation: str) -> None:
    measured = workload.parse(able(run(program, "measure", operation, 3, 4)))
    assert (measured.operation, measured.pages) == (operation, (3, 6))
    assert [len(ticks) for ticks in measured.ticks] == [4, 4]
    assert min(min(ticks) for ticks in measured.ticks) > 0


def test_zapped_pages_are_faulted_in_again_each_time(program: Path) -> None:
    # 6 times 500 zaps want 3000 pages that are there; anonymous ones come one fault each.
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    able(run(program, "run", "zap-anon", 500, 6))
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before >= 3000


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "usage: "),
        (("run", "zap-file", 1), "usage: "),
        (("run", "zap", 1, 1), "there is no operation zap"),
        (("walk", "zap-file", 1, 1), "there is no command walk"),
        (("run", "zap-file", 0, 1), "0 is no number"),
        (("run", "zap-file", 1, "1x"), "1x is no number"),
        (("run", "zap-file", 10**12, 1), "is no number"),
        (("measure", "zap-file", 1, 10**6), "is no number"),
    ],
)
def test_misuse_is_a_line_and_status_2(
    program: Path, arguments: tuple[str | int, ...], why: str
) -> None:
    done = run(program, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["-f", "-g"])
def test_a_folder_that_is_not_there_is_a_line_and_status_3(program: Path, option: str) -> None:
    done = run(program, option, "/nonexistent", "run", "read", 1, 1)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.endswith(": No such file or directory\n")


def test_a_compiler_that_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="gcc is missing"):
        workload.build(tmp_path)
