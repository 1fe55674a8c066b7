"""Scans that are made for metrics: what is kept of one that fails, and how often they are made."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable

import pytest

from hvoinspect.api.export import attempt, keep_scanning
from hvoinspect.errors import HvoinspectError
from hvoinspect.report.openmetrics import Counts, Snapshot
from hvoinspect.report.result import ScanResult
from tests.report.situations import TAKEN, situation

REFUSED = HvoinspectError("the kernel does not let itself be read", "ask it nicely")
NOW = TAKEN.at.timestamp()


def failing(error: Exception) -> Callable[[], ScanResult]:
    def scan() -> ScanResult:
        raise error

    return scan


class TestAttempt:
    def test_a_scan_that_succeeds(self) -> None:
        result = situation("mask")
        snapshot, failure = attempt(lambda: result, Snapshot())
        assert failure is None
        assert snapshot == Snapshot(result, NOW, result["elapsed_seconds"], NOW)

    @pytest.mark.parametrize("error", [REFUSED, KeyError("a bug"), MemoryError()])
    def test_one_that_fails_keeps_when_one_last_succeeded_and_nothing_else(
        self, error: Exception
    ) -> None:
        before, _ = attempt(lambda: situation("mask"), Snapshot(counts=Counts(4, 1)))
        assert before.counts == Counts(5, 1)
        after, failure = attempt(failing(error), before)
        assert failure is error
        assert (after.result, after.last_success, after.counts) == (None, NOW, Counts(6, 2))
        assert after.begun is not None
        assert after.begun > NOW

    def test_an_interrupt_is_no_failure(self) -> None:
        def scan() -> ScanResult:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            attempt(scan, Snapshot())


class TestKeepScanning:
    def run(
        self, scans: list[Callable[[], ScanResult]], refuse: tuple[int, ...] = ()
    ) -> tuple[list[Snapshot], list[Exception], list[float]]:
        """Make these scans, a minute apart, then be interrupted; publishing some may fail."""
        left = iter(scans)

        def scan() -> ScanResult:
            return next(left)()

        published: list[Snapshot] = []
        told: list[Exception] = []
        slept: list[float] = []

        def publish(snapshot: Snapshot) -> None:
            published.append(snapshot)
            if len(published) - 1 in refuse:
                raise REFUSED

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == len(scans):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            keep_scanning(scan, publish, told.append, 60.0, Snapshot(), sleep)
        return published, told, slept

    def test_it_goes_on_after_scans_that_fail(self) -> None:
        good = lambda: situation("mask")  # noqa: E731
        bug = KeyError("a bug")
        published, told, _ = self.run([failing(REFUSED), good, failing(bug), good])
        assert [snapshot.result is not None for snapshot in published] == [False, True, False, True]
        assert [snapshot.last_success for snapshot in published] == [None, NOW, NOW, NOW]
        assert published[-1].counts == Counts(4, 2)
        assert told == [REFUSED, bug]

    def test_it_goes_on_where_one_cannot_be_published(self) -> None:
        published, told, _ = self.run([lambda: situation("mask")] * 3, refuse=(1,))
        assert len(published) == 3
        assert told == [REFUSED]

    def test_nothing_of_a_scan_piles_up(self) -> None:
        """What a scan leaves behind may refer to itself, as a kernel that was opened does."""

        class Opened:
            def __init__(self) -> None:
                self.itself = self

        left: list[weakref.ref[Opened]] = []

        def scan() -> ScanResult:
            left.append(weakref.ref(Opened()))
            return situation("mask")

        self.run([scan] * 2)
        assert [opened() for opened in left] == [None, None]

    def test_what_a_scan_takes_is_part_of_the_interval(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each look at the clock is 25 s after the last one."""
        ticks = itertools.count(0, 25)
        monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
        _, _, slept = self.run([lambda: situation("mask")] * 2)
        assert slept == [10.0, 10.0]

    def test_one_that_takes_longer_than_the_interval_is_followed_by_the_next(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ticks = itertools.count(0, 600)
        monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
        assert self.run([lambda: situation("mask")])[2] == [0.0]
