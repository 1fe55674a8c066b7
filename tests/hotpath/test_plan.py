"""Which way of counting is chosen, and what is said where a host does not allow it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath import plan, probes
from hvoinspect.hotpath.backend import Filter
from hvoinspect.hotpath.plan import Wish, choose
from hvoinspect.hotpath.probes import check_headers, import_bcc
from hvoinspect.hotpath.sitesfile import Copy, Sites, sites_json
from tests.hotpath.kernel import BASE, make_kernel, put

BUILD_ID = "ab" * 20
SITES = Sites(
    BUILD_ID,
    "made-up",
    BASE,
    (Copy("_compound_head", "first", BASE + 0x20, 8, 2, ((BASE + 0x20, 8),), in_loop=False),),
)


class NoBcc:
    """In place of the counter by bcc, where it is not installed."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        raise HvoinspectError("no bcc here", "install it")


class Fake:
    """In place of a counter."""

    def __init__(self, *_arguments: Any, timed: bool = False, **_options: Any) -> None:
        self.timed = timed


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("BpfCounter", "TracefsCounter", "Sampler"):
        monkeypatch.setattr(plan, name, type(name, (Fake,), {}))
    monkeypatch.setattr(plan, "find_sites", lambda _build_id: None)
    return make_kernel(tmp_path)


@pytest.fixture
def sites_file(tmp_path: Path) -> Path:
    path = tmp_path / "made-up.sites"
    path.write_text(sites_json(SITES))
    return path


def chosen(wish: Wish, root: Path) -> tuple[str, str]:
    made = choose(wish, BUILD_ID, "mask", root)
    return made.mode, type(made.counter).__name__


class TestChoice:
    def test_the_best_is_the_copies_by_bcc(self, root: Path, sites_file: Path) -> None:
        made = choose(Wish(sites=sites_file), BUILD_ID, "mask", root)
        assert (made.mode, type(made.counter).__name__) == ("sites", "BpfCounter")
        assert made.points is not None
        assert list(made.points.keys) == [BASE + 0x20]
        assert made.notes == ()

    def test_a_sites_file_that_is_kept_on_the_host_is_found(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plan, "find_sites", {BUILD_ID: SITES}.get)
        assert chosen(Wish(), root) == ("sites", "BpfCounter")

    def test_without_sites_it_is_the_callers_and_it_says_why(self, root: Path) -> None:
        made = choose(Wish(), BUILD_ID, "mask", root)
        assert made.mode == "functions"
        assert "no sites file" in made.notes[0]
        assert BUILD_ID in made.notes[0]

    def test_without_bcc_it_is_tracefs_and_it_says_why(
        self, root: Path, sites_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plan, "BpfCounter", NoBcc)
        made = choose(Wish(sites=sites_file), BUILD_ID, "mask", root)
        assert (made.mode, type(made.counter).__name__) == ("sites", "TracefsCounter")
        assert made.notes == ("by tracefs: no bcc here; install it",)

    def test_without_kprobes_it_samples_and_it_says_why(self, root: Path) -> None:
        (root / "sys/bus/event_source/devices/kprobe/type").unlink()
        (root / "sys/kernel/tracing/kprobe_events").unlink()
        made = choose(Wish(), BUILD_ID, "mask", root)
        assert (made.mode, type(made.counter).__name__) == ("sample", "Sampler")
        assert any("no kprobes" in note for note in made.notes)

    @pytest.mark.parametrize("mode", ["sites", "functions", "sample"])
    def test_what_is_asked_for_is_what_one_gets(
        self, root: Path, sites_file: Path, mode: Any
    ) -> None:
        sites = None if mode == "functions" else sites_file
        assert chosen(Wish(mode=mode, sites=sites), root)[0] == mode
        assert choose(Wish(mode=mode, sites=sites), BUILD_ID, "mask", root).notes == ()

    @pytest.mark.parametrize("budget", [None, 1.0])
    def test_only_a_budget_lets_the_kernel_take_the_time(
        self, root: Path, budget: float | None
    ) -> None:
        """Timing each hit takes more than counting it does."""
        counter: Any = choose(Wish(budget=budget), BUILD_ID, "mask", root).counter
        assert counter.timed is (budget is not None)


