"""What a page costs in instructions: the figures, and what the rework of 7.1 saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lab.cli import cli
from lab.cost import experiment, figures, workload
from lab.cost.figures import Cost, Table
from lab.cost.hits import parse
from lab.cost.workload import Measured, Operation
from lab.errors import LabError
from lab.machine import Config, Folder, qemu_command
from tests.lab.conftest import COST_OPERATIONS as OPERATIONS
from tests.lab.conftest import LabPool

# The figures.


def measured(
    small: tuple[int, ...], large: tuple[int, ...], pages: tuple[int, int] = (10, 20)
) -> Measured:
    return Measured("zap-file", 0, pages, (small, large))


@given(
    fixed=st.integers(0, 10**9),
    each=st.integers(0, 10**5),
    pages=st.integers(1, 10**6),
    off=st.integers(-(10**9), 10**9),
)
def test_what_is_done_once_falls_out(fixed: int, each: int, pages: int, off: int) -> None:
    once, twice = fixed + each * pages, fixed + each * 2 * pages
    found = measured((once + off, once, once), (twice, twice, twice + off), (pages, 2 * pages))
    assert found.per_page == each


def test_spread_is_that_of_the_middle_half() -> None:
    assert measured((5,) * 8, (9,) * 8).spread == 0
    assert measured((5,) * 7 + (5000,), (9,) * 7 + (1,)).spread == 0
    assert measured((5, 5, 25, 25), (9,) * 4).spread == 2


TEXT = json.dumps(
    {
        "operation": "zap-file",
        "compound": None,
        "sizes": [{"pages": 10, "ticks": [1, 2]}, {"pages": 20, "ticks": [3, 4]}],
    }
)


def test_what_the_workload_says_is_parsed() -> None:
    assert workload.parse(TEXT) == Measured("zap-file", None, (10, 20), ((1, 2), (3, 4)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        TEXT[:-1],
        TEXT.replace("20", "10"),
        TEXT.replace("[3, 4]", "[3]"),
        TEXT.replace("[3, 4]", "null"),
        TEXT.replace("3,", '"x",'),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="no measurement"):
        workload.parse(text)


def test_a_clock_that_does_not_count_instructions_is_refused() -> None:
    workload.check_exact(measured((20, 20), (40, 40)))
    with pytest.raises(LabError, match=r"does not count instructions: 2\.100"):
        workload.check_exact(measured((20, 20), (41, 41)))


def made_up(operation: str, kernel: str, hvo: bool, *boots: float) -> Cost:
    large = 32 if "hugetlb" in operation else 0
    return Cost(operation, kernel, f"{kernel}.9-cloud", hvo, boots, 0.25, 32, large)


ON_EITHER_SIDE = [
    made_up("zap-file", "7.0", False, 337.3),
    made_up("zap-file", "7.0", True, 341.4),
    made_up("zap-file", "7.1", False, 336.4),
    made_up("zap-file", "7.1", True, 336.43, 336.37),
]


def test_tables_say_the_figures_and_their_differences() -> None:
    assert figures.text(ON_EITHER_SIDE) == (
        "Instructions a page, HVO off and on\n"
        "           7.0   7.0   7.1   7.1\n"
        "           off    on   off    on\n"
        "zap-file 337.3 341.4 336.4 336.4\n"
        "\n"
        "What HVO adds: on less off\n"
        "          7.0 7.1\n"
        "zap-file +4.1 0.0\n"
        "\n"
        "From kernel to kernel, HVO off\n"
        "         7.0>7.1\n"
        "zap-file    -0.9\n"
        "\n"
        "From kernel to kernel, HVO on\n"
        "         7.0>7.1\n"
        "zap-file    -5.0\n"
        "\n"
        "7.0 is 7.0.9-cloud; 7.1 is 7.1.9-cloud\n"
        "Folios of more than one page: none\n"
        "2 boots of each guest differ by 0.06 at most (zap-file on 7.1, HVO on)\n"
        "The middle half of a guest's repetitions differs by 0.25 at most"
        " (zap-file on 7.0, HVO off)\n"
    )


def test_one_kernel_with_hvo_off_has_nothing_to_differ_from() -> None:
    (table,) = figures.tables(ON_EITHER_SIDE[:1])
    assert table.columns == ("7.0 off",)
    assert [table.title for table in figures.tables(ON_EITHER_SIDE[::2])] == [
        "Instructions a page, HVO off and on",
        "From kernel to kernel, HVO off",
    ]


RECORDING = json.dumps(
    {
        "mode": "sites",
        "counts": [
            {"function": "zap", "helper": "_compound_head", "sites": 2, "hits": 200},
            {"function": "zap", "helper": "folio_try_get", "sites": 1, "hits": 300},
            {"function": "free", "helper": "_compound_head", "sites": 1, "hits": 100},
        ],
    }
)


def test_hits_are_those_of_compound_head_a_unit() -> None:
    hits = parse("zap-file", 100, RECORDING)
    assert (hits.operation, hits.mode, hits.per_page) == ("zap-file", "sites", 3.0)
    assert hits.counts["zap", "folio_try_get"] == 3.0


def test_where_there_are_no_copies_calls_are_counted() -> None:
    by_calls = RECORDING.replace('"sites",', '"functions",').replace("_compound_head", "")
    assert parse("zap-file", 100, by_calls).per_page == 3.0


@pytest.mark.parametrize("text", ["", "[]", "{}", RECORDING.replace("200", "null")])
def test_what_is_no_recording_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="no recording"):
        parse("zap-file", 100, text)


def test_hits_stand_beside_what_is_saved() -> None:
    hits = parse("zap-file", 100, RECORDING)
    costs = figures.with_hits(ON_EITHER_SIDE, [hits])
    table = figures.tables(costs)[-1]
    assert table.columns == ("7.0 runs", "7.1 runs", "7.0>7.1 saves")
    assert table.lines()[1] == ["zap-file", "3.0", "3.0", "5.0"]
    assert figures.to_json(costs, (), "")["costs"][0]["hits"] == {
        "mode": "sites",
        "per_page": 3.0,
        "counts": [
            {"function": "zap", "helper": "folio_try_get", "per_page": 3.0},
            {"function": "zap", "helper": "_compound_head", "per_page": 2.0},
            {"function": "free", "helper": "_compound_head", "per_page": 1.0},
        ],
    }


def test_calls_are_not_taken_for_runs() -> None:
    by_calls = RECORDING.replace('"sites",', '"functions",').replace("_compound_head", "")
    hits = {"7.1": parse("zap-file", 100, by_calls), "7.0": parse("zap-file", 100, RECORDING)}
    costs = [replace(cost, hits=hits[cost.kernel]) for cost in ON_EITHER_SIDE]
    (note,) = (note for note in figures.notes(costs) if note.startswith("Calls"))
    assert note.startswith("Calls, on 7.1, are of functions that have copies")
    assert not any(note.startswith("Calls") for note in figures.notes(ON_EITHER_SIDE))


def test_large_folios_and_what_is_not_known_are_named() -> None:
    costs = [
        made_up("zap-hugetlb", "7.0", False, 400.0),
        replace(made_up("read", "7.0", False, 900.0), compound=None),
    ]
    assert "Folios of more than one page: zap-hugetlb; not known of: read" in figures.notes(costs)


@given(st.floats(-0.049, 0.049))
def test_nothing_has_no_sign(number: float) -> None:
    table = Table("", ("x",), (("zap-file", (number,)),), signed=True)
    assert table.lines()[1] == ["zap-file", "0.0"]


def test_all_kernels_fit_80_columns() -> None:
    costs = [
        made_up(operation, kernel, hvo, 12345.6 + hvo)
        for operation in OPERATIONS
        for kernel in ("6.12", "7.0", "7.1", "7.3")
        for hvo in (False, True)
    ]
    tables = figures.text(costs).split("\n\n")[:-1]
    assert max(len(line) for table in tables for line in table.splitlines()) <= 80


def test_markdown_has_the_same_rows() -> None:
    operations = (Operation("zap-file", 248, "forgets"), Operation("read", 248, "reads"))
    text = figures.markdown(ON_EITHER_SIDE, operations)
    assert "| zap-file | 337.3 | 341.4 | 336.4 | 336.4 |\n" in text
    assert "| --- | ---: | ---: |\n| zap-file | +4.1 | 0.0 |\n" in text
    assert "- `zap-file`: forgets\n" in text
    assert "reads" not in text


# The command, without guests.


@pytest.fixture
def command(program: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run `lab cost` on made-up guests; return its status, its output and its errors."""

    def costs(
        place: experiment.Place,
        program: Path,
        operations: tuple[Operation, ...],
        *,
        boots: int,
        started: Callable[[str], None],
    ) -> list[Cost]:
        assert program.exists()
        for operation in operations:
            started(operation.name)
        figure = 300.0 + place.hvo
        return [made_up(one.name, place.kernel, place.hvo, *[figure] * boots) for one in operations]

    monkeypatch.setattr(experiment, "costs", costs)
    monkeypatch.setattr("lab.kernels.Cache.get", lambda *_, **__: None)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        done = CliRunner().invoke(cli, ["cost", *map(str, arguments)])
        return done.exit_code, done.stdout, done.stderr

    return call


