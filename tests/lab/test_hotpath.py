"""The hot path, counted in real kernels: exactly, and with nothing left behind.

The work is tests/lab/zap.c, which maps one page of a file and lets it go, so many times.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.guest import Completed, Guest
from lab.kernels import Cache
from lab.machine import Config
from tests.lab.conftest import LabPool
from tests.lab.test_scan import PROJECT, as_nobody, two_lines

RECORD = [sys.executable, "-m", "hvoinspect", "hotpath", "record"]
ZAPS = 10_000
SECONDS = 900
"""Attaching takes 40 ms a probe under emulation, and detaching about as long."""

WITH_DWARF = [Config(kernel) for kernel in ("6.12", "7.3")]
kernels_with_sites = pytest.mark.parametrize("guest", WITH_DWARF, indirect=True, ids=str)
newest = pytest.mark.parametrize("guest", WITH_DWARF[-1:], indirect=True, ids=str)
without_headers = pytest.mark.parametrize(
    "guest", [Config("7.0"), Config("7.1")], indirect=True, ids=str
)
oldest = pytest.mark.parametrize("guest", [Config("6.1")], indirect=True, ids=str)

# A dirty page of a shared file is zapped: run once a zap by nobody else on an idle machine, and by
# each kernel in these functions alone.
ONCE_A_ZAP = ("fault_dirty_shared_page", "tlb_flush_rmap_batch")


@pytest.fixture(scope="session")
def zap(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The workload, linked statically: less of a process to begin and end."""
    program = tmp_path_factory.mktemp("zap") / "zap"
    source = Path(__file__).with_name("zap.c")
    subprocess.run(["gcc", "-O2", "-static", "-Wall", "-Werror", "-o", program, source], check=True)
    return program.read_bytes()


@pytest.fixture(scope="session")
def sites_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Find a kernel's copies, once a session. A kernel without headers for bcc fails the test."""
    folder = tmp_path_factory.mktemp("sites")

    def sites_of(release: str) -> bytes:
        path = folder / release
        if not path.exists():
            try:
                kernel = Cache().fetch(release, debug=True, headers=True)
            except LabError as error:
                pytest.skip(f"no debug package of {release}: {error}")
            command = [sys.executable, "-m", "hvoinspect", "hotpath", "sites"]
            subprocess.run(
                [*command, "--vmlinux", str(kernel.vmlinux), "-o", str(path)], check=True
            )
        return path.read_bytes()

    return sites_of


@pytest.fixture
def work(guest: Guest, zap: bytes) -> Iterator[Path]:
    """The workload in the guest; nothing is attached before, and nothing afterwards."""
    program = guest.work / "zap"
    program.write_bytes(zap)
    program.chmod(0o755)
    assert left_behind(guest) == []
    yield program
    assert left_behind(guest) == []


@pytest.fixture
def sites(guest: Guest, sites_of: Callable[[str], bytes]) -> Path:
    path = guest.work / "kernel.sites"
    path.write_bytes(sites_of(guest.kernel.release))
    return path


def left_behind(guest: Guest) -> list[str]:
    """The probes that are attached, and what of ours is in tracefs."""
    probes = guest.read_file("/sys/kernel/debug/kprobes/list").decode().splitlines()
    events = guest.read_file("/sys/kernel/tracing/kprobe_events").decode().splitlines()
    instances = guest.run("ls /sys/kernel/tracing/instances").stdout.split()
    return probes + events + instances


def record(guest: Guest, *arguments: object) -> dict[str, Any]:
    """Record, and return the run."""
    command = [*RECORD, "--json", *map(str, arguments)]
    done = guest.run(command, cwd=PROJECT, timeout=SECONDS)
    run: dict[str, Any] = json.loads(done.stdout)
    return run


def failed(guest: Guest, *arguments: object) -> Completed:
    command = [*RECORD, *map(str, arguments)]
    return guest.run(command, cwd=PROJECT, check=False, timeout=SECONDS)


def hits(run: dict[str, Any], helper: str = "_compound_head") -> dict[str, int]:
    return {c["function"]: c["hits"] for c in run["counts"] if c["helper"] == helper}


