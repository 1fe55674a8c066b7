"""Whole questions in one call: what a scan of the running kernel falls back to, and its notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hvoinspect.api import scan as api
from hvoinspect.errors import HvoinspectError
from hvoinspect.target import kernelview
from hvoinspect.target.choice import Target
from hvoinspect.target.denied import NoKcoreError
from hvoinspect.target.kernelview import COMPOUND_HEAD, COMPOUND_TAIL
from hvoinspect.target.layout import Source
from tests.madeup import Machine
from tests.report.situations import HUGE, view


def raiser(error: Exception) -> Callable[..., Any]:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    return fail


NO_KCORE = NoKcoreError("there is no /proc/kcore here", "run it on the host")


class TestWithoutKcore:
    def test_the_kernels_own_view_says_why_it_is_only_that(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api, "open_target", raiser(NO_KCORE))
        monkeypatch.setattr(kernelview, "look", lambda progress: view())
        result = api.scan_target(Target())
        assert result["source"]["kind"] == "kpageflags"
        assert result["notes"][0] == (
            "the kernel's own view only: there is no /proc/kcore here; run it on the host."
        )

    def test_where_that_cannot_be_had_either_both_reasons_are_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api, "open_target", raiser(NO_KCORE))
        monkeypatch.setattr(
            kernelview, "look", raiser(HvoinspectError("kpageflags is gone", "mount it"))
        )
        with pytest.raises(HvoinspectError) as caught:
            api.scan_target(Target())
        assert caught.value.why == "there is no /proc/kcore here, and kpageflags is gone"
        assert caught.value.remedy == "run it on the host"

    def test_a_kernel_that_is_not_understood_is_no_reason_for_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api, "open_target", raiser(HvoinspectError("damaged", "mend it")))
        monkeypatch.setattr(kernelview, "look", raiser(AssertionError("asked")))
        with pytest.raises(HvoinspectError, match="damaged"):
            api.scan_target(Target())


class TestKpageflagsNote:
    @pytest.mark.parametrize(
        ("flags", "noted"), [(COMPOUND_HEAD, True), (COMPOUND_TAIL, False), (None, False)]
    )
    def test_a_kernel_that_takes_a_fake_head_for_a_head_is_told_of(
        self, monkeypatch: pytest.MonkeyPatch, flags: int | None, noted: bool
    ) -> None:
        """It is asked about the first fake head, 64 struct pages after the real one."""
        asked: list[int] = []

        def answer(pfn: int) -> int | None:
            asked.append(pfn)
            return flags

        machine = Machine((0,), tail="pointer", live=True)
        machine.hugetlb(HUGE)
        kernel = replace(machine.kernel(), source=Source("kcore", None, ("vmcoreinfo", "btf")))
        monkeypatch.setattr(api, "open_target", lambda _target: kernel)
        monkeypatch.setattr(kernelview, "read_kpageflags", answer)
        assert any("kpageflags" in note for note in api.scan_target(Target())["notes"]) == noted
        assert asked == [HUGE + 64]

    def test_a_kernel_without_fake_heads_is_not_asked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        machine = Machine((0,), tail="mask", live=True)
        machine.hugetlb(HUGE)
        kernel = replace(machine.kernel(), source=Source("kcore", None, ("vmcoreinfo", "btf")))
        monkeypatch.setattr(api, "open_target", lambda _target: kernel)
        monkeypatch.setattr(kernelview, "read_kpageflags", raiser(AssertionError("asked")))
        assert api.scan_target(Target())["notes"] == []