Command = Callable[..., tuple[int, str, str]]


def test_all_kernels_and_operations_are_measured_unless_one_chooses(command: Command) -> None:
    status, output, _ = command("--json")
    costs = json.loads(output)["costs"]
    assert status == 0
    assert len(costs) == 4 * 2 * len(OPERATIONS)
    _, output, _ = command(
        "7.0", "7.0", "--hvo", "on", "--operation", "read", "--repeat", "3", "--json"
    )
    (only,) = json.loads(output)["costs"]
    assert (only["operation"], only["kernel"], only["hvo"]) == ("read", "7.0", True)
    assert (only["boots"], only["instructions_per_page"]) == ([301.0] * 3, 301.0)


def test_the_file_is_json_whatever_is_printed(command: Command, tmp_path: Path) -> None:
    output = tmp_path / "cost.json"
    status, printed, _ = command("7.0", "--operation", "read", "--markdown", "-o", output)
    assert status == 0
    assert "| read | 300.0 | 301.0 |" in printed
    kept = json.loads(output.read_text())
    assert kept["schema"] == figures.SCHEMA
    assert [(one["name"], one["pages"]) for one in kept["operations"]] == [("read", 248)]
    assert [cost["instructions_per_page"] for cost in kept["costs"]] == [300.0, 301.0]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--json", "--markdown"), "choose one"),
        (("--operation", "zip"), "there is no operation zip"),
        (("-o", __file__), "exists already"),
        (("--repeat", "0"), "--repeat"),
    ],
)
def test_misuse_of_the_command_is_status_2(
    command: Command, arguments: tuple[str, ...], why: str
) -> None:
    status, output, errors = command(*arguments)
    assert (status, output) == (2, "")
    assert why in errors


