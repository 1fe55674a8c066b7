"""Shows what a Linux kernel's struct page array looks like under HugeTLB Vmemmap Optimization.

What the commands answer, other programs can ask with `scan`, `page` and `memdesc`, here: each takes
a `Target` (without one, the running kernel), and returns what the command prints with --json.
Importing this imports nothing large.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.choice import Target
from hvoinspect.version import __version__

if TYPE_CHECKING:
    from hvoinspect.report.memdesc import MemdescResult
    from hvoinspect.report.page import PageJson
    from hvoinspect.report.result import ScanResult

__all__ = ["HvoinspectError", "Target", "__version__", "memdesc", "page", "scan"]


def scan(
    target: Target | None = None,
    *,
    exhaustive: bool = False,
    jobs: int | None = None,
    ignore: Collection[str] = (),
) -> ScanResult:
    """Scan a kernel, as `hvoinspect scan` does with these options.

    Raises HvoinspectError if it cannot be looked at, or if there is no rule of a name in `ignore`.
    """
    from hvoinspect.api.scan import scan_target  # noqa: PLC0415 - as all below, heavy
    from hvoinspect.report.rules import known_rules  # noqa: PLC0415

    ignored = known_rules(tuple(ignore))
    return scan_target(target or Target(), ignored=ignored, exhaustive=exhaustive, jobs=jobs)


def page(address: str, target: Target | None = None) -> PageJson:
    """Explain one struct page, as `hvoinspect page ADDRESS` does. Raises HvoinspectError."""
    from hvoinspect.api.page import explain_page  # noqa: PLC0415

    return explain_page(address, target or Target())


def memdesc(
    target: Target | None = None, *, model: str = "self", jobs: int | None = None
) -> MemdescResult:
    """Tell whether memdescs could tell tails, as `hvoinspect memdesc` does with these options.

    Raises HvoinspectError if the kernel cannot be looked at, KeyError if there is no such model.
    """
    from hvoinspect.api.memdesc import memdesc_target  # noqa: PLC0415

    return memdesc_target(target or Target(), model, jobs=jobs)
