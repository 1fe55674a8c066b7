"""What is asked of every fleet: its JSON, and what it exits with."""

from __future__ import annotations

import json
from typing import Any, TypedDict

from hvoinspect.errors import ExitStatus, printable
from hvoinspect.fleet.database import Database
from hvoinspect.version import __version__

SCHEMA = "hvoinspect.fleet/1"

HVO = "SELECT hvo_state AS state, count(*) AS hosts FROM hosts GROUP BY ALL ORDER BY hosts DESC, 1"
OFF = """
SELECT host, hvo_state AS state, release, hugepage_bytes, potential_bytes, path FROM hosts
WHERE hvo_state IN ('off', 'was on', 'not built')
ORDER BY potential_bytes DESC NULLS LAST, host
"""
SAVED = """
SELECT sum(saved_bytes) AS saved_bytes, sum(split_cost_bytes) AS split_cost_bytes,
    sum(net_saved_bytes) AS net_saved_bytes, sum(potential_bytes) AS potential_bytes,
    count(saved_bytes) AS hosts_known, count(*) - count(saved_bytes) AS hosts_unknown
FROM latest
"""
KERNELS = "SELECT * FROM kernels ORDER BY hosts DESC, release, tail, hvo"
RULES = "SELECT * FROM rules ORDER BY severity, findings DESC, rule"
BROKEN = """
SELECT host, release, errors, path FROM hosts WHERE errors > 0 ORDER BY errors DESC, host
"""
OUTLIERS = "SELECT * FROM outliers ORDER BY abs(share - median_share) DESC, host"
PARTIAL = """
SELECT host, source, fraction, unreadable_pages, path FROM latest WHERE fraction < 1
ORDER BY fraction, host
"""


class Fleet(TypedDict):
    """What `hvoinspect fleet SCANS... --json` prints: of each host its newest scan.

    `hvo` counts hosts by state, `hvo_off` lists those without HVO for new hugepages, `errors` those
    with findings of that severity, `partial` those not wholly seen. `saved` leaves out hosts of
    which it is not known. A row has the columns of the view or the query that it is from.
    """

    schema: str
    version: str
    files: int
    scans: int
    hosts: int
    hvo: list[dict[str, Any]]
    hvo_off: list[dict[str, Any]]
    saved: dict[str, Any]
    kernels: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    outliers: list[dict[str, Any]]
    partial: list[dict[str, Any]]
    refused: list[dict[str, str]]


def answers(database: Database) -> Fleet:
    """Ask what is asked of every fleet."""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "files": database.files,
        "scans": database.scans,
        "hosts": database.ask("SELECT count(*) FROM latest").rows[0][0],
        "hvo": database.ask(HVO).records(),
        "hvo_off": database.ask(OFF).records(),
        "saved": database.ask(SAVED).records()[0],
        "kernels": database.ask(KERNELS).records(),
        "findings": database.ask(RULES).records(),
        "errors": database.ask(BROKEN).records(),
        "outliers": database.ask(OUTLIERS).records(),
        "partial": database.ask(PARTIAL).records(),
        "refused": refused_json(database),
    }


def refused_json(database: Database) -> list[dict[str, str]]:
    """Return what could not be read, and why, printable."""
    return [{"path": printable(path), "why": printable(why)} for path, why in database.refused]


def to_json(fleet: Fleet) -> str:
    """Return the answers as one JSON object, ending in a newline."""
    return json.dumps(fleet, indent=2) + "\n"


def exit_status(database: Database) -> ExitStatus:
    """Return what a question exits with: whether all that was given could be read."""
    return ExitStatus.PARTIAL if database.refused else ExitStatus.OK
