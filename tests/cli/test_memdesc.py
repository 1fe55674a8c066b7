"""`hvoinspect memdesc` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hvoinspect.cli.memdesc import memdesc
from hvoinspect.vmemmap.memdesc import MODELS
from tests.cli.conftest import Call


def test_a_dump_is_looked_at(call: Call, core: Path) -> None:
    status, out, err = call("memdesc", "-c", core, "--json")
    result = json.loads(out)
    assert (status, err) == (0, "")
    assert (result["schema"], result["model"]) == ("hvoinspect.memdesc/1", "self")
    assert result["rule"] == {"agree": 1 << 15, "false_tail": 0, "missed_tail": 0, "unjudged": 0}
    assert [run["first_pfn"] for run in result["runs"]] == [0]


def test_that_the_rule_is_wrong_is_an_answer_and_no_failure(call: Call, damaged_core: Path) -> None:
    """A tail that leads nowhere leaves it, and the one after it, unjudged."""
    status, out, _ = call("memdesc", "-c", damaged_core, "--json")
    assert (status, json.loads(out)["rule"]["unjudged"]) == (4, 2)


def test_what_cannot_be_read_is_said(call: Call, partial_core: Path) -> None:
    status, out, _ = call("memdesc", "-c", partial_core)
    assert status == 4
    assert "Partial: of" in out


def test_the_models_of_the_help_are_all_there_are() -> None:
    (option,) = [option for option in memdesc.params if option.name == "model"]
    assert list(option.type.choices) == list(MODELS)  # type: ignore[attr-defined]
    assert all(f"\n  {name} " in (memdesc.epilog or "") for name in MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_each_model_can_be_chosen(call: Call, core: Path, name: str) -> None:
    status, out, _ = call("memdesc", "-c", core, "--model", name)
    assert status == 0
    assert f"Model {name}: {MODELS[name].text}." in " ".join(out.split())


def test_an_unknown_model_is_a_usage_error(call: Call, core: Path) -> None:
    status, out, err = call("memdesc", "-c", core, "--model", "nothing")
    assert (status, out) == (2, "")
    assert "self" in err.splitlines()[0]


def test_it_is_written_whole_or_not_at_all(call: Call, core: Path, tmp_path: Path) -> None:
    output = tmp_path / "memdesc.json"
    assert call("memdesc", "-c", core, "-o", output)[0] == 0
    assert json.loads(output.read_text(encoding="utf-8"))["schema"] == "hvoinspect.memdesc/1"
    assert call("memdesc", "-c", core, "-o", output)[0] == 2
