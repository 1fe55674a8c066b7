"""What this host allows, as JSON and on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TypedDict

from rich.console import Console
from rich.text import Text

from hvoinspect.errors import ExitStatus
from hvoinspect.report.sentence import Sentence
from hvoinspect.target.host import MEMORY, Check, Host, Reach, reach
from hvoinspect.version import __version__

CheckJson = TypedDict(
    "CheckJson",
    {
        "name": str,
        "ok": bool,
        "for": list[str],
        "enables": str,
        "found": str,
        "fix": str | None,
    },
)


class DoctorJson(TypedDict):
    """`hvoinspect.doctor/1`; `scan` is what a scan of the running kernel would show."""

    schema: str
    version: str
    scan: Reach
    checks: list[CheckJson]


SECTIONS = (
    ("scan", "A full scan of the running kernel takes:"),
    ("own view", "The kernel's own view, in its place, takes:"),
    ("hotpath", "Counting in the kernel (hotpath) takes:"),
    (None, "Also good to have or to know:"),
)
"""Each check is shown under the first of these that it is needed for."""

STATUS: dict[Reach, ExitStatus] = {
    "full": ExitStatus.OK,
    "own view": ExitStatus.PARTIAL,
    "none": ExitStatus.CANNOT_INSPECT,
}

_NAME_WIDTH = 16
_WIDE, _NARROW = 2 + 8 + _NAME_WIDTH, 10
"""Columns before what was found; on a narrow terminal its lines but the first have fewer."""
_NARROW_TERMINAL = 60


def exit_status(checks: Sequence[Check]) -> ExitStatus:
    """Return what a scan would come to: everything, the kernel's own view, or nothing."""
    return STATUS[reach(checks)]


def to_json(checks: Sequence[Check]) -> str:
    """Return the checks as JSON, of the schema hvoinspect.doctor/1."""
    result: DoctorJson = {
        "schema": "hvoinspect.doctor/1",
        "version": __version__,
        "scan": reach(checks),
        "checks": [
            {
                "name": check.name,
                "ok": check.ok,
                "for": list(check.needed_for),
                "enables": check.enables,
                "found": check.found,
                "fix": check.fix,
            }
            for check in checks
        ],
    }
    return json.dumps(result, indent=2) + "\n"


def show(host: Host, checks: Sequence[Check], console: Console) -> None:
    """Print the checks on `console`, those that fail with how to mend them."""
    indent = _NARROW if console.width < _NARROW_TERMINAL else _WIDE
    for part in _parts(host, checks, indent):
        console.print(part, highlight=False)


def verdict(checks: Sequence[Check]) -> str:
    """Return one sentence on what a scan would show, and why not more."""
    how = reach(checks)
    if how == "full":
        return "A scan of this kernel works fully."
    failed = [check for check in checks if not check.ok]
    memory = [check.found for check in failed if check.name in MEMORY][:1]
    if how == "own view":
        return f"A scan shows the kernel's own view only: {memory[0]}."
    if memory:
        why = memory + [check.found for check in failed if "own view" in check.needed_for]
    else:
        why = [check.found for check in failed if "scan" in check.needed_for]
    return f"No scan of this kernel is possible: {', and '.join(why)}."


def _parts(host: Host, checks: Sequence[Check], indent: int) -> Iterator[Sentence | Text]:
    style = {"full": "bold green", "own view": "bold yellow", "none": "bold red"}
    yield Sentence(f"Linux {host.release} {host.machine}, on this host", "dim")
    yield Text()
    yield Sentence(verdict(checks), style[reach(checks)])
    for purpose, heading in SECTIONS:
        members = [check for check in checks if _section(check) == purpose]
        if members:
            yield Text()
            yield Sentence(heading)
        for check in members:
            yield from _lines(check, indent)


def _section(check: Check) -> str | None:
    return next((name for name, _ in SECTIONS if name in check.needed_for), None)


def _lines(check: Check, indent: int) -> Iterator[Sentence]:
    start = f"  {'ok' if check.ok else 'not ok':<8}{check.name:<{_NAME_WIDTH}}"
    if check.ok:
        yield Sentence(f"{start}{check.found}; for {check.enables}", "", indent)
        return
    yield Sentence(f"{start}{check.found}", "bold", indent)
    yield Sentence(f"{' ' * indent}for {check.enables}", "dim", indent)
    if check.fix is not None:
        yield Sentence(f"{' ' * indent}fix: {check.fix}", "", indent)
