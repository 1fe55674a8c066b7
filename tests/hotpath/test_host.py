"""What counting in the running kernel takes, on made-up hosts that lack one thing or another."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath import denied
from hvoinspect.hotpath.host import examine, python_bcc
from hvoinspect.hotpath.sitesfile import Sites, sites_json
from hvoinspect.target.host import CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, Check, Host, reach
from tests.madeup_host import ALL, BUILD_ID, NOBODY, NONE, RELEASE, ROOT, MadeUpHost, named, put

SITES = f"var/lib/hvoinspect/sites/{BUILD_ID}.json"
NOT_NEEDED = {"debug_data", "sites"}
"""What a made-up host lacks from the start."""


@pytest.fixture
def madeup(tmp_path: Path) -> MadeUpHost:
    return MadeUpHost(tmp_path)


def checks_of(madeup: MadeUpHost, environment: Mapping[str, str] | None = None) -> dict[str, Check]:
    # A host of its own: one remembers what it has read.
    host = Host(madeup.root, RELEASE, "x86_64")
    bcc = madeup.bcc if madeup.bcc.exists() else None
    return named(tuple(examine(host, environment or {}, lambda: bcc)))


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if not check.ok} - NOT_NEEDED


def says(check: Check, error: HvoinspectError) -> bool:
    """Whether a check says what a command would end with."""
    return not check.ok and (check.found, check.fix) == (error.why, error.remedy)


def test_where_nothing_is_missing_all_is_ok(madeup: MadeUpHost) -> None:
    assert failed(checks_of(madeup)) == set()


def test_what_counting_lacks_does_not_change_what_a_scan_shows(madeup: MadeUpHost) -> None:
    madeup.take("sys/kernel/tracing/kprobe_events", "python/bcc/libbcc.py")
    madeup.take("sys/bus/event_source/devices/kprobe/type", "sys/bus/event_source/devices/cpu/type")
    assert reach(tuple(checks_of(madeup).values())) == "full"


class TestKprobes:
    def test_none(self, madeup: MadeUpHost) -> None:
        madeup.take("sys/kernel/tracing/kprobe_events", "sys/bus/event_source/devices/kprobe/type")
        checks = checks_of(madeup)
        assert says(checks["kprobes"], denied.no_kprobes())
        assert says(checks["tracefs"], denied.no_events())

    @pytest.mark.parametrize(
        "gone", ["sys/kernel/tracing/kprobe_events", "sys/bus/event_source/devices/kprobe/type"]
    )
    def test_one_of_two_ways_is_enough(self, madeup: MadeUpHost, gone: str) -> None:
        madeup.take(gone)
        assert failed(checks_of(madeup)) <= {"tracefs"}

    def test_switched_off(self, madeup: MadeUpHost) -> None:
        madeup.put("sys/kernel/debug/kprobes/enabled", b"0\n")
        assert says(checks_of(madeup)["kprobes"], denied.kprobes_off())

    def test_tracefs_where_it_used_to_be_mounted(self, madeup: MadeUpHost) -> None:
        madeup.take("sys/kernel/tracing/kprobe_events")
        madeup.put("sys/kernel/debug/tracing/kprobe_events", b"")
        assert failed(checks_of(madeup)) == set()

    def test_events_that_cannot_be_opened(self, madeup: MadeUpHost) -> None:
        madeup.break_("sys/kernel/tracing/kprobe_events")
        path = madeup.root / "sys/kernel/tracing/kprobe_events"
        error = denied.closed_events(path, IsADirectoryError(21, "Is a directory"))
        assert says(checks_of(madeup)["tracefs"], error)


class TestBcc:
    def test_pypis(self, madeup: MadeUpHost) -> None:
        """It has the same name, and none of the other's modules."""
        madeup.take("python/bcc/libbcc.py")
        check = checks_of(madeup)["bcc"]
        assert says(check, denied.other_bcc(madeup.bcc))
        assert "pip uninstall bcc" in (check.fix or "")

    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_none(self, madeup: MadeUpHost, elsewhere: bool) -> None:
        madeup.take("python/bcc/libbcc.py")
        madeup.bcc.rmdir()
        if elsewhere:
            madeup.put("usr/lib/python3/dist-packages/bcc/libbcc.py", b"")
        error = denied.no_bcc("it is not in its path", elsewhere=elsewhere)
        assert says(checks_of(madeup)["bcc"], error)

    def test_it_is_found_and_not_imported(
        self, madeup: MadeUpHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(madeup.bcc / "__init__.py", b"raise RuntimeError('it was imported')")
        monkeypatch.delitem(sys.modules, "bcc", raising=False)
        monkeypatch.syspath_prepend(str(madeup.bcc.parent))
        assert python_bcc() == madeup.bcc
        assert "bcc" not in sys.modules


class TestHeaders:
    def test_none(self, madeup: MadeUpHost) -> None:
        madeup.take(f"lib/modules/{RELEASE}/build/Makefile")
        (madeup.root / f"lib/modules/{RELEASE}/build").rmdir()
        assert says(checks_of(madeup)["headers"], denied.no_headers(RELEASE, None))
        madeup.put("sys/kernel/kheaders.tar.xz", b"")
        assert checks_of(madeup)["headers"].ok

    def test_given_ones_are_the_only_ones(self, madeup: MadeUpHost) -> None:
        given = {"BCC_KERNEL_SOURCE": str(madeup.root / "none")}
        error = denied.no_headers(RELEASE, given["BCC_KERNEL_SOURCE"])
        assert says(checks_of(madeup, given)["headers"], error)


class TestUser:
    def test_nobody(self, madeup: MadeUpHost) -> None:
        madeup.be(NOBODY, NONE)
        checks = checks_of(madeup)
        assert {"cap_bpf_perfmon", "perf", "root"} <= failed(checks)
        for name in ("cap_bpf_perfmon", "perf", "root"):
            assert checks[name].fix == denied.not_root().remedy

    @pytest.mark.parametrize(
        ("capabilities", "ok"),
        [
            (1 << CAP_BPF | 1 << CAP_PERFMON, True),
            (1 << CAP_SYS_ADMIN, True),
            (ALL & ~(1 << CAP_SYS_ADMIN) & ~(1 << CAP_BPF), False),
            (ALL & ~(1 << CAP_SYS_ADMIN) & ~(1 << CAP_PERFMON), False),
        ],
    )
    def test_old_and_new_capabilities(
        self, madeup: MadeUpHost, capabilities: int, ok: bool
    ) -> None:
        madeup.be(ROOT, capabilities)
        assert checks_of(madeup)["cap_bpf_perfmon"].ok is ok

    @pytest.mark.parametrize(
        ("text", "ok"), [(b"-1\n", True), (b"0\n", True), (b"1\n", False), (b"4\n", False)]
    )
    def test_perf_without_capabilities(self, madeup: MadeUpHost, text: bytes, ok: bool) -> None:
        madeup.be(NOBODY, NONE)
        madeup.put("proc/sys/kernel/perf_event_paranoid", text)
        assert checks_of(madeup)["perf"].ok is ok


class TestSites:
    def test_none(self, madeup: MadeUpHost) -> None:
        assert says(checks_of(madeup)["sites"], denied.no_sites(BUILD_ID))
        madeup.take("sys/kernel/notes")
        assert says(checks_of(madeup)["sites"], denied.no_sites(None))

    def test_the_systems(self, madeup: MadeUpHost) -> None:
        sites = Sites(BUILD_ID, RELEASE, 0xFFFFFFFF81000000, ())
        madeup.put(SITES, sites_json(sites).encode())
        assert checks_of(madeup)["sites"].ok

    def test_of_another_kernel(self, madeup: MadeUpHost) -> None:
        sites = Sites("cd" * 20, "5.0", 0xFFFFFFFF81000000, ())
        madeup.put(SITES, sites_json(sites).encode())
        check = checks_of(madeup)["sites"]
        assert not check.ok
        assert "of another kernel: 5.0" in check.found


def test_a_kernel_without_bpf_and_perf(madeup: MadeUpHost) -> None:
    madeup.take("proc/sys/kernel/unprivileged_bpf_disabled")
    madeup.take("proc/sys/kernel/perf_event_paranoid")
    assert failed(checks_of(madeup)) == {"bpf", "perf"}


def test_a_clock_where_the_cpu_counts_nothing(madeup: MadeUpHost) -> None:
    madeup.take("sys/bus/event_source/devices/cpu/type")
    (madeup.root / "sys/bus/event_source/devices/cpu").rmdir()
    check = checks_of(madeup)["pmu"]
    assert (check.ok, check.fix) == (False, None), "nothing mends it"
    assert failed(checks_of(madeup)) == {"pmu"}


def test_debug_data_that_is_damaged(madeup: MadeUpHost) -> None:
    madeup.put(f"usr/lib/debug/boot/vmlinux-{RELEASE}", b"no ELF file")
    check = checks_of(madeup)["debug_data"]
    assert not check.ok
    assert "is no ELF file" in check.found


def test_an_empty_folder_is_a_host_where_nothing_works(tmp_path: Path) -> None:
    checks = named(tuple(examine(Host(tmp_path, RELEASE, "x86_64"), {}, lambda: None)))
    assert failed(checks) >= {"kprobes", "tracefs", "bcc", "headers", "bpf", "perf", "pmu"}
