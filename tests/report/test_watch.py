"""What changed from scan to scan: as values, as a line, and on a screen of any size."""

from __future__ import annotations

import copy
import functools
import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.live import Live

from hvoinspect.report.result import ScanResult
from hvoinspect.report.watch import Seen, Value, change_text, line_of
from hvoinspect.report.watch_screen import Watching, WatchScreen
from tests.report import situations
from tests.report.situations import SITUATIONS
from tests.report.test_terminal import HOSTILE

HUGE = {"size_bytes": 2 << 20, "node": 0, "total": 8, "free": 6, "optimized": 4}
POOL: dict[str, Any] = HUGE | {
    "partly_optimized": 0,
    "vmemmap_pages_kept": 4,
    "vmemmap_pages_freed": 28,
}


made = functools.cache(situations.situation)


def situation(name: str) -> ScanResult:
    return copy.deepcopy(made(name))


def result(**pool: int) -> ScanResult:
    """A scan with one pool that differs in what is given."""
    found = situation("mask")
    found["hugetlb"] = [POOL | pool]  # type: ignore[list-item]
    return found


def seen(*results: ScanResult) -> Seen:
    found: Seen | None = None
    for each in results:
        found = Seen.after(found, each)
    assert found is not None
    return found


def watching(of: Seen | None, **others: Any) -> Watching:
    plain: dict[str, Any] = {
        "failure": None,
        "number": 3,
        "interval": 5.0,
        "due": 2.4,
        "progress": None,
    }
    return Watching(seen=of, **(plain | others))


