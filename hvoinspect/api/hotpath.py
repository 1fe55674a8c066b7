"""What `hotpath record` asks: how often the hot path of the running kernel runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from hvoinspect.hotpath.outcome import counts_of, run_of
from hvoinspect.hotpath.plan import Plan, Wish, check_root, choose
from hvoinspect.hotpath.record import Work, record
from hvoinspect.hotpath.run import Count, Run
from hvoinspect.hotpath.workload import Command, Request, stoppable
from hvoinspect.report.result import kernel_json, own_encoding
from hvoinspect.target import kernelview


class Watch(Protocol):
    """Sees a recording grow."""

    interval: float
    """Seconds between two looks."""

    def attached(self, plan: Plan) -> None:
        """Hear that all is attached and counting begins."""

    def show(self, counts: Sequence[Count], seconds: float) -> None:
        """See the counts so far, and the seconds they took."""


def record_hot_path(wish: Wish, request: Request, watch: Watch | None = None) -> Run:
    """Count the hot path of the running kernel while a command runs or for some time.

    `watch` sees the counts as they grow. SIGINT, SIGTERM and SIGHUP end it early, and what was
    counted so far is returned; call it in the main thread. Raises HvoinspectError.
    """
    check_root()
    told = kernelview.identify()
    kernel, encoding = kernel_json(told.identity), own_encoding(told)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stoppable())
        command = None
        if request.command:
            command = Command(request)
            stack.callback(command.end)
        only = wish.only
        if request.command_only and command is not None:
            only = replace(only, process=command.process)
        plan = choose(replace(wish, only=only), told.identity.build_id, encoding["tail"])
        stack.callback(plan.counter.close)
        recording = record(
            plan.counter,
            list(plan.points.keys) if plan.points else [],
            Work(command, request.seconds),
            budget=wish.budget,
            interval=watch.interval if watch else None,
            show=lambda hits, gone: watch.show(counts_of(plan, hits), gone) if watch else None,
            ready=lambda: watch.attached(plan) if watch else None,
        )
    workload: dict[str, object] = {
        "command": list(request.command) or None,
        "status": command.status if command else None,
        "asked": request.seconds,
        "pid": wish.only.process,
        "cgroup": str(wish.only.cgroup) if wish.only.cgroup else None,
        "command_only": request.command_only or None,
        "units": request.units,
        "unit": request.unit,
    }
    return run_of(plan, recording, kernel=dict(kernel), encoding=dict(encoding), workload=workload)
