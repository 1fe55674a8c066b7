"""Many dumps, scanned by a real Dask scheduler and its workers, of which some die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hvoinspect.fleet import dumps as module
from hvoinspect.fleet.dumps import scan_dumps
from hvoinspect.report.scanfile import read_scan
from tests.tiny_kernel import TinyKernel

PROJECT = Path(__file__).parents[2]
PATIENCE = 240
"""Seconds until a test gives up what takes a few on a machine that is not busy."""

HOOK = """
import os, signal, sys, time
words = sys.orig_argv
if "hvoinspect" in words and "scan" in words and "-c" in words:
    name, folder = os.path.basename(words[-1]), {folder!r}
    if name.startswith("gate"):
        open(os.path.join(folder, f"{{name}} {{os.getppid()}} {{os.getpid()}}"), "w").close()
        while not os.path.exists(os.path.join(folder, "go")):
            time.sleep(0.02)
    elif name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    elif name.startswith("deadly"):
        os.kill(os.getppid(), signal.SIGKILL)
    elif name.startswith("hang"):
        time.sleep(1e6)
"""
"""What a scan does first, by the name of its dump: wait for a test, or what damage could do to it.
A worker is the parent of the processes that scan."""


def hooked(folder: Path, notes: Path) -> dict[str, str]:
    """An environment in which scans do what HOOK says, and leave their notes in `notes`."""
    hooks = folder / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK.format(folder=str(notes)))
    return {**os.environ, "PYTHONPATH": f"{hooks}{os.pathsep}{PROJECT}"}


def started(notes: Path) -> list[tuple[str, int, int]]:
    """Which dumps wait at the gate, or did, for which worker, in which process."""
    names = [path.name.split() for path in notes.iterdir() if path.name != "go"]
    return [(name, int(worker), int(process)) for name, worker, process in names]


def until(holds: Callable[[], Any], why: Callable[[], str] = str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, why()
        time.sleep(0.02)


class Cluster:
    """A scheduler and workers, each a process, as `dask scheduler` and `dask worker` start them."""

    def __init__(self, folder: Path, workers: int, *, restarted: bool) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.environment = hooked(folder, self.notes)
        file = folder / "scheduler.json"
        self.processes = [self._dask("scheduler", "--port=0", f"--scheduler-file={file}")]
        self.until(lambda: file.exists() and file.stat().st_size > 0)
        self.address: str = json.loads(file.read_text())["address"]
        self.processes += [
            self._dask(
                *("worker", self.address, "--nthreads=1"),
                "--nanny" if restarted else "--no-nanny",
                f"--local-directory={folder / f'worker{number}'}",
            )
            for number in range(workers)
        ]
        # A dump is to find them all there.
        wait = (
            "import sys; from distributed import Client; "
            "Client(sys.argv[1]).wait_for_workers(int(sys.argv[2]))"
        )
        command = [sys.executable, "-c", wait, self.address, str(workers)]
        subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True)

    def _dask(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--host=127.0.0.1", "--no-dashboard"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def until(self, holds: Callable[[], Any]) -> None:
        until(holds, lambda: (self.folder / "log").read_text()[-3000:])

    def started(self) -> list[tuple[str, int]]:
        """Which dumps wait at the gate, or did, and for which worker."""
        return [(name, worker) for name, worker, _ in started(self.notes)]

    def end(self) -> None:
        (self.notes / "go").touch()
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def make(workers: int, *, restarted: bool = False) -> Cluster:
        made.append(Cluster(tmp_path, workers, restarted=restarted))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def dumps(tmp_path: Path, core: Path) -> Callable[..., Path]:
    """Makes a folder of dumps that are alike, of given names."""

    def make(*names: str) -> Path:
        folder = tmp_path / "dumps"
        folder.mkdir()
        for name in names:
            os.link(core, folder / name)
        return folder

    return make


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.getbasetemp() / "fleet-vmcore"
    kernel = TinyKernel()
    kernel.compound(512, 9)
    path.write_bytes(kernel.core())
    return path


def begin(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hvoinspect", "fleet", "scan", "--json", *map(str, arguments)],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    out, err = process.communicate(timeout=PATIENCE)
    assert err == ""
    return process.returncode, json.loads(out)


def reasons(summary: dict[str, Any]) -> dict[str, str | None]:
    return {Path(one["dump"]).name: one["why"] for one in summary["results"]}


def test_a_worker_that_is_killed_while_it_scans_is_stood_in_for(
    cluster: Callable[..., Cluster], dumps: Callable[..., Path], tmp_path: Path
) -> None:
    two = cluster(2)
    names = ["gate-a", "gate-b", "plain-c", "plain-d"]
    folder, output = dumps(*names), tmp_path / "scans"
    scan = begin(folder, "--scheduler", two.address, "-o", output)
    two.until(lambda: len({worker for _, worker in two.started()}) == 2)
    (victim,) = {pid for name, pid in two.started() if name == "gate-a"}
    os.kill(victim, signal.SIGKILL)
    two.until(lambda: two.processes[1].poll() is not None or two.processes[2].poll() is not None)
    (two.notes / "go").touch()
    status, summary = ended(scan)
    assert (status, summary["scanned"], summary["failed"]) == (0, 4, 0), reasons(summary)
    assert sorted(path.name for path in output.iterdir()) == [f"{name}.json" for name in names]
    assert all(read_scan(path)["pages"]["head"] == 1 for path in output.iterdir())
    again = [pid for name, pid in two.started() if name == "gate-a"]
    assert len(again) == 2, "the other worker scanned it, too"


def test_dumps_that_crash_hang_or_are_none_stop_no_other(
    cluster: Callable[..., Cluster], dumps: Callable[..., Path], tmp_path: Path
) -> None:
    two = cluster(2, restarted=True)
    folder, output = dumps("crash", "deadly", "good-1", "good-2", "hang"), tmp_path / "scans"
    (folder / "junk").write_text("this is no dump\n" * 1000)
    gone = tmp_path / "gone"
    scan = begin(folder, gone, "--scheduler", two.address, "-o", output, "--timeout", 40)
    status, summary = ended(scan)
    assert reasons(summary) == {
        "crash": "the process that scanned it was killed by SIGSEGV",
        "deadly": "all workers that scanned it died",
        "good-1": None,
        "good-2": None,
        "gone": "No such file or directory",
        "hang": "the scan took longer than 40 s",
        "junk": "is no dump: it begins like neither an ELF nor a kdump file",
    }
    assert (status, summary["scanned"], summary["failed"]) == (4, 2, 5)
    assert sorted(path.name for path in output.iterdir()) == ["good-1.json", "good-2.json"]


def test_a_scheduler_that_goes_ends_it(
    cluster: Callable[..., Cluster], dumps: Callable[..., Path]
) -> None:
    one = cluster(1)
    scan = begin(dumps("gate-a", "gate-b"), "--scheduler", one.address)
    one.until(one.started)
    one.processes[0].kill()
    status, summary = ended(scan)
    assert (status, summary["failed"]) == (3, 2)
    assert all(summary["results"][at]["why"] for at in range(2))


class NoWorkers:
    """A client of a cluster that has lost them all."""

    status = "running"

    class Future:
        def add_done_callback(self, _callback: object) -> None:
            """Never done."""

    def __init__(self) -> None:
        self.cancelled: list[object] = []

    def submit(self, *_arguments: object, pure: bool) -> Future:
        return self.Future()

    def nthreads(self) -> dict[str, int]:
        return {}

    def cancel(self, futures: list[object]) -> None:
        self.cancelled = futures


def test_without_workers_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORKERLESS_SECONDS", 0.0)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    client = NoWorkers()
    came = list(scan_dumps(client, [Path("a"), Path("b")], 10))  # type: ignore[arg-type]
    assert [(path.name, one.why) for path, one in came] == [
        ("a", "no worker is left"),
        ("b", "no worker is left"),
    ]
    assert len(client.cancelled) == 2


class TestHere:
    """Without a scheduler, in processes of this host."""

    def test_all_are_scanned(self, dumps: Callable[..., Path], tmp_path: Path) -> None:
        folder, output = dumps("a.core", "b.core"), tmp_path / "scans"
        (folder / "junk").write_text("x")
        status, summary = ended(begin(folder, "-o", output))
        assert (status, summary["scanned"], summary["failed"]) == (4, 2, 1)
        assert {path.name for path in output.iterdir()} == {"a.json", "b.json"}
        again = begin(folder / "*.core", "-o", output, "--skip-existing")
        status, summary = ended(again)
        assert (status, summary["skipped"], summary["dumps"]) == (0, 2, 2)

    def test_beside_another_cluster_of_this_host(self, dumps: Callable[..., Path]) -> None:
        """Whose HTTP server has the port that Dask takes by itself."""
        with socket.socket() as other:
            with contextlib.suppress(OSError):  # then somebody has it anyway
                other.bind(("", 8787))
                other.listen()
            scan = begin(dumps("a.core"))
            out, err = scan.communicate(timeout=PATIENCE)
        assert (scan.returncode, err) == (0, "")
        assert json.loads(out)["scanned"] == 1

    def test_no_scan_is_overwritten(self, dumps: Callable[..., Path], tmp_path: Path) -> None:
        folder, output = dumps("a.core"), tmp_path / "scans"
        output.mkdir()
        (output / "a.json").write_text("precious")
        scan = begin(folder, "-o", output)
        out, err = scan.communicate(timeout=PATIENCE)
        assert (scan.returncode, out) == (2, "")
        assert "exists already" in err
        assert (output / "a.json").read_text() == "precious"

    def test_ctrl_c_ends_it_and_what_scans(
        self, dumps: Callable[..., Path], tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes"
        notes.mkdir()
        scan = begin(dumps("gate-a"), environment=hooked(tmp_path, notes))
        until(lambda: started(notes))
        ((_, _, process),) = started(notes)
        scan.send_signal(signal.SIGINT)
        out, err = scan.communicate(timeout=PATIENCE)
        assert (scan.returncode, out, err) == (130, "", "hvoinspect: interrupted\n")
        until(lambda: not Path(f"/proc/{process}").exists())

    def test_so_does_killing_it(self, dumps: Callable[..., Path], tmp_path: Path) -> None:
        notes = tmp_path / "notes"
        notes.mkdir()
        scan = begin(dumps("gate-a"), environment=hooked(tmp_path, notes))
        until(lambda: started(notes))
        ((_, _, process),) = started(notes)
        scan.kill()
        scan.communicate(timeout=PATIENCE)
        until(lambda: not Path(f"/proc/{process}").exists())