def test_icount_is_a_configuration_of_its_own(tmp_path: Path) -> None:
    usual = Config("7.0")
    counting = replace(usual, icount=True)
    assert usual != counting
    assert (str(usual), str(counting)) == ("7.0", "7.0,icount=True")
    commands = [
        qemu_command(one, Path("vmlinuz"), Folder(tmp_path), terminal=False, initrd=False)
        for one in (usual, counting)
    ]
    assert [word for word in commands[1] if word not in commands[0]] == [
        "-icount",
        "shift=0,sleep=off",
    ]


# In booted kernels.


@pytest.mark.parametrize(
    ("off", "zap_file", "zap_hugetlb"),
    [
        # Up to 7.0 every compound_head() tests for a fake head once a hugepage is optimized, and
        # looks at the next struct page where the head of every hugepage lies.
        pytest.param(
            experiment.config(experiment.Place("7.0", False)), (2.0, 20.0), (8.0, 80.0), id="7.0"
        ),
        # https://git.kernel.org/torvalds/c/622026e87c40 (7.1) took the test away.
        pytest.param(
            experiment.config(experiment.Place("7.1", False)), (-0.3, 0.3), (-0.3, 0.3), id="7.1"
        ),
    ],
)
def test_hvo_adds_to_a_zap_until_7_0(
    lab_pool: LabPool,
    program: Path,
    off: Config,
    zap_file: tuple[float, float],
    zap_hugetlb: tuple[float, float],
) -> None:
    names = ("zap-file", "zap-hugetlb")
    zaps = [one for one in workload.operations(program) if one.name in names]
    without, with_hvo = (
        experiment.measure(lab_pool.guest(replace(off, hvo=hvo)), program, zaps)
        for hvo in (False, True)
    )
    assert [one.spread for one in (*without, *with_hvo)] == pytest.approx([0] * 4, abs=0.3)
    assert [one.compound for one in (*without, *with_hvo)] == [0, 32, 0, 32]
    for (least, most), one, other in zip((zap_file, zap_hugetlb), with_hvo, without, strict=True):
        assert least < one.per_page - other.per_page < most
