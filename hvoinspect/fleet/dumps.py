"""Many dumps, scanned on a cluster: each by a worker, whatever becomes of the others."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hvoinspect.errors import HvoinspectError, printable
from hvoinspect.extras import needed
from hvoinspect.fleet.one_dump import Scanned, kill_running, scan_dump

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 15
"""For which a scheduler is waited for."""

WORKERLESS_SECONDS = 60.0
"""For which a cluster may be without workers: they may be starting, or be started anew."""

POLL_SECONDS = 2.0


@contextlib.contextmanager
def cluster(scheduler: str | None, jobs: int | None) -> Iterator[Client]:
    """Give a client of the Dask scheduler at an address, or of one in this process.

    The latter scans `jobs` dumps at a time, or as many as there are processors. Raises
    HvoinspectError if Dask is not installed, or the scheduler cannot be reached.
    """
    needed("fleet", "distributed")
    from distributed import Client, LocalCluster  # noqa: PLC0415

    _hush()
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            address = stack.enter_context(
                LocalCluster(
                    n_workers=1,
                    threads_per_worker=jobs or len(os.sched_getaffinity(0)),
                    processes=False,  # each scan is a process of its own anyway
                    dashboard_address=None,
                    # Its HTTP server all the same: where no other cluster of this host is.
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                    memory_limit=0,
                )
            )
        else:
            address = scheduler
        try:
            client = stack.enter_context(Client(address, timeout=CONNECT_SECONDS))
        except (OSError, TimeoutError, ValueError, TypeError, ImportError) as error:
            raise HvoinspectError(
                f"the Dask scheduler at {scheduler} cannot be reached: {_reason(error)}",
                "give the address that `dask scheduler` prints, as tcp://host:8786",
            ) from error
        if scheduler is None:
            stack.callback(kill_running)  # before what waits for it
        yield client


def _hush() -> None:
    """Let Dask log nothing: what ails a cluster is told by what came of the dumps."""
    for name in ("asyncio", "tornado", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in {"asyncio", "distributed", "tornado"}:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def scan_dumps(
    client: Client, dumps: Sequence[Path], seconds: int
) -> Iterator[tuple[Path, Scanned]]:
    """Scan `dumps`, and yield what came of each as it comes; each gets `seconds`.

    If a worker dies, its dumps are scanned by others. A dump that several workers died with (Dask's
    setting distributed.scheduler.allowed-failures) may be one that only waited there: at the end
    each of these is tried again alone, and given up if that ends the same way. So are all that are
    left once there are no workers, or is no scheduler, any more.
    """
    suspects: list[Path] = []
    for dump, came in _scan_together(client, dumps, seconds):
        if came is KILLED:
            suspects.append(dump)
        else:
            yield dump, came
    for dump in suspects:
        yield from _scan_together(client, [dump], seconds)


def _scan_together(
    client: Client, dumps: Sequence[Path], seconds: int
) -> Iterator[tuple[Path, Scanned]]:
    ended: queue.Queue[Future[Scanned]] = queue.Queue()
    pending = {
        client.submit(scan_dump, os.path.abspath(dump), seconds, pure=False): dump  # noqa: PTH100
        for dump in dumps
    }
    for future in pending:
        future.add_done_callback(ended.put)
    seen = time.monotonic()
    try:
        while pending:
            try:
                future = ended.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if _has_workers(client):
                    seen = time.monotonic()
                elif time.monotonic() - seen > WORKERLESS_SECONDS:
                    yield from ((dump, _lost("no worker is left")) for dump in pending.values())
                    return
                continue
            seen = time.monotonic()
            yield pending.pop(future), _outcome(future)
    finally:
        with contextlib.suppress(Exception):  # the cluster may be gone
            client.cancel(list(pending))


def _has_workers(client: Client) -> bool:
    try:
        return client.status == "running" and bool(client.nthreads())
    except Exception:  # noqa: BLE001 - a scheduler that is gone is told in many ways
        return False


def _outcome(future: Future[Scanned]) -> Scanned:
    """Return what came of a dump, whatever it was."""
    if future.status == "finished":
        try:
            return Scanned(*future.result(timeout=CONNECT_SECONDS))
        except Exception as error:  # noqa: BLE001 - its worker died before it was asked
            return _lost(f"what came of it was lost: {_reason(error)}")
    if future.status == "cancelled":
        return _lost("the cluster gave it up")
    why: BaseException | None
    try:
        why = future.exception(timeout=CONNECT_SECONDS)
    except Exception as error:  # noqa: BLE001 - as above
        why = error
    if type(why).__name__ == "KilledWorker":
        return KILLED
    return _lost(f"the worker could not scan it: {_reason(why)}")


def _reason(error: BaseException | None) -> str:
    """Return one line, of what may be many."""
    lines = str(error).strip().splitlines() or [""]
    return printable(f"{type(error).__name__}: {lines[0]}"[:200])


def _lost(why: str) -> Scanned:
    return Scanned(None, None, why, 0.0, "")


KILLED = _lost("all workers that scanned it died")