class TestRefused:
    @pytest.mark.parametrize(
        ("wish", "why"),
        [
            (Wish(mode="sites"), "no sites file"),
            (Wish(backend="bcc"), "no bcc here"),
            (Wish(only=Filter(process=1)), "no bcc here"),
            (Wish(budget=1.0), "no bcc here"),
            (Wish(backend="tracefs", only=Filter(process=1)), "everybody's hits"),
            (Wish(backend="tracefs", budget=1.0), "everybody's hits"),
            (Wish(backend="tracefs", mode="sample"), "cannot sample"),
        ],
    )
    def test_what_cannot_be_had_is_an_error_and_not_something_else(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, wish: Wish, why: str
    ) -> None:
        monkeypatch.setattr(plan, "BpfCounter", NoBcc)
        with pytest.raises(HvoinspectError, match=why):
            choose(wish, BUILD_ID, "mask", root)

    def test_sites_of_another_build_are_refused(self, root: Path, sites_file: Path) -> None:
        with pytest.raises(HvoinspectError, match="another kernel"):
            choose(Wish(sites=sites_file), "cd" * 20, "mask", root)

    def test_only_root_may(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(HvoinspectError, match="only root"):
            choose(Wish(), BUILD_ID, "mask", root)

    @pytest.mark.parametrize("mode", ["sites", "functions"])
    def test_probes_are_wanted_and_there_are_none(
        self, root: Path, sites_file: Path, mode: Any
    ) -> None:
        (root / "sys/bus/event_source/devices/kprobe/type").unlink()
        (root / "sys/kernel/tracing/kprobe_events").unlink()
        wish = Wish(mode=mode, sites=sites_file if mode == "sites" else None)
        with pytest.raises(HvoinspectError, match="no kprobes"):
            choose(wish, BUILD_ID, "mask", root)

    def test_kprobes_that_are_switched_off_would_count_nothing(self, root: Path) -> None:
        put(root / "sys/kernel/debug/kprobes/enabled", "0\n")
        with pytest.raises(HvoinspectError, match="switched off"):
            choose(Wish(), BUILD_ID, "mask", root)


class TestBcc:
    def test_pypis_package_of_that_name_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        other = ModuleType("bcc")
        other.__file__ = "/venv/lib/bcc/__init__.py"
        monkeypatch.setitem(sys.modules, "bcc", other)
        with pytest.raises(HvoinspectError, match=r"/venv/lib/bcc.*another package") as error:
            import_bcc()
        assert "pip uninstall bcc" in error.value.remedy

    @pytest.mark.parametrize(
        ("installed", "why"), [(True, "the system's Python, and this is"), (False, "not installed")]
    )
    def test_none_for_this_python(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: bool, why: str
    ) -> None:
        monkeypatch.setitem(sys.modules, "bcc", None)
        monkeypatch.setattr(probes, "SYSTEM_BCC", tmp_path if installed else tmp_path / "none")
        with pytest.raises(HvoinspectError, match=why):
            import_bcc()

    def test_headers_are_looked_for_before_the_compiler_is_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
        with pytest.raises(HvoinspectError, match="headers of kernel") as error:
            check_headers(tmp_path)
        assert f"linux-headers-{os.uname().release}" in error.value.remedy
        (tmp_path / f"lib/modules/{os.uname().release}/build").mkdir(parents=True)
        check_headers(tmp_path)

    def test_headers_elsewhere_must_be_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path / "none"))
        with pytest.raises(HvoinspectError, match="BCC_KERNEL_SOURCE"):
            check_headers(tmp_path)
        monkeypatch.setenv("BCC_KERNEL_SOURCE", str(tmp_path))
        check_headers(tmp_path)
