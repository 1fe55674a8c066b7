"""What limits a comparison of runs, in sentences: read before its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hvoinspect.hotpath.run import Run

SHOWN_WORDS = 60

NO_LIMITS = {"command", "status", "units", "unit", "asked", "ended"}
"""Members of a run's workload that do not say what was counted: two runs may differ in them."""


def notes(before: Sequence[Run], after: Sequence[Run]) -> Iterator[str]:
    """Yield what a reader must know of the runs of both sides."""
    sides = {"before": before, "after": after}
    if min(len(before), len(after)) < 2:
        yield (
            "a side has one run, which does not tell how much runs differ: the ratios have no "
            "interval, and none is called significant; record two or more runs a side"
        )
    yield from _what_is_counted(before[0])
    yield from _units([*before, *after])
    yield from _workloads(sides)
    for name, runs in sides.items():
        yield from _coverage(name, runs)
        if any(run.encoding != runs[0].encoding for run in runs):
            yield f"the runs {name} differ in how tails are encoded, or in whether HVO was on"


def _what_is_counted(run: Run) -> Iterator[str]:
    if run.mode == "functions":
        yield (
            "hits are calls of the functions, which may run a helper several times, or not at all"
        )
    if run.mode == "sample":
        yield "hits are samples of where CPUs were, a measure of time and not of how often"


def _units(runs: Sequence[Run]) -> Iterator[str]:
    known = [run for run in runs if run.units is not None]
    words = sorted({run.unit for run in known})
    if known and len(known) < len(runs):
        yield (
            f"{len(runs) - len(known)} of {len(runs)} runs do not say how many units of work they "
            "did: rates are per second only"
        )
    elif len(words) > 1:
        yield f"the runs' units of work differ ({', '.join(words)}): rates are per second only"


def _workloads(sides: dict[str, Sequence[Run]]) -> Iterator[str]:
    told = {_workload(run) for runs in sides.values() for run in runs}
    if len(told) > 1:
        yield f"not all runs ran the same: {_listed(sorted(told))}"
    for name, runs in sides.items():
        failed = sum(bool(run.workload.get("status")) for run in runs)
        if failed:
            yield f"the command failed in {failed} of {len(runs)} runs {name}"


def _workload(run: Run) -> str:
    """Return what ran, as one text: the command, and whatever limits what was counted."""
    command = run.workload.get("command")
    if isinstance(command, list):
        words = " ".join(map(str, command))
        # A command that was not waited for has not done its units of work either.
        if run.workload.get("ended") not in {None, "command"}:
            words += " (cut off)"
    else:
        words = "whatever ran by itself"
    limits = [
        f"{name} {value}"
        for name, value in sorted(run.workload.items())
        if name not in NO_LIMITS and value is not None
    ]
    return ", ".join([words, *limits])


def _listed(texts: Sequence[str]) -> str:
    """Return the first two of `texts`, and how many more there are."""
    shown = [text if len(text) <= SHOWN_WORDS else f"{text[:SHOWN_WORDS]}..." for text in texts[:2]]
    more = f" and {len(texts) - 2} more" if len(texts) > 2 else ""
    return "; ".join(shown) + more


def _coverage(name: str, runs: Sequence[Run]) -> Iterator[str]:
    told = [(run.coverage.get("attached"), run.coverage.get("sites")) for run in runs]
    known = [(a, s) for a, s in told if isinstance(a, int) and isinstance(s, int)]
    if len(known) < len(runs):
        yield f"how much was probed is not known of {len(runs) - len(known)} runs {name}"
    missed = [count for run in runs if isinstance(count := run.coverage.get("missed"), int)]
    if any(missed):
        yield f"{name}, {sum(missed):,} hits of all runs were missed: the counts are that much low"
    partial = [(attached, sites) for attached, sites in known if attached < sites]
    if partial:
        attached, sites = min(partial, key=lambda pair: pair[0] / pair[1])
        yield (
            f"{name}, {sites - attached:,} of {sites:,} sites were not probed, so their hits are "
            "missing" + (", in the worst run" if len(set(known)) > 1 else "")
        )