@kernels_with_sites
@pytest.mark.parametrize("backend", ["bcc", "tracefs"])
def test_each_run_of_a_copy_is_counted(guest: Guest, work: Path, sites: Path, backend: str) -> None:
    only = ["--command-only"] if backend == "bcc" else []
    run = record(
        guest,
        *("--backend", backend, "--sites", sites, "--units", ZAPS, "--unit", "zap", *only),
        *("--", work, ZAPS),
    )
    assert (run["mode"], run["coverage"]["backend"]) == ("sites", backend)
    assert {name: hits(run)[name] for name in ONCE_A_ZAP} == dict.fromkeys(ONCE_A_ZAP, ZAPS)
    # The others run for the rest of the process too: a program is loaded, and ends.
    surplus = 1_000 if backend == "bcc" else 3_000
    assert ZAPS <= hits(run)["free_pages_and_swap_cache"] <= ZAPS + surplus
    assert run["workload"]["units"] == ZAPS
    assert run["coverage"]["missed"] <= ZAPS // 100

    coverage = run["coverage"]
    refused = coverage["refused"]
    assert coverage["attached"] + len(refused) == coverage["sites"]
    assert all("EINVAL" not in item["reason"] for item in refused), "a reason that is not known"
    # The check for fake heads begins with a static branch, where no probe can be.
    heads = [item for item in refused if item["helper"] != "page_fixed_fake_head"]
    checks = sum(c["sites"] for c in run["counts"] if c["helper"] == "page_fixed_fake_head")
    probed = coverage["attached"] - checks
    assert probed > 0.9 * (probed + len(heads))
    assert {item["reason"] for item in heads} <= {
        "the function is notrace",
        "the kernel forbids probes there (kprobes/blacklist)",
        "its code is freed after boot",
        "a static branch is there, which the kernel rewrites",
    }


@pytest.mark.parametrize("guest", [Config("6.1"), *WITH_DWARF], indirect=True, ids=str)
def test_calls_are_exact_without_debug_data(guest: Guest, work: Path) -> None:
    run = record(guest, "--mode", "functions", "--command-only", "--", work, 2 * ZAPS)
    calls = hits(run, helper="")
    assert run["coverage"]["backend"] == "bcc"
    assert calls["fault_dirty_shared_page"] == 2 * ZAPS
    assert 2 * ZAPS <= calls["free_pages_and_swap_cache"] <= 2 * ZAPS + 100
    assert "kfree" in calls
    assert run["coverage"]["loops"]


@without_headers
def test_without_headers_tracefs_counts_and_it_says_so(guest: Guest, work: Path) -> None:
    """Debian has no headers of these any more."""
    run = record(guest, "--", work, ZAPS)
    assert (run["mode"], run["coverage"]["backend"]) == ("functions", "tracefs")
    assert hits(run, helper="")["fault_dirty_shared_page"] == ZAPS
    assert any("headers" in note for note in run["coverage"]["notes"])


@newest
def test_samples_fall_into_the_functions_that_have_copies(
    guest: Guest, work: Path, sites: Path
) -> None:
    """Into the copies themselves, some 20 bytes each, few fall, and here maybe none."""
    run = record(guest, "--mode", "sample", "--", work, 15 * ZAPS)
    coverage = run["coverage"]
    assert coverage["clock"] == "cpu-clock"  # there is no PMU under emulation
    assert 0 < coverage["inside"] < coverage["samples"]
    assert sum(c["hits"] for c in run["counts"]) >= coverage["inside"]

    copies = record(guest, "--mode", "sample", "--sites", sites, "--", work, 4 * ZAPS)["coverage"]
    assert 0 <= copies["inside"] < copies["samples"] / 10


@newest
def test_a_budget_gives_the_hottest_up(guest: Guest, work: Path) -> None:
    """No budget of a thousandth of a CPU lasts while a page is zapped all the time."""
    done = failed(
        guest, "--json", "--mode", "functions", "--budget", "0.1", "-d", "8", "--", work, 10**9
    )
    run = json.loads(done.stdout)
    assert done.returncode == 4
    given_up = {item["function"] for item in run["coverage"]["detached"]}
    assert "fault_dirty_shared_page" in given_up
    assert run["coverage"]["attached"] > len(given_up)


@newest
def test_a_cgroup_is_counted_alone(guest: Guest, work: Path) -> None:
    guest.run("mkdir -p /sys/fs/cgroup/in /sys/fs/cgroup/in/below /sys/fs/cgroup/out")
    shell = [
        "sh",
        "-c",
        'for group in in/below out; do sh -c "echo \\$\\$ > '
        '/sys/fs/cgroup/$group/cgroup.procs; exec $0 $1"; done',
        work,
        ZAPS,
    ]
    run = record(guest, "--mode", "functions", "--cgroup", "/sys/fs/cgroup/in", "--", *shell)
    assert hits(run, helper="")["fault_dirty_shared_page"] == ZAPS


@newest
@pytest.mark.parametrize(
    ("backend", "signal"), [("bcc", "TERM"), ("tracefs", "TERM"), ("tracefs", "KILL")]
)
def test_no_signal_leaves_a_probe(guest: Guest, work: Path, backend: str, signal: str) -> None:
    """Those of bcc are a process's own, and end with it; those of tracefs are the kernel's."""
    out = guest.work / f"{backend}-{signal}.json"
    command = [*RECORD, "--mode", "functions", "--backend", backend, "-d", "600", "-o", str(out)]
    running = guest.start(["sh", "-c", 'echo $$; exec "$@"', "-", *command], cwd=PROJECT)
    wait_for(lambda: len(probes(guest)) > 300)
    wait_for(lambda: is_steady(lambda: len(probes(guest))))  # all are attached, and it counts
    process = running.output.read_text().strip()
    guest.run(["kill", f"-{signal}", process])
    done = running.wait(SECONDS)
    wait_for(lambda: left_behind(guest) == [])
    if signal == "KILL":
        assert done.returncode == -9
        assert not out.exists()
    else:
        assert done.returncode == 4, done
        assert json.loads(out.read_text())["workload"]["ended"] == f"SIG{signal}"


