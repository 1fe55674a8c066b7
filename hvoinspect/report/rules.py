"""The rules of a scan, listed: on a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from rich.console import Console

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.report.sentence import Sentence
from hvoinspect.version import __version__
from hvoinspect.vmemmap.checks import RULES
from hvoinspect.vmemmap.rules import Rule

SCHEMA = "hvoinspect.rules/1"


def known_rules(names: Iterable[str]) -> frozenset[str]:
    """Return `names` as a set. Raises HvoinspectError if one of them is no rule's."""
    known = [rule.name for rule in RULES]
    for name in names:
        if name not in known:
            raise HvoinspectError(
                f"no rule is named {name}", f"give one of {', '.join(known)}", ExitStatus.USAGE
            )
    return frozenset(names)


def rules_to_json() -> str:
    """Return all rules as one JSON object, ending in a newline."""
    rules = [
        {
            "name": rule.name,
            "severity": rule.severity,
            "holds": rule.holds,
            "meaning": rule.meaning,
            "about": rule.about,
        }
        for rule in RULES
    ]
    return json.dumps({"schema": SCHEMA, "version": __version__, "rules": rules}, indent=2) + "\n"


def show_rules(console: Console, *, whole: bool = False) -> None:
    """Print all rules on `console`: name, severity, and what must hold.

    `whole`: on which kernels, why, the source of it, and what a breach means, too.
    """
    for rule in RULES:
        style = "red" if rule.severity == "error" else "yellow"
        console.print(Sentence(f"{rule.severity}: {rule.name}", style), highlight=False)
        for part in _parts(rule) if whole else [rule.holds]:
            console.print(Sentence(f"  {part}", indent=2), highlight=False)


def _parts(rule: Rule) -> Iterator[str]:
    """Yield all that is to be said of a rule, a paragraph each."""
    yield from (" ".join(part.split()) for part in rule.about.split("\n\n"))
    yield f"A breach: {rule.meaning}"
