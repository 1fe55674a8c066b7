"""What `memdesc` asks: whether memdescs could tell tails from heads on a machine."""

from __future__ import annotations

from hvoinspect.api.clock import Clock
from hvoinspect.api.progress import Progress, no_progress
from hvoinspect.report.memdesc import MemdescResult, memdesc_result
from hvoinspect.target.choice import Target
from hvoinspect.target.open import open_target
from hvoinspect.vmemmap.memdesc import MODELS
from hvoinspect.vmemmap.survey import survey


def memdesc_target(
    target: Target,
    model: str = "self",
    progress: Progress = no_progress,
    *,
    jobs: int | None = None,
) -> MemdescResult:
    """Emulate the rule on a kernel under the model of that name, one of `vmemmap.memdesc.MODELS`.

    `jobs` is as in `vmemmap.survey.survey`. Raises HvoinspectError.
    """
    clock = Clock()
    return memdesc_result(
        survey(open_target(target), MODELS[model], progress, jobs=jobs), clock.taken()
    )
