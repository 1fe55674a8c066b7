"""What `watch` does: scans at an interval, keys answered meanwhile, until it is ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hvoinspect.cli.watch.pace import Pace
from hvoinspect.cli.watch.views import View
from hvoinspect.cli.watch.waiting import Waiting, each_key
from hvoinspect.cli.watch.worker import Worker
from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.report.result import ScanResult, exit_status
from hvoinspect.report.watch import Seen
from hvoinspect.report.watch_screen import Watching

if TYPE_CHECKING:
    from hvoinspect.api.progress import Progress

REDRAW_SECONDS = 0.5
"""How old what is shown of the time may be."""


@dataclass(frozen=True)
class Wish:
    """What was asked for. `count`: after how many scans to end, None if never."""

    interval: float
    count: int | None
    strict: bool


class Loop:
    """Scans again and again, and shows it; `keyboard` is a terminal's descriptor or None."""

    def __init__(
        self,
        scan: Callable[[Progress], ScanResult],
        wish: Wish,
        view: View,
        keyboard: int | None,
    ) -> None:
        self._scan, self._wish, self._view, self._keyboard = scan, wish, view, keyboard
        self._pace = Pace(wish.interval, time.monotonic())
        self._waiting = Waiting(keyboard)
        self._seen: Seen | None = None
        self._failure: HvoinspectError | None = None
        self._begun = self._ended = 0
        self._statuses: set[ExitStatus] = set()
        self._helping = self._quit = False

    def run(self) -> ExitStatus:
        """Go on until the end; return what to exit with.

        Raises HvoinspectError if the first scan tells that what was asked for makes no sense, and
        whatever a bug raises in a scan.
        """
        waiting = self._waiting
        with waiting.hearing():
            worker = Worker(self._scan, waiting.wake)
            try:
                while not self._over():
                    with each_key(self._keyboard), self._view.shown():
                        waiting.suspended = False
                        self._go_on(worker)
                    if waiting.suspended:
                        os.kill(os.getpid(), signal.SIGSTOP)
            finally:
                worker.end()
        return self._status()

    def _over(self) -> bool:
        count = self._wish.count
        return self._quit or self._waiting.ended or (count is not None and self._ended >= count)

    def _go_on(self, worker: Worker) -> None:
        """Scan and show until it is over, or suspended."""
        while not (self._over() or self._waiting.suspended):
            now = time.monotonic()
            if worker.progress is None and self._more() and self._pace.ready(now):
                self._begin(worker, now)
            self._view.draw(self._watching(worker))
            for key in self._waiting.keys(self._patience(worker)):
                self._press(key, worker)
            found = worker.outcome()
            if found is not None:
                self._hear(found)

    def _begin(self, worker: Worker, now: float) -> None:
        self._pace.began(now)
        self._begun += 1
        worker.begin()

    def _more(self) -> bool:
        return self._wish.count is None or self._begun < self._wish.count

    def _patience(self, worker: Worker) -> float:
        if worker.progress is not None or self._pace.paused:
            return REDRAW_SECONDS
        return min(REDRAW_SECONDS, self._pace.due - time.monotonic())

    def _press(self, key: str, worker: Worker) -> None:
        if key in "qQ":
            self._quit = True
        elif key in "pP":
            self._pace.paused = not self._pace.paused
        elif key == " " and worker.progress is None and self._more():
            self._begin(worker, time.monotonic())
        elif key in "?h":
            self._helping = not self._helping

    def _hear(self, found: ScanResult | BaseException) -> None:
        self._ended += 1
        if isinstance(found, HvoinspectError) and found.status != ExitStatus.USAGE:
            self._failure = found
            self._statuses.add(ExitStatus.CANNOT_INSPECT)
            self._view.failed(found)
        elif isinstance(found, BaseException):
            raise found
        else:
            self._failure = None
            self._seen = Seen.after(self._seen, found)
            self._statuses.add(exit_status(found, strict=self._wish.strict))
            self._view.seen(self._seen)

    def _status(self) -> ExitStatus:
        """Return findings if any scan had some, and else what was the worst of any scan."""
        for status in (ExitStatus.FINDINGS, ExitStatus.PARTIAL, ExitStatus.CANNOT_INSPECT):
            if status in self._statuses:
                seen_some = self._seen is not None and status == ExitStatus.CANNOT_INSPECT
                return ExitStatus.PARTIAL if seen_some else status
        return ExitStatus.OK

    def _watching(self, worker: Worker) -> Watching:
        failure = self._failure
        return Watching(
            seen=self._seen,
            failure=None if failure is None else (failure.why, failure.remedy),
            number=self._begun,
            interval=self._pace.interval,
            due=self._pace.due - time.monotonic(),
            progress=worker.progress,
            paused=self._pace.paused,
            keys=self._keyboard is not None,
            helping=self._helping,
        )
