"""What a command costs before it does anything."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

from bench.clock import Times
from bench.process import environment, run
from bench.tables import Column, Kind, Table, Value

DEMO = "after"
GOALS = {"layout": 0.150, "scan --demo": 0.6}
LIBRARIES = ("numpy", "scipy", "drgn", "rich", "capstone", "bcc", "multiprocessing")
"""What takes long to import; only what is needed of it should be."""
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    **{
        f"hvoinspect {words}": ("-m", "hvoinspect", *words.split())
        for words in ("--version", "--help", "scan --help", f"scan --demo {DEMO}")
    },
}
"""Arguments of Python's."""
_COLUMNS = (
    Column("what", "", Kind.TEXT),
    Column("least", "least", Kind.MILLISECONDS),
    Column("median", "median", Kind.MILLISECONDS),
    Column("goal", "goal, at most", Kind.MILLISECONDS),
    Column("met", "met", Kind.MET),
    Column("imports", "of the larger libraries, imports", Kind.TEXT),
)
_PHASES = """
import json, time
from hvoinspect.target.choice import Target
from hvoinspect.target.open import learn_opened, open_program
begun = time.perf_counter()
opened = open_program(Target(demo={demo!r}))
unpacked = time.perf_counter()
learn_opened(opened, None)
print(json.dumps([unpacked - begun, time.perf_counter() - unpacked]))
"""


def startup(repeats: int) -> list[Table]:
    """Measure what comes before a scan, whole processes, and what they import."""
    phases = [
        json.loads(run([sys.executable, "-c", _PHASES.format(demo=DEMO)])) for _ in range(repeats)
    ]
    unpacking, layout = (Times(tuple(seconds)) for seconds in zip(*phases, strict=True))
    rows = [
        _row("unpack the demo", unpacking),
        _row("BTF, symbols, layout", layout, GOALS["layout"]),
    ]
    commands = {name: [sys.executable, *arguments] for name, arguments in COMMANDS.items()}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, command in commands.items():
            seconds = _seconds(command)
            if turn:  # the first one warms up
                taken[name].append(seconds)
    for name, command in commands.items():
        goal = GOALS["scan --demo"] if "--demo" in command else None
        rows.append(_row(name, Times(tuple(taken[name])), goal, _imports(command)))
    note = "The first two are parts of the last, in processes of their own, imports apart."
    return [Table("Start-up", _COLUMNS, tuple(rows), (note,))]


def _row(
    what: str, times: Times, goal: float | None = None, imports: str | None = None
) -> tuple[Value, ...]:
    return (
        what,
        times.least,
        times.median,
        goal,
        None if goal is None else times.least <= goal,
        imports,
    )


def _seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    run(command)
    return time.perf_counter() - begun


def _imports(command: list[str]) -> str:
    """Return which of LIBRARIES a command imports."""
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    names = re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE)
    found = {name.partition(".")[0] for name in names}
    return ", ".join(name for name in LIBRARIES if name in found) or "none"