def probes(guest: Guest) -> list[str]:
    return guest.read_file("/sys/kernel/debug/kprobes/list").decode().splitlines()


def is_steady(number: Callable[[], int]) -> bool:
    before = number()
    time.sleep(8)
    return number() == before


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.parametrize("guest", [Config("7.1")], indirect=True, ids=str)
def test_the_last_kernel_with_fake_heads_beside_the_first_without(
    guest: Guest, lab_pool: LabPool, zap: bytes, tmp_path: Path
) -> None:
    """Of the same work both do as much, by functions that both have; one is renamed in between."""
    for kernel, runs in (("7.0", 2), ("7.1", 4)):
        each = lab_pool.guest(Config(kernel))
        program = each.work / "zap"
        program.write_bytes(zap)
        program.chmod(0o755)
        for number in range(runs):
            side = tmp_path / f"{kernel}-{number // 2}"
            side.mkdir(exist_ok=True)
            run = record(each, "--units", ZAPS, "--unit", "zap", "--", program, ZAPS)
            (side / f"{number}.json").write_text(json.dumps(run))

    found = compared(tmp_path / "7.0-0", tmp_path / "7.1-0")
    assert (found["before"]["tail"], found["after"]["tail"]) == ("pointer", "mask")
    rows = {row["function"]: row for row in found["functions"]}
    for function in ONCE_A_ZAP:
        assert rows[function]["per_unit"]["ratio"] == pytest.approx(1, abs=0.001)
        assert rows[function]["per_unit"]["significant"] is False
    assert rows["__zap_vma_range"]["renamed_from"] == "unmap_page_range"

    itself = compared(tmp_path / "7.1-0", tmp_path / "7.1-1")
    zapping = [row for row in itself["functions"] if (row["per_unit"]["before"] or 0) > 0.5]
    assert len(zapping) > 5
    assert [row["function"] for row in zapping if row["per_unit"]["significant"]] == []


def compared(before: Path, after: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "hvoinspect", "hotpath", "compare", "--json"]
    done = subprocess.run(
        [*command, str(before), str(after)], capture_output=True, check=True, cwd=PROJECT
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class TestBadInput:
    @newest
    def test_without_root(self, guest: Guest, work: Path) -> None:
        done = as_nobody(guest, "hotpath", "record", "-d", "1")
        why, remedy = two_lines(done)
        assert (done.returncode, "root" in why, "sudo" in remedy) == (3, True, True)

    @newest
    def test_sites_of_another_build(
        self, guest: Guest, work: Path, sites_of: Callable[[str], bytes]
    ) -> None:
        other = guest.work / "other.sites"
        other.write_bytes(sites_of("6.12"))
        done = failed(guest, "--sites", other, "-d", "1")
        why, _ = two_lines(done)
        assert (done.returncode, "another kernel" in why) == (3, True)

    @newest
    def test_no_headers(self, guest: Guest, work: Path) -> None:
        command = ["env", "-u", "BCC_KERNEL_SOURCE", *RECORD, "--backend", "bcc", "-d", "1"]
        done = guest.run(command, cwd=PROJECT, check=False)
        why, remedy = two_lines(done)
        assert (done.returncode, "headers" in why, "--backend tracefs" in remedy) == (3, True, True)

    @newest
    def test_no_bcc(self, guest: Guest, work: Path) -> None:
        """Another package of that name comes first, as in an environment with PyPI's."""
        other = guest.work / "other"
        (other / "bcc").mkdir(parents=True)
        (other / "bcc/__init__.py").touch()
        done = guest.run(
            [*RECORD, "--backend", "bcc", "-d", "1"],
            cwd=PROJECT,
            check=False,
            env={"PYTHONPATH": str(other)},
        )
        why, remedy = two_lines(done)
        assert (done.returncode, "another package" in why) == (3, True)
        assert "pip uninstall bcc" in remedy

    @newest
    def test_a_command_that_is_not_there(self, guest: Guest, work: Path) -> None:
        done = failed(guest, "--", "no-such-program")
        why, _ = two_lines(done)
        assert (done.returncode, "no-such-program" in why) == (2, True)

    @newest
    def test_a_command_that_fails_is_told_and_the_result_is_kept(
        self, guest: Guest, work: Path
    ) -> None:
        """Its own status is in the result: 2 and 3 of this program mean something else."""
        done = failed(guest, "--backend", "tracefs", "--json", "--", "sh", "-c", "exit 3")
        run = json.loads(done.stdout)
        assert (done.returncode, run["workload"]["status"]) == (1, 3)
        assert done.stderr == "hvoinspect: the command ended with status 3\n"