def drawn(state: Watching, columns: int = 80, rows: int = 24, encoding: str = "utf-8") -> list[str]:
    """The lines of the screen, drawn as `watch` does, as text."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    console = Console(
        file=file, width=columns, height=rows, color_system=None, legacy_windows=False, _environ={}
    )
    console.print(WatchScreen(state), end="", highlight=False)
    file.flush()
    return raw.getvalue().decode(encoding).split("\n")


class TestChanges:
    def test_since_the_last_scan_and_since_the_start(self) -> None:
        (pool,) = seen(result(total=8), result(total=12), result(total=11)).pools()
        assert pool.counts[0] == Value(now=11, last=-1, start=3)
        assert pool.counts[1] == Value(now=6, last=0, start=0)

    def test_of_the_first_scan_nothing_changed(self) -> None:
        (pool,) = seen(result()).pools()
        assert {(value.last, value.start) for value in pool.counts} == {(0, 0)}

    def test_a_pool_that_is_gone_is_told_as_one_of_none(self) -> None:
        none = result()
        none["hugetlb"] = []
        (pool,) = seen(result(), none).pools()
        assert pool.counts[0] == Value(now=0, last=-8, start=-8)
        (pool,) = seen(none, result()).pools()
        assert pool.counts[0] == Value(now=8, last=8, start=8)

    def test_what_is_not_known_has_no_change(self) -> None:
        unknown = result()
        unknown["vmemmap"]["saved_bytes"] = None
        for scans in ((unknown, result()), (result(), unknown)):
            assert dict(seen(*scans).sizes())["saved"].last is None

    def test_rules_that_no_longer_speak_are_told_once_more(self) -> None:
        wrong, right = situation("error"), situation("mask")
        (name,) = {finding["rule"] for finding in wrong["findings"]}
        count = len(wrong["findings"])
        assert dict(seen(right, wrong).rules())[name] == Value(count, count, count)
        assert dict(seen(right, wrong, right).rules())[name] == Value(0, -count, 0)
        assert seen(right, wrong, right, right).rules() == []

    def test_findings_that_are_not_listed_count(self) -> None:
        wrong = situation("error")
        (name,) = {finding["rule"] for finding in wrong["findings"]}
        wrong["findings_omitted"] = {name: 5}
        assert dict(seen(wrong).rules())[name].now == len(wrong["findings"]) + 5

    def test_hvo_that_is_switched(self) -> None:
        off = result()
        off["encoding"]["hvo_enabled"] = False
        assert list(seen(off, result()).switched()) == [
            "HVO was off at the last scan",
            "HVO was off at the start",
        ]
        assert list(seen(off, result(), result()).switched()) == ["HVO was off at the start"]
        assert list(seen(result(), result()).switched()) == []

    def test_signs(self) -> None:
        assert [change_text(change) for change in (2, -1234, 0, None)] == ["+2", "-1,234", "0", "-"]
        assert change_text(-3 << 19, of_bytes=True) == "-1.5 MiB"


class TestLine:
    def test_all_that_matters(self) -> None:
        now = result(total=10, free=8, optimized=6)
        now["vmemmap"]["net_saved_bytes"] = 4 << 20
        before = result()
        before["vmemmap"]["net_saved_bytes"] = (4 << 20) + 4096
        line = line_of(seen(before, now))
        assert line.startswith(f"{now['taken_at']} HVO on, 4 MiB saved net (-4 KiB), ")
        assert "; 2 MiB node 0: 10 total (+2), 8 free (+2), 6 optimized (+2); no findings" in line

    def test_findings_by_rule(self) -> None:
        wrong = situation("error")
        rule, count = wrong["findings"][0]["rule"], len(wrong["findings"])
        assert f"{rule} {count} (+{count})" in line_of(seen(situation("mask"), wrong))

    def test_where_nothing_was_checked_there_are_not_no_findings(self) -> None:
        line = line_of(seen(situation("own view")))
        assert "nothing was checked; the kernel's own view only" in line
        assert "no findings" not in line


class TestScreen:
    def test_all_of_it_fits_a_usual_window(self) -> None:
        lines = drawn(watching(seen(result(), result(total=10), result(total=9))))
        text = "\n".join(lines)
        assert len(lines) == 24
        assert lines[0].startswith("Linux ")
        assert "HVO: on; tails share one read-only frame per zone" in text
        assert [line.split() for line in lines if line.startswith("  since")] == [
            ["since", "last", "-1", "0", "0", "0"],
            ["since", "start", "+1", "0", "0", "0"],
        ]
        assert "findings: no findings" in text
        assert lines[-1].startswith("scan 3, took ")
        assert lines[-1].endswith("next in 2 s" + lines[-1].split("next in 2 s")[1])
        assert "q quit" in lines[-1]

    def test_what_goes_on(self) -> None:
        of = seen(result())
        assert "scanning 25.0%" in drawn(watching(of, progress=(1, 4)))[-1]
        assert "paused" in drawn(watching(of, paused=True))[-1]
        assert "next in" not in drawn(watching(of, paused=True))[-1]
        assert "quit" not in drawn(watching(of, keys=False))[-1]
        assert "looking for the first time" in drawn(watching(None, progress=(0, 0)))[0]

    def test_a_scan_that_failed_is_told_below_the_last_that_did_not(self) -> None:
        text = "\n".join(drawn(watching(seen(result()), failure=("it is gone", "start it"))))
        assert text.index("hugepages") < text.index("scan 3 failed: it is gone\nstart it")
        assert "failed: it is gone" in "\n".join(drawn(watching(None, failure=("it is gone", ""))))

    def test_help(self) -> None:
        text = "\n".join(drawn(watching(seen(result()), helping=True)))
        for key, meaning in (("q", "quit"), ("space", "scan now"), ("p", "pause")):
            assert f"  {key:<7}{meaning}" in text
        assert "hugepages" not in text

    @given(
        columns=st.integers(1, 200),
        rows=st.integers(1, 60),
        name=st.sampled_from([*SITUATIONS, "hostile"]),
        encoding=st.sampled_from(["utf-8", "ascii"]),
        failed=st.booleans(),
        helping=st.booleans(),
    )
    def test_any_window_is_filled_and_nothing_spills(
        self, columns: int, rows: int, name: str, encoding: str, failed: bool, helping: bool
    ) -> None:
        found = situation("error" if name == "hostile" else name)
        if name == "hostile":
            found["kernel"]["release"] = found["findings"][0]["rule"] = HOSTILE
            found["notes"] = [HOSTILE]
        many = copy.deepcopy(found)
        many["hugetlb"] = [POOL | {"node": node, "total": node} for node in range(20)]  # type: ignore[misc]
        state = watching(
            seen(found, many), failure=(HOSTILE, "mend it") if failed else None, helping=helping
        )
        lines = drawn(state, columns, rows, encoding)
        assert len(lines) == max(rows, 2)
        assert [line for line in lines if cell_len(line) > max(columns, 20)] == []
        assert not any("\x1b" in line or "\r" in line or "\u202e" in line for line in lines)

    def test_rich_takes_it_for_a_whole_screen(self) -> None:
        """What the window does not hold is cut by rich, not scrolled."""
        file = io.StringIO()
        console = Console(file=file, width=30, height=6, force_terminal=True, _environ={})
        with Live(console=console, screen=True, auto_refresh=False) as live:
            live.update(WatchScreen(watching(seen(result()))), refresh=True)
        assert file.getvalue().count("\n") < 12
