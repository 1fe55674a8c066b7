"""The run file: what is written is read back, and nothing else is taken for a run."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.hotpath import run as run_module
from hvoinspect.hotpath.run import Count, Run, read_run, run_json
from tests.hotpath.runs import ANYTHING, RUNS

SMALL = Run(
    kernel={"release": "7.1.0", "build_id": "ab12", "arch": "x86_64", "page_size": 4096},
    encoding={"tail": "mask"},
    seconds=10.5,
    mode="sites",
    coverage={"sites": 4, "attached": 3},
    counts=(Count("kfree", "_compound_head", 1, 7),),
    workload={"command": ["zap", "100"], "status": 0, "units": 100, "unit": "page"},
)

each_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


@each_example
@given(RUNS)
def test_what_is_written_is_read_back(file: Path, run: Run) -> None:
    file.write_text(run_json(run), encoding="utf-8")
    assert read_run(file) == run


def test_the_contract() -> None:
    assert json.loads(run_json(SMALL)) == {
        "schema": "hvoinspect.hotpath/1",
        "kernel": {"release": "7.1.0", "build_id": "ab12", "arch": "x86_64", "page_size": 4096},
        "encoding": {"tail": "mask"},
        "seconds": 10.5,
        "mode": "sites",
        "coverage": {"sites": 4, "attached": 3},
        "counts": [{"function": "kfree", "helper": "_compound_head", "sites": 1, "hits": 7}],
        "workload": {"command": ["zap", "100"], "status": 0, "units": 100, "unit": "page"},
    }


def test_a_number_that_json_lacks_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        run_json(Run(**{**vars(SMALL), "seconds": float("nan")}))


def test_what_a_later_version_adds_does_no_harm(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(run_json(SMALL)), "budget": {"percent": 2}}))
    assert read_run(file) == SMALL


def refused(file: Path) -> str:
    with pytest.raises(HvoinspectError) as caught:
        read_run(file)
    assert caught.value.status == ExitStatus.CANNOT_INSPECT
    assert "hotpath record" in caught.value.remedy
    assert "\n" not in caught.value.why
    return caught.value.why


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (("kernel",), [], '"kernel" is no object'),
        (("kernel", "release"), 7, '"kernel.release" is no text'),
        (("kernel", "release"), "7" * 5000, '"kernel.release" is no text'),
        (("encoding",), None, '"encoding" is no object'),
        (("encoding", "tail"), 1, '"encoding.tail" is no text'),
        (("coverage", "sites"), -1, '"coverage.sites" is no count'),
        (("seconds",), -1, '"seconds" is out of range'),
        (("seconds",), "10", '"seconds" is no number'),
        (("seconds",), True, '"seconds" is no number'),
        (("seconds",), 10**400, '"seconds" is out of range'),
        (("mode",), "guess", '"mode" is none of sites, functions, sample'),
        (("mode",), ["sites"], '"mode" is no text'),
        (("coverage", "attached"), 5, '"coverage.attached" is more than there are sites'),
        (("coverage", "attached"), 0.5, '"coverage.attached" is no count'),
        (("counts",), {}, '"counts" is no list'),
        (("counts", 0), "kfree", '"counts[0]" is no object'),
        (("counts", 0, "function"), "", '"counts[0].function" is empty'),
        (("counts", 0, "helper"), None, '"counts[0].helper" is no text'),
        (("counts", 0, "sites"), -1, '"counts[0].sites" is no count'),
        (("counts", 0, "hits"), 1.5, '"counts[0].hits" is no count'),
        (("counts", 0, "hits"), True, '"counts[0].hits" is no count'),
        (("counts", 0, "hits"), 2**64, '"counts[0].hits" is no count'),
        (("workload",), "zap", '"workload" is no object'),
        (("workload", "command"), "zap", '"workload.command" is no list'),
        (("workload", "command"), ["zap", 1], '"workload.command" is no list of texts'),
        (("workload", "units"), "100", '"workload.units" is no number'),
        (("workload", "unit"), 4, '"workload.unit" is no text'),
    ],
)
def test_a_member_that_is_wrong_is_named(
    file: Path, place: tuple[str | int, ...], value: object, why: str
) -> None:
    content = json.loads(run_json(SMALL))
    at = content
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    file.write_text(json.dumps(content))
    assert refused(file) == f"{file}: {why}"


@pytest.mark.parametrize("name", list(vars(SMALL)))
def test_a_member_that_is_missing_is_named(file: Path, name: str) -> None:
    content = json.loads(run_json(SMALL))
    del content[name]
    file.write_text(json.dumps(content))
    assert refused(file) == f'{file}: "{name}" is missing'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no JSON, or damaged"),
        (b"\xff\xfe\x00", "is no JSON, or damaged"),
        (run_json(SMALL).encode()[:-20], "is no JSON, or damaged"),
        pytest.param(b"[" * 200_000, "is no JSON, or damaged", id="nested"),
        pytest.param(b"[" + b"[]," * 300_000, "has more than 262144 lists", id="many lists"),
        (run_json(SMALL).replace("10.5", "NaN").encode(), "is no JSON, or damaged"),
        (run_json(SMALL).replace("10.5", "1e999").encode(), "is no JSON, or damaged"),
        (run_json(SMALL).replace("10.5", "9" * 5000).encode(), "is no JSON, or damaged"),
        (b"[]", 'is JSON of something else: it has no "schema"'),
        (b"{}", 'is JSON of something else: it has no "schema"'),
        (b'{"schema": "hvoinspect.scan/1"}', "holds hvoinspect.scan/1, not hvoinspect.hotpath/1"),
    ],
)
def test_what_is_no_run_is_refused(file: Path, content: bytes, why: str) -> None:
    file.write_bytes(content)
    assert why in refused(file)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none")
    assert "Is a directory" in refused(tmp_path)


def test_no_more_is_read_than_a_run_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MAX_BYTES", 1 << 20)
    assert refused(Path("/dev/zero")) == "/dev/zero is larger than 1 MiB"


@each_example
@given(st.sampled_from(list(vars(SMALL))), ANYTHING, st.sampled_from(["member", "inner"]))
def test_anything_in_a_member_is_read_or_refused(
    file: Path, name: str, value: object, where: str
) -> None:
    content = json.loads(run_json(SMALL))
    if where == "inner" and isinstance(content[name], dict):
        content[name] = dict.fromkeys(content[name], value)
    else:
        content[name] = value
    file.write_text(json.dumps(content))
    with contextlib.suppress(HvoinspectError):
        assert run_json(read_run(file))


class TestUnits:
    def test_are_known_if_there_were_any(self) -> None:
        assert (SMALL.units, SMALL.unit) == (100.0, "page")

    @pytest.mark.parametrize("workload", [{}, {"units": None}, {"units": 0}])
    def test_are_unknown_otherwise(self, workload: dict[str, object]) -> None:
        assert Run(**{**vars(SMALL), "workload": workload}).units is None
