"""Scans in a thread of their own, so that keys are answered meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvoinspect.api.progress import Progress
    from hvoinspect.report.result import ScanResult

PATIENCE_SECONDS = 5.0
"""How long a scan that is to stop may take for it; reading a chunk takes less."""


class _StoppedError(Exception):
    """Nobody waits for this scan any more."""


class Worker:
    """Makes one scan after the other, when asked. `told` is called in the thread after each."""

    def __init__(self, scan: Callable[[Progress], ScanResult], told: Callable[[], None]) -> None:
        self._scan, self._told = scan, told
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[ScanResult | BaseException] = queue.SimpleQueue()
        self._stopped = False
        self.progress: tuple[int, int] | None = None
        """How much of how much the scan that is being made has done; None if none is."""
        # A daemon: what hangs in a read, of a guest that is paused, must not keep the process.
        self._thread = threading.Thread(target=self._run, name="scan", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Begin a scan; there must be none."""
        self.progress = (0, 0)
        self._asked.put(True)

    def outcome(self) -> ScanResult | BaseException | None:
        """Return what a scan came to or raised, once; None if none has ended."""
        try:
            found = self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self.progress = None
        return found

    def end(self) -> None:
        """Stop, in the midst of a scan too, and wait for it."""
        self._stopped = True
        self._asked.put(False)
        self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        while self._asked.get():
            found: ScanResult | BaseException
            try:
                found = self._scan(self._hear)
            except _StoppedError:
                return
            except BaseException as error:  # noqa: BLE001 - the main thread tells it
                found = error
            self._outcomes.put(found)
            self._told()

    def _hear(self, done: int, total: int) -> None:
        if self._stopped:
            raise _StoppedError
        self.progress = (done, total)
