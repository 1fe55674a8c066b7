"""Gives a parser hostile input in a process of its own, and sees to it that it keeps its promises.

A parser here is a module `hostile_*.py` in this folder, whose FUZZER makes cases and runs them. A
case is bytes, made from nothing but its number, so that whoever watches can make it again when the
process that ran it is gone. What a case must not do:

* raise anything but the error that the parser promises,
* take more processor time than FUZZER allows, or hang: timers that kill, for code in C too,
* take more memory than that: the peak of resident memory, and a refused allocation that somebody
  took for another error,
* end the interpreter: it is the case whose number was written down last.

Cases come from generators that know what they damage, and each from its own number: that finds what
random bytes do not, needs no state, and a case can be run again by its number alone. For a search
that coverage guides there is `guided.py`.
"""

from __future__ import annotations

import faulthandler
import importlib
import lzma
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
MOST_FAILURES = 5
"""After so many a run ends: they rarely have as many causes."""
HANG = 60
"""Seconds that may pass for a case, whatever it does: a machine may be busy, but not so busy."""
ADDRESSES = 2 << 30
"""Bytes of addresses beyond those in use at the start: what asks for more gets MemoryError."""


@dataclass(frozen=True)
class Fuzzer:
    """How a parser is tried.

    `generate` makes a case. `check` runs it, and returns if the parser did what it promises, an
    error of the promised kind included. `known` are cases that once went wrong, or that a bound is
    there for, named for what they did. `cases` are run of each test run; `seconds` of processor
    time and `mebibytes` of memory are a case's.
    """

    generate: Callable[[Random], bytes]
    check: Callable[[bytes], None]
    cases: int
    known: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    seconds: float = 1.0
    mebibytes: int = 200


def kept(name: str) -> bytes:
    """Return a case that was found by chance and is kept in `cases/`, packed."""
    return lzma.decompress((PROJECT / "tests/fuzz/cases" / f"{name}.xz").read_bytes())


class Failure(NamedTuple):
    """A case that went wrong."""

    case: str
    why: str
    content: bytes


class Parser:
    """The fuzzer of a module, and its cases by their numbers: below zero are the known ones."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.fuzzer: Fuzzer = importlib.import_module(module).FUZZER
        self._known = list(self.fuzzer.known)

    def known(self) -> range:
        """Return the numbers of the known cases."""
        return range(-len(self._known), 0)

    def name(self, number: int) -> str:
        """Return what a case is called."""
        return self._known[number] if number < 0 else str(number)

    def content(self, number: int) -> bytes:
        """Make a case."""
        if number < 0:
            return self.fuzzer.known[self._known[number]]()
        return self.fuzzer.generate(Random(f"{self.module}:{number}"))


def failures(module: str, numbers: range, folder: Path) -> Iterator[Failure]:
    """Run cases of a module's parser, and yield those that went wrong; `folder` is for notes."""
    parser = Parser(module)
    note = folder / "running"
    first, found = numbers.start, 0
    while first < numbers.stop and found < MOST_FAILURES:
        note.write_text(str(first))
        ended = subprocess.run(
            [sys.executable, "-m", __name__, module, str(first), str(numbers.stop), str(note)],
            cwd=PROJECT,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if ended.returncode == 0:
            return
        number = int(note.read_text())
        yield Failure(parser.name(number), _why(parser.fuzzer, ended), parser.content(number))
        first, found = number + 1, found + 1


def _why(fuzzer: Fuzzer, ended: subprocess.CompletedProcess[str]) -> str:
    """Say what ended a process that ran cases."""
    signals: dict[int, str] = {
        signal.SIGPROF: f"it took more than {fuzzer.seconds} s of processor time",
        signal.SIGALRM: f"it hung for {HANG} s",
    }
    killed = -ended.returncode
    why = f"the interpreter was killed by signal {killed}" if killed > 0 else "it broke a promise"
    return f"{signals.get(killed, why)}\n{ended.stderr[-6000:]}"


def main(module: str, first: str, end: str, note: str) -> None:
    """Run cases, each noted before it is begun; exit with 1 at the first that goes wrong."""
    parser = Parser(module)
    fuzzer = parser.fuzzer
    # The first case is not to pay for what is imported and looked up once.
    fuzzer.check(b"")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    in_use = 1024 * _status("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (in_use + ADDRESSES, in_use + ADDRESSES))
    for limit in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(limit, signal.SIG_DFL)
        faulthandler.register(limit, chain=True)
    with Path(note).open("r+b", buffering=0) as noted:
        for number in range(int(first), int(end)):
            content = parser.content(number)
            os.pwrite(noted.fileno(), f"{number:<20}".encode(), 0)
            try:
                _run(fuzzer, content)
            except BaseException:  # noqa: BLE001 - whatever it is, it is the case's failure
                traceback.print_exc()
                sys.exit(1)


def _run(fuzzer: Fuzzer, content: bytes) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of resident memory
    before = _status("VmRSS")
    signal.setitimer(signal.ITIMER_PROF, fuzzer.seconds)
    signal.setitimer(signal.ITIMER_REAL, HANG)
    fuzzer.check(content)
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    taken = (_status("VmHWM") - before) >> 10
    if taken > fuzzer.mebibytes:
        raise AssertionError(f"it took {taken} MiB of memory, more than {fuzzer.mebibytes}")


def _status(key: str) -> int:
    """Return a line of /proc/self/status: KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise LookupError(key)


def promised(error: BaseException) -> None:
    """Accept an error that a parser promises, unless memory ran out on the way to it."""
    cause: BaseException | None = error
    while cause is not None:
        assert not isinstance(cause, MemoryError), "memory ran out, which was taken for damage"
        cause = cause.__cause__ or cause.__context__


if __name__ == "__main__":
    main(*sys.argv[1:])
