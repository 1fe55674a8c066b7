"""Two kernels side by side: which counts meet, what is on one side only, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.hotpath.compare import Comparison, Row, by_change, compare
from hvoinspect.hotpath.run import Count, Run, read_run
from hvoinspect.report.compare import to_json
from tests.hotpath.runs import AFTER, BEFORE, EXAMPLES, RUNS, Rates, steady


def run(*counts: Count, seconds: float = 10.0, units: float | None = 100.0, **more: object) -> Run:
    workload = {"command": ["zap"], "status": 0, "units": units, "unit": "page"}
    given: dict[str, object] = {
        "kernel": {"release": "7.0"},
        "encoding": {"tail": "pointer"},
        "seconds": seconds,
        "mode": "sites",
        "coverage": {"sites": 9, "attached": 9},
        "counts": counts,
        "workload": workload,
        **more,
    }
    return Run(**given)  # type: ignore[arg-type]


def hit(function: str, hits: int, helper: str = "_compound_head", sites: int = 1) -> Count:
    return Count(function, helper, sites, hits)


def row(comparison: Comparison, function: str | None, helper: str | None = "_compound_head") -> Row:
    (found,) = (r for r in comparison.rows if (r.function, r.helper) == (function, helper))
    return found


class TestRates:
    def test_by_second_and_by_unit_of_work(self) -> None:
        before = run(hit("kfree", 200), seconds=10, units=50)
        after = run(hit("kfree", 600), seconds=20, units=75)
        kfree = row(compare([before], [after]), "kfree")
        assert kfree.per_unit is not None
        assert (kfree.per_second.before, kfree.per_second.after) == (20, 30)
        assert (kfree.per_unit.before, kfree.per_unit.after) == (4, 8)
        assert (kfree.per_second.ratio, kfree.per_unit.ratio) == (1.5, 2.0)

    def test_of_all_runs_of_a_side(self) -> None:
        runs = [run(hit("kfree", 100), seconds=5), run(hit("kfree", 200), seconds=25)]
        assert row(compare(runs, runs), "kfree").per_second.before == 10

    def test_a_run_that_does_not_list_a_function_did_not_hit_it(self) -> None:
        runs = [run(hit("kfree", 100)), run()]
        assert row(compare(runs, runs), "kfree").per_second.before == 5

    @pytest.mark.parametrize("units", [None, 0])
    def test_units_that_one_run_does_not_know_are_not_used(self, units: float | None) -> None:
        known, unknown = run(hit("kfree", 1)), run(hit("kfree", 1), units=units)
        comparison = compare([known, known], [known, unknown])
        assert comparison.unit is None
        assert all(found.per_unit is None for found in comparison.rows)
        assert "1 of 4 runs do not say how many units" in " ".join(comparison.notes)

    def test_units_of_two_kinds_are_not_used(self) -> None:
        forks = run(hit("kfree", 1), workload={"units": 5, "unit": "fork"})
        comparison = compare([run(hit("kfree", 1))], [forks])
        assert comparison.unit is None
        assert "units of work differ (fork, page)" in " ".join(comparison.notes)


class TestMatching:
    def test_what_a_compiler_adds_to_a_name_is_no_difference(self) -> None:
        before = run(hit("kfree", 10), hit("kfree.part.0", 20))
        kfree = row(compare([before], [run(hit("kfree.isra.0", 60))]), "kfree")
        assert (kfree.per_second.ratio, kfree.renamed_from) == (2, None)
        assert kfree.sites == (2, 1)

    def test_a_function_meets_the_one_that_has_its_work_now(self) -> None:
        before, after = run(hit("unmap_page_range", 10)), run(hit("__zap_vma_range", 20, sites=4))
        there, back = compare([before], [after]), compare([after], [before])
        zap = row(there, "__zap_vma_range")
        assert (zap.per_second.ratio, zap.renamed_from) == (2, "unmap_page_range")
        assert zap.sites == (1, 4)
        assert row(back, "unmap_page_range").renamed_from == "__zap_vma_range"

    def test_a_name_that_both_have_stays(self) -> None:
        old = run(hit("unmap_page_range", 10))
        assert row(compare([old], [old]), "unmap_page_range").renamed_from is None

    def test_two_functions_that_became_one_are_added_up(self) -> None:
        before = run(hit("try_get_folio", 10), hit("try_grab_folio_fast", 5))
        grab = row(compare([before], [run(hit("try_grab_folio_fast", 30))]), "try_grab_folio_fast")
        assert grab.per_second.ratio == 2
        assert grab.renamed_from == "try_get_folio + try_grab_folio_fast"

    def test_a_helper_meets_its_later_name_in_functions_and_totals(self) -> None:
        before = run(hit("filemap_get_entry", 10, "page_ref_add_unless"))
        after = run(hit("filemap_get_entry", 20, "page_ref_add_unless_zero"))
        comparison = compare([before], [after])
        entry = row(comparison, "filemap_get_entry", "page_ref_add_unless_zero")
        total = row(comparison, None, "page_ref_add_unless_zero")
        assert (entry.per_second.ratio, total.per_second.ratio) == (2, 2)
        assert (entry.renamed_from, total.renamed_from) == (None, "page_ref_add_unless")

    def test_a_helper_keeps_a_name_that_both_have(self) -> None:
        old = run(hit("filemap_get_entry", 10, "page_ref_add_unless"))
        comparison = compare([old], [old])
        assert row(comparison, "filemap_get_entry", "page_ref_add_unless").renamed_from is None
        assert row(comparison, None, "page_ref_add_unless").renamed_from is None

    def test_what_one_side_has_is_listed_as_such(self) -> None:
        before, after = run(hit("kfree", 10), hit("old", 5)), run(hit("kfree", 10), hit("new", 7))
        comparison = compare([before, before], [after, after])
        old, new = row(comparison, "old"), row(comparison, "new")
        assert (old.only, new.only, row(comparison, "kfree").only) == ("before", "after", None)
        assert (old.per_second.before, old.per_second.after, old.per_second.ratio) == (
            0.5,
            None,
            None,
        )
        assert (new.per_second.before, new.per_second.after, new.per_second.low) == (
            None,
            0.7,
            None,
        )

    def test_totals_have_what_one_side_has_too(self) -> None:
        """A copy that moves to another function leaves the total of its helper as it was."""
        before = run(hit("old", 10), hit("kfree", 5), hit("kfree", 5, "folio_try_get"))
        after = run(hit("new", 10), hit("kfree", 5), hit("kfree", 5, "folio_try_get"))
        comparison = compare([before], [after])
        assert row(comparison, None).per_second.ratio == 1
        assert row(comparison, None, None).per_second.before == 2
        assert next(r.helper for r in comparison.rows if r.function is None) is None

    @pytest.mark.parametrize("hits", [0, 5])
    def test_what_is_there_but_not_hit_is_no_difference_of_kernels(self, hits: int) -> None:
        found = row(compare([run(hit("kfree", hits))], [run(hit("kfree", 0))]), "kfree")
        assert found.only is None
        assert found.is_hit == (hits > 0)


class TestSignificance:
    def test_the_examples_show_what_was_put_into_them(self) -> None:
        comparison = compare(
            *(
                [read_run(file) for file in sorted((EXAMPLES / side).glob("*.json"))]
                for side in ("before", "after")
            )
        )
        changed = {r.function for r in comparison.rows if r.per_unit and r.per_unit.significant}
        assert changed == {None, "free_pages_and_swap_cache"}
        freed = row(comparison, "free_pages_and_swap_cache").per_unit
        assert freed is not None
        assert freed.low is not None
        assert freed.high is not None
        assert freed.low < 0.7 < freed.high < 1

    @pytest.mark.parametrize("rates", [BEFORE, AFTER])
    @pytest.mark.parametrize("runs", [2, 3, 5, 10])
    def test_a_kernel_against_itself_shows_no_change(self, rates: Rates, runs: int) -> None:
        """Except in one of 20 comparisons: of 40, more than 8 have a chance of 1 in 2,000."""
        wrong = 0
        for seed in range(40):
            sides = (
                steady(rates, release="7.1", runs=runs, seed=[seed, side], noise=0.02)
                for side in range(2)
            )
            rows = compare(*sides).rows
            wrong += any(r.per_unit is not None and r.per_unit.significant for r in rows)
        assert wrong <= 8

    def test_of_one_run_a_side_nothing_is_called_significant(self) -> None:
        comparison = compare([run(hit("kfree", 10))], [run(hit("kfree", 9000))])
        assert {r.per_second.significant for r in comparison.rows} == {None}
        assert "a side has one run" in comparison.notes[0]

    def test_the_largest_change_comes_first_and_chance_last(self) -> None:
        before = run(hit("a", 1000), hit("b", 5000), hit("c", 100), hit("never", 0))
        after = run(hit("a", 9000), hit("b", 5100), hit("c", 4000), hit("never", 0), hit("new", 10))
        comparison = compare([before] * 2, [after] * 2)
        functions = [r.function for r in by_change(comparison.rows, "unit") if r.function]
        assert functions == ["a", "c", "new", "b", "never"]


class TestLimits:
    def test_runs_of_two_modes_are_refused(self) -> None:
        with pytest.raises(HvoinspectError, match="functions and sites") as caught:
            compare([run()], [run(mode="functions")])
        assert caught.value.status == ExitStatus.USAGE

    @pytest.mark.parametrize("name", ["release", "build_id"])
    def test_a_side_of_two_kernels_is_refused(self, name: str) -> None:
        kernels = [run(kernel={"release": "7.0", name: value}) for value in ("7.0", "7.1")]
        with pytest.raises(HvoinspectError, match="before are of several kernels") as caught:
            compare(kernels, [run()])
        assert caught.value.status == ExitStatus.USAGE

    def test_a_run_of_no_time_is_refused(self) -> None:
        with pytest.raises(HvoinspectError, match="a run after took no time") as caught:
            compare([run()], [run(seconds=0.0)])
        assert caught.value.status == ExitStatus.CANNOT_INSPECT

    @pytest.mark.parametrize(
        ("after", "note"),
        [
            ({"workload": {"command": ["fork", "9"]}}, "not all runs ran the same: fork 9; zap"),
            ({"workload": {}}, "not all runs ran the same: whatever ran by itself; zap"),
            ({"workload": {"command": ["zap"], "pid": 7}}, "ran the same: zap; zap, pid 7"),
            ({"workload": {"command": ["zap"], "status": 1}}, "failed in 2 of 2 runs after"),
            ({"workload": {"command": ["zap"], "ended": "time"}}, "the same: zap; zap (cut off)"),
            ({"coverage": {"sites": 9, "attached": 9, "missed": 3}}, "after, 6 hits of all runs"),
            ({"coverage": {"sites": 9, "attached": 7}}, "after, 2 of 9 sites were not probed"),
            ({"coverage": {}}, "how much was probed is not known of 2 runs after"),
        ],
    )
    def test_what_limits_a_comparison_is_noted(self, after: dict[str, object], note: str) -> None:
        there = run(hit("kfree", 1))
        assert note in " ".join(compare([there] * 2, [replace(there, **after)] * 2).notes)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("mode", "note"), [("functions", "are calls"), ("sample", "are samples")]
    )
    def test_what_hits_are_is_noted(self, mode: str, note: str) -> None:
        there = run(hit("kfree", 1, ""), mode=mode)
        assert note in " ".join(compare([there] * 2, [there] * 2).notes)

    def test_runs_with_and_without_hvo_on_one_side_are_noted(self) -> None:
        on, off = (run(encoding={"tail": "pointer", "hvo_enabled": hvo}) for hvo in (True, False))
        assert "whether HVO was on" in " ".join(compare([on, off], [on, on]).notes)

    def test_the_coverage_of_a_side_is_that_of_its_worst_run(self) -> None:
        there = [run(coverage={"sites": 9, "attached": attached}) for attached in (9, 6, 8)]
        comparison = compare(there, there[:1])
        assert (comparison.before.sites, comparison.before.attached) == (9, 6)
        assert "before, 3 of 9 sites were not probed, so their hits are missing, in the worst" in (
            " ".join(comparison.notes)
        )

    def test_a_side_has_the_time_and_the_work_of_all_its_runs(self) -> None:
        found = compare([run(seconds=5), run(seconds=7, units=50)], [run()]).before
        assert (found.release, found.tail, found.runs) == ("7.0", "pointer", 2)
        assert (found.seconds, found.units) == (12, 150)

    def test_nothing_is_noted_of_whole_runs(self) -> None:
        there = run(hit("kfree", 1))
        longer = run(hit("kfree", 1), workload={**there.workload, "asked": 20, "ended": "command"})
        assert compare([there] * 2, [there, longer]).notes == ()


@given(
    st.lists(RUNS, min_size=1, max_size=3),
    st.lists(RUNS, min_size=1, max_size=3),
    st.sampled_from([{}, {"mode": "sites", "kernel": {}, "seconds": 1e-300}]),
)
def test_any_runs_are_compared_or_refused(
    before: list[Run], after: list[Run], same: dict[str, object]
) -> None:
    """Whatever files hold, JSON comes out, with no number that JSON does not have."""
    before = [replace(r, **same) for r in before]  # type: ignore[arg-type]
    after = [replace(r, **same) for r in after]  # type: ignore[arg-type]
    try:
        comparison = compare(before, after)
    except HvoinspectError:
        assert not same
        return
    json.loads(to_json(comparison), parse_constant=pytest.fail)
    shared = [r for r in comparison.rows if r.only is None and r.is_hit]
    assert all(r.per_second.ratio != math.inf for r in shared)
