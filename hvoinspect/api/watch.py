"""What `watch` asks again and again: a scan of one kernel, which is opened once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from drgn import FaultError

from hvoinspect.api.clock import Clock
from hvoinspect.api.progress import Progress, no_progress
from hvoinspect.api.scan import own_view, scan_kernel
from hvoinspect.errors import HvoinspectError
from hvoinspect.report.result import ScanResult
from hvoinspect.target.choice import Target
from hvoinspect.target.denied import NoKcoreError, reason
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import open_target
from hvoinspect.vmemmap.scan import as_of_now


class Watched:
    """A kernel that is scanned again and again.

    It is opened and learned by the first scan, and kept. It is opened anew after a scan that failed
    or could not see everything (a guest may have booted another kernel meanwhile), and after memory
    was plugged or pulled. What the kernel says of HVO itself is read anew by each scan.
    """

    def __init__(
        self,
        target: Target,
        ignored: Collection[str] = (),
        *,
        exhaustive: bool = False,
        jobs: int | None = None,
    ) -> None:
        self._target = target
        self._ignored = ignored
        self._exhaustive = exhaustive
        self._jobs = jobs
        self._kernel: Kernel | None = None

    def scan(self, progress: Progress = no_progress) -> ScanResult:
        """Scan it once more; where its memory cannot be read, return its own view, as `scan` does.

        Raises HvoinspectError if neither can be had. It may be called again after that, and after
        anything that `progress` raises.
        """
        clock = Clock()
        kernel, self._kernel = self._kernel, None
        try:
            kernel = as_it_is(kernel) or open_target(self._target)
            result = scan_kernel(
                kernel,
                progress,
                self._ignored,
                exhaustive=self._exhaustive,
                jobs=self._jobs,
                clock=clock,
            )
        except NoKcoreError as no_kcore:
            return own_view(no_kcore, clock, progress)
        except (FaultError, OSError) as error:
            raise HvoinspectError(
                f"the kernel cannot be read any more: {reason(error)}",
                "if it was shut down, start again with one that runs",
            ) from error
        if not kernel.live or result["coverage"]["fraction"] == 1.0:
            self._kernel = kernel
        return result


def as_it_is(kernel: Kernel | None) -> Kernel | None:
    """Return a kernel with what it says of HVO by now; None if it must be opened anew."""
    if kernel is None or not kernel.live:
        return kernel
    if as_of_now(kernel) is not kernel:
        return None
    return kernel if kernel.hvo_now is None else replace(kernel, hvo=kernel.hvo_now())
