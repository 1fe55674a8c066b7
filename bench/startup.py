"""What a command costs before it does anything."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys

import numpy as np

from bench.clock import Times, in_turns
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
    Column("processor", "CPU", Kind.MILLISECONDS),
    Column("goal", "goal, at most", Kind.MILLISECONDS),
    Column("met", "met", Kind.MET),
    Column("imports", "of the larger libraries, imports", Kind.TEXT),
)
_PHASES = """
import json, os, time
os.environ["DRGN_DISABLE_PLUGINS"] = "*"  # as the command does
from hvoinspect.target.choice import Target
from hvoinspect.target.open import learn_opened, open_program
begun = time.perf_counter(), time.process_time()
opened = open_program(Target(demo={demo!r}))
unpacked = time.perf_counter(), time.process_time()
learn_opened(opened, None)
learned = time.perf_counter(), time.process_time()
print(json.dumps([begun, unpacked, learned]))
"""


def startup(repeats: int) -> list[Table]:
    """Measure what comes before a scan, whole processes, and what they import."""
    phases = np.array(
        [json.loads(run([sys.executable, "-c", _PHASES.format(demo=DEMO)])) for _ in range(repeats)]
    )
    rows = [
        _row(what, Times(*map(tuple, (phases[:, at + 1] - phases[:, at]).T.tolist())), goal)
        for at, (what, goal) in enumerate(
            {"unpack the demo": None, "BTF, symbols, layout": GOALS["layout"]}.items()
        )
    ]
    commands = {name: [sys.executable, *arguments] for name, arguments in COMMANDS.items()}
    ways = {name: functools.partial(run, command) for name, command in commands.items()}
    times, _ = in_turns(ways, repeats)
    for name, command in commands.items():
        goal = GOALS["scan --demo"] if "--demo" in command else None
        rows.append(_row(name, times[name], goal, _imports(command)))
    note = "The first two are parts of the last, in processes of their own, imports apart."
    return [Table("Start-up", _COLUMNS, tuple(rows), (note,))]


def _row(
    what: str, times: Times, goal: float | None = None, imports: str | None = None
) -> tuple[Value, ...]:
    return (
        what,
        times.least,
        times.median,
        times.least_processor,
        goal,
        None if goal is None else times.least <= goal,
        imports,
    )


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
