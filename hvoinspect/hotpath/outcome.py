"""Makes of what was counted the run that is kept: counts by function and helper, and coverage."""

from __future__ import annotations

from collections.abc import Mapping

from hvoinspect.hotpath.plan import Plan
from hvoinspect.hotpath.points import counts_of_hits, counts_of_samples, samples_inside
from hvoinspect.hotpath.record import Recording
from hvoinspect.hotpath.run import Count, Run


def run_of(
    plan: Plan,
    recording: Recording,
    *,
    kernel: Mapping[str, object],
    encoding: Mapping[str, object],
    workload: Mapping[str, object],
) -> Run:
    """Return the run of a recording that was made by a plan."""
    return Run(
        kernel=dict(kernel),
        encoding=dict(encoding),
        seconds=round(recording.seconds, 6),
        mode=plan.mode,
        coverage=_coverage(plan, recording),
        counts=counts_of(plan, recording.hits),
        workload={**workload, "ended": recording.ended},
    )


def counts_of(plan: Plan, hits: Mapping[int, int]) -> tuple[Count, ...]:
    """Return what the hits, or samples, at each address come to."""
    if plan.points is not None:
        return counts_of_hits(plan.points, hits)
    assert plan.ranges is not None  # noqa: S101 - a plan has one of them
    return counts_of_samples(plan.ranges, _in_kernel(hits))


def _in_kernel(samples: Mapping[int, int]) -> dict[int, int]:
    return {address: number for address, number in samples.items() if address}


def _coverage(plan: Plan, recording: Recording) -> dict[str, object]:
    """Return what was counted of what should be, and why the rest was not.

    "sites" and "attached" count copies, or functions. "refused" names each that could not be
    probed, "detached" each that was given up to keep to the budget, with the percent of one CPU
    that it took. "missed" hits fell into another's counting and were not counted. Of "samples" on
    CPUs that were busy, "inside" fell into the code that is looked at.
    """
    load = recording.load
    coverage: dict[str, object] = {
        "sites": 0,
        "attached": 0,
        "backend": plan.counter.name,
        "refused": [],
        "detached": [],
        "missed": recording.missed,
        "loops": list(plan.loops),
        "cost": None
        if load is None
        else {
            "nanoseconds_per_hit": round(load.nanoseconds, 1),
            "percent_of_a_cpu": round(load.percent, 3),
        },
        "notes": list(plan.notes),
    }
    if plan.points is not None:
        keys = plan.points.keys
        coverage["sites"] = plan.points.total
        coverage["attached"] = plan.points.attached(recording.hits)
        coverage["refused"] = [
            {"function": function, "helper": helper, "address": address, "reason": reason}
            for function, helper, address, reason in (
                *((*key, None, reason) for key, reason in plan.points.absent.items()),
                *(
                    (*key, f"{address:#x}", plan.forbidden.why(address, said))
                    for address, said in recording.refused.items()
                    for key in keys[address]
                ),
            )
        ]
        coverage["detached"] = [
            {"function": function, "helper": helper, "percent_of_a_cpu": round(percent, 3)}
            for address, percent in recording.given_up.items()
            for function, helper in keys[address]
        ]
    elif plan.ranges is not None:
        coverage["sites"] = coverage["attached"] = sum(plan.ranges.pieces.values())
        coverage["samples"] = recording.hits.get(0, 0)
        coverage["inside"] = samples_inside(plan.ranges, _in_kernel(recording.hits))
        coverage["clock"] = getattr(plan.counter, "clock", None)
    return coverage
