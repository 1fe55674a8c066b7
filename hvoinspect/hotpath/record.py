"""Counts while something runs, and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hvoinspect.hotpath.backend import Cost, Counter
from hvoinspect.hotpath.budget import Load, load_of, too_dear
from hvoinspect.hotpath.workload import Command, Stopped, undisturbed, wait

BUDGET_SECONDS = 0.5
"""How often the budget is looked at."""


@dataclass(frozen=True)
class Work:
    """How long to count: while a command runs, for some seconds, for the shorter of both, or,
    without either, until it is stopped.
    """  # noqa: D205

    command: Command | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Recording:
    """What was counted.

    `hits` are by address. `refused` are addresses that could not be probed, with the kernel's
    reason, `given_up` those that were detached to keep to the budget, with the percent of a CPU
    each took. `missed` hits were not counted. `ended` is what ended it: "time", "command", or a
    signal's name. `load` is of the whole time, None if it cannot be known.
    """

    hits: Mapping[int, int]
    seconds: float
    ended: str
    refused: Mapping[int, str] = field(default_factory=dict)
    given_up: Mapping[int, float] = field(default_factory=dict)
    missed: int = 0
    load: Load | None = None


Show = Callable[[Mapping[int, int], float], None]
"""Called with the hits so far and the seconds gone by."""


def record(
    counter: Counter,
    addresses: Sequence[int],
    work: Work,
    *,
    budget: float | None = None,
    interval: float | None = None,
    show: Show = lambda _hits, _seconds: None,
    ready: Callable[[], None] = lambda: None,
) -> Recording:
    """Attach, count while the work is done, and detach, whatever happens.

    `budget` is how many percent of one CPU counting may take. `show` is called every `interval`
    seconds, `ready` when all is attached. Raises HvoinspectError, and Stopped if it was stopped
    before anything was counted.
    """
    try:
        refused = counter.attach(addresses)
        ready()
        return _count(counter, refused, work, budget=budget, interval=interval, show=show)
    finally:
        with undisturbed():
            counter.close()
            if work.command is not None:
                work.command.end()


def _count(
    counter: Counter,
    refused: Mapping[int, str],
    work: Work,
    *,
    budget: float | None,
    interval: float | None,
    show: Show,
) -> Recording:
    before, cost_before = counter.read(), counter.cost()
    watch = _Watch(counter, budget, before, cost_before)

    def tick(gone: float) -> None:
        now = watch.look(gone)
        show(_less(now, before), gone)

    if budget is not None:
        interval = min(interval or BUDGET_SECONDS, BUDGET_SECONDS)
    begun = time.monotonic()
    try:
        if work.command is not None:
            work.command.start()
        own_end = wait(work.command, work.seconds, interval, tick)
        ended = "command" if work.command is not None and own_end else "time"
    except Stopped as stopped:
        ended = stopped.name
    with undisturbed():
        seconds = time.monotonic() - begun
        hits = _less(counter.read(), before)
        cost = counter.cost()
        return Recording(
            hits=hits,
            seconds=seconds,
            ended=ended,
            refused=refused,
            given_up=watch.given_up,
            missed=counter.missed(),
            load=load_of(cost_before, cost, seconds) if cost_before and cost else None,
        )


class _Watch:
    """Looks at what counting costs, and gives up what is too dear."""

    def __init__(
        self, counter: Counter, budget: float | None, hits: Mapping[int, int], cost: Cost | None
    ) -> None:
        self._counter = counter
        self._budget = budget
        self._hits, self._cost, self._gone = hits, cost, 0.0
        self.given_up: dict[int, float] = {}

    def look(self, gone: float) -> Mapping[int, int]:
        """Return the hits now, after keeping to the budget."""
        hits, cost = self._counter.read(), self._counter.cost()
        if self._budget is not None and cost is not None and self._cost is not None:
            load = load_of(self._cost, cost, gone - self._gone)
            recent = {
                address: number
                for address, number in _less(hits, self._hits).items()
                if address not in self.given_up
            }
            dear = too_dear(recent, load, self._budget)
            self._counter.detach(dear)
            self.given_up.update(dear)
        self._hits, self._cost, self._gone = hits, cost, gone
        return hits


def _less(now: Mapping[int, int], before: Mapping[int, int]) -> dict[int, int]:
    return {address: number - before.get(address, 0) for address, number in now.items()}
