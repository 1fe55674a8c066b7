"""A kernel that is scanned again and again is opened once, and anew when it must be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drgn import FaultError

from hvoinspect.api import watch
from hvoinspect.api.watch import Watched
from hvoinspect.errors import HvoinspectError
from hvoinspect.target.choice import Target
from hvoinspect.target.denied import no_kcore
from hvoinspect.target.layout import Hvo, Kernel, Sections
from tests.madeup import ORDER_2M, SECTION_PAGES, Machine
from tests.report.situations import partial


def machine() -> Machine:
    made = Machine((0, 1))
    made.hugetlb(5 << ORDER_2M)
    return made


class Opener:
    """Stands for `open_target`: hands out made-up kernels, and counts how often."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.opened = 0
        self.refuses: Exception | None = None

    def __call__(self, target: Target) -> Kernel:
        assert target == Target()
        self.opened += 1
        if self.refuses is not None:
            raise self.refuses
        return self.kernel


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Opener:
    found = Opener(replace(machine().kernel(), live=True))
    monkeypatch.setattr(watch, "open_target", found)
    return found


def test_it_is_opened_once(opener: Opener) -> None:
    watched = Watched(Target())
    totals = {watched.scan()["pages"]["total"] for _ in range(3)}
    assert (opener.opened, totals) == (1, {2 * SECTION_PAGES})


def test_what_it_says_of_hvo_is_read_anew(opener: Opener) -> None:
    says = Hvo(supported=True, enabled=False, has_shared_tails=False)
    opener.kernel = replace(opener.kernel, hvo_now=lambda: says)
    watched = Watched(Target())
    watched.scan()
    assert watched.scan()["encoding"]["hvo_enabled"] is False
    says = replace(says, enabled=True)
    assert watched.scan()["encoding"]["hvo_enabled"] is True
    assert opener.opened == 1


def test_it_is_opened_anew_after_memory_was_plugged(opener: Opener) -> None:
    known = opener.kernel.sections
    now = known
    opener.kernel = replace(opener.kernel, sections_now=lambda: now)
    watched = Watched(Target())
    watched.scan()
    watched.scan()
    assert opener.opened == 1
    now = Sections(known.pages, known.numbers[:1], np.array([True]))
    opener.kernel = replace(opener.kernel, sections=now)
    assert watched.scan()["pages"]["total"] == SECTION_PAGES
    assert opener.opened == 2


@pytest.mark.parametrize("error", [FaultError("gone", 0), OSError(5, "Input/output error")])
def test_it_is_opened_anew_after_a_scan_that_failed(opener: Opener, error: Exception) -> None:
    def fail() -> Sections:
        raise error

    whole = opener.kernel
    opener.kernel = replace(whole, sections_now=fail)
    watched = Watched(Target())
    with pytest.raises(HvoinspectError, match="cannot be read any more"):
        watched.scan()
    opener.kernel = whole
    assert watched.scan()["coverage"]["fraction"] == 1.0
    assert opener.opened == 2


def test_it_is_opened_anew_after_one_that_could_not_see_everything(opener: Opener) -> None:
    opener.kernel = replace(partial().kernel(), live=True)
    watched = Watched(Target())
    assert watched.scan()["coverage"]["fraction"] < 1.0
    watched.scan()
    assert opener.opened == 2


def test_a_dump_that_lacks_some_is_not(opener: Opener) -> None:
    opener.kernel = partial().kernel()
    watched = Watched(Target())
    watched.scan()
    watched.scan()
    assert opener.opened == 1


def test_one_that_cannot_be_opened_is_tried_again(opener: Opener) -> None:
    opener.refuses = HvoinspectError("no guest", "start it")
    watched = Watched(Target())
    with pytest.raises(HvoinspectError, match="no guest"):
        watched.scan()
    opener.refuses = None
    assert watched.scan()["pages"]["total"] == 2 * SECTION_PAGES


def test_a_scan_that_is_stopped_leaves_it_usable(opener: Opener) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    watched = Watched(Target())
    with pytest.raises(KeyboardInterrupt):
        watched.scan(stop)
    assert watched.scan()["coverage"]["fraction"] == 1.0


def test_without_kcore_there_is_the_kernels_own_view(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener.refuses = no_kcore(PermissionError(), root=False)
    asked: list[str] = []

    def own_view(error: HvoinspectError, *_: object) -> dict[str, str]:
        asked.append(error.why)
        return {"schema": "the view"}

    monkeypatch.setattr(watch, "own_view", own_view)
    watched = Watched(Target())
    assert [watched.scan()["schema"] for _ in range(2)] == ["the view"] * 2
    assert len(asked) == 2


def test_an_option_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    with pytest.raises(HvoinspectError, match="no file"):
        Watched(Target(demo="after", symbols=tmp_path / "vmlinux")).scan()
