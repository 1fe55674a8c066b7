"""Counting while something runs: on a back end that is made up, with real processes and signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.hotpath.backend import Cost
from hvoinspect.hotpath.record import Recording, Work, record
from hvoinspect.hotpath.workload import Command, Request, Stopped, stoppable

A, B, REFUSED = 0x1000, 0x2000, 0x3000


class FakeCounter:
    """Hits grow with each read: those of A by 10, of B by 1; each takes a millisecond."""

    name = "fake"

    def __init__(self) -> None:
        self.attached: set[int] = set()
        self.hits: dict[int, int] = {}
        self.closed = 0
        self.while_attaching: Callable[[], None] = lambda: None
        self.while_reading: Callable[[], None] = lambda: None

    def attach(self, addresses: Sequence[int]) -> Mapping[int, str]:
        for address in addresses:
            if address != REFUSED:
                self.attached.add(address)
                self.hits[address] = 5  # before the work begins
        self.while_attaching()
        return {REFUSED: "Invalid argument"} if REFUSED in addresses else {}

    def read(self) -> Mapping[int, int]:
        now = dict(self.hits)
        for address in self.attached:
            self.hits[address] += 10 if address == A else 1
        self.while_reading()
        return now

    def detach(self, addresses: Iterable[int]) -> None:
        self.attached -= set(addresses)

    def cost(self) -> Cost | None:
        runs = sum(self.hits.values())
        return Cost(runs * 1_000_000, runs)

    def missed(self) -> int:
        return 3

    def close(self) -> None:
        self.closed += 1
        self.attached.clear()


@pytest.fixture
def counter() -> FakeCounter:
    return FakeCounter()


def command(*words: str) -> Command:
    return Command(Request(words))


def python(code: str) -> Command:
    return command(sys.executable, "-c", code)


def signal_after(seconds: float, number: signal.Signals) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


class TestCounting:
    def test_what_was_hit_before_the_work_does_not_count(self, counter: FakeCounter) -> None:
        found = record(counter, [A, B, REFUSED], Work(seconds=0.01))
        assert found.hits == {A: 10, B: 1}
        assert (found.ended, found.missed) == ("time", 3)
        assert found.refused == {REFUSED: "Invalid argument"}
        assert counter.closed

    def test_it_lasts_as_long_as_the_command(self, counter: FakeCounter) -> None:
        work = python("import time; time.sleep(0.3)")
        found = record(counter, [A], Work(work))
        assert (found.ended, work.status) == ("command", 0)
        assert 0.3 <= found.seconds < 30

    def test_the_command_starts_only_when_all_is_attached(
        self, counter: FakeCounter, tmp_path: Path
    ) -> None:
        done = tmp_path / "done"
        work = command("touch", str(done))

        def look() -> None:
            time.sleep(0.2)
            assert not done.exists()

        counter.while_attaching = look
        record(counter, [A], Work(work))
        assert done.exists()

    def test_a_command_that_outlives_the_time_is_ended(self, counter: FakeCounter) -> None:
        work = python("import time; time.sleep(60)")
        found = record(counter, [A], Work(work, seconds=0.1))
        assert found.ended == "time"
        assert work.status == -signal.SIGTERM
        assert is_gone(work.process)

    def test_it_is_shown_as_it_grows(self, counter: FakeCounter) -> None:
        seen: list[int] = []
        record(
            counter,
            [A],
            Work(seconds=0.2),
            interval=0.05,
            show=lambda hits, _seconds: seen.append(hits[A]),
        )
        assert seen[:3] == [10, 20, 30]

    def test_the_load_is_of_the_whole_time(self, counter: FakeCounter) -> None:
        found = record(counter, [A], Work(seconds=0.1))
        assert found.load is not None
        assert found.load.nanoseconds == 1_000_000
        assert found.load.percent == pytest.approx(0.01 / found.seconds * 100)


class TestBudget:
    def test_what_is_too_dear_is_detached_and_keeps_its_hits(
        self, counter: FakeCounter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hvoinspect.hotpath.record.BUDGET_SECONDS", 0.02)
        found = record(counter, [A, B], Work(seconds=0.3), budget=20.0)
        assert list(found.given_up) == [A]
        assert found.hits[A] == 20
        assert found.hits[B] > 2

    def test_without_one_nothing_is_detached(self, counter: FakeCounter) -> None:
        assert record(counter, [A, B], Work(seconds=0.05), interval=0.01).given_up == {}


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_ends_it_and_what_was_counted_is_kept(
        self, counter: FakeCounter, number: signal.Signals
    ) -> None:
        work = python("import time; time.sleep(60)")
        with stoppable():
            signal_after(0.2, number)
            found = record(counter, [A], Work(work))
        assert (found.ended, found.hits) == (number.name, {A: 10})
        assert counter.closed
        assert is_gone(work.process)

    def test_one_while_it_attaches_detaches_what_is_attached(self, counter: FakeCounter) -> None:
        work = python("pass")
        counter.while_attaching = lambda: os.kill(os.getpid(), signal.SIGTERM)
        with stoppable(), pytest.raises(Stopped):
            record(counter, [A], Work(work))
        assert counter.closed
        assert not counter.attached
        assert is_gone(work.process)

    def test_any_error_detaches_and_ends_the_command(self, counter: FakeCounter) -> None:
        work = python("import time; time.sleep(60)")

        def fail() -> None:
            raise RuntimeError("made up")

        counter.while_reading = fail
        with pytest.raises(RuntimeError):
            record(counter, [A], Work(work))
        assert counter.closed
        assert is_gone(work.process)

    def test_signals_are_as_they_were_afterwards(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with stoppable():
            assert signal.getsignal(signal.SIGTERM) != before
        assert signal.getsignal(signal.SIGTERM) == before


class TestCommand:
    @pytest.mark.parametrize("name", ["no-such-program-anywhere", "/etc/passwd", "/"])
    def test_what_is_no_program_is_a_usage_error(self, name: str) -> None:
        with pytest.raises(HvoinspectError, match="cannot be run") as error:
            command(name)
        assert error.value.status is ExitStatus.USAGE

    @pytest.mark.parametrize(
        ("code", "status"), [("raise SystemExit(7)", 7), ("import os; os.abort()", -6)]
    )
    def test_its_status_is_kept(self, counter: FakeCounter, code: str, status: int) -> None:
        work = python(code)
        found: Recording = record(counter, [A], Work(work))
        assert (found.ended, work.status) == ("command", status)

    def test_its_output_goes_where_it_is_told(self, counter: FakeCounter, tmp_path: Path) -> None:
        with (tmp_path / "out").open("wb") as out:
            work = Command(Request(("sh", "-c", "echo a; echo b >&2"), stdout=out.fileno()))
            record(counter, [A], Work(work))
        assert (tmp_path / "out").read_text() == "a\n"

    def test_it_is_itself_from_the_first(self, counter: FakeCounter, tmp_path: Path) -> None:
        """The number that is known before it starts is its own, not a shell's before it."""
        with (tmp_path / "out").open("wb") as out:
            code = "import os; print(os.getpid())"
            work = Command(Request((sys.executable, "-c", code), stdout=out.fileno()))
            record(counter, [A], Work(work))
        assert (tmp_path / "out").read_text() == f"{work.process}\n"

    def test_its_words_are_not_a_shells(self, counter: FakeCounter, tmp_path: Path) -> None:
        with (tmp_path / "out").open("wb") as out:
            work = Command(
                Request(("printf", "%s|", "$HOME", "a b", "-c", ""), stdout=out.fileno())
            )
            record(counter, [A], Work(work))
        assert (tmp_path / "out").read_text() == "$HOME|a b|-c||"

    def test_one_that_was_never_started_leaves_nothing(self) -> None:
        work = python("pass")
        work.end()
        work.end()
        assert is_gone(work.process)
