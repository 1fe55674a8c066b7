"""What `capture` asks: a small file that holds all that the other questions read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hvoinspect.api.progress import Progress, no_progress
from hvoinspect.target.capture import write_capture
from hvoinspect.target.choice import Target
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import open_program
from hvoinspect.vmemmap.scan import scan
from hvoinspect.vmemmap.survey import in_front_of


def capture_target(target: Target, output: Path, progress: Progress = no_progress) -> None:
    """Capture a kernel to the file `output`, which is replaced. Raises HvoinspectError."""
    opened = open_program(target)
    write_capture(
        opened.prog, output, lambda kernel: _analyse(kernel, progress), live=opened.running
    )


def _analyse(kernel: Kernel, progress: Progress) -> list[int]:
    """Read all that any analysis reads; return the pfns of a hugepage's head and of its tail."""
    kernel.descriptors()
    in_front_of(kernel, np.array([kernel.vmemmap], np.uint64))
    heads = scan(kernel, progress, exhaustive=True, jobs=1).hugepages.pfn[:1].tolist()
    first = int(kernel.sections.numbers[0]) * kernel.sections.pages
    return [first, *heads, *(head + 1 for head in heads)]
