"""The sites file: what is written is read back, nothing else is taken for it, and it is found."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.hotpath.sitesfile import (
    MAX_IMAGE,
    Copy,
    Sites,
    check_build_id,
    find_sites,
    read_sites,
    sites_json,
)
from tests.hotpath.runs import ANYTHING

STEXT = 0xFFFFFFFF81000000
BUILD_ID = "ab" * 20

SMALL = Sites(
    BUILD_ID,
    "7.3.4",
    STEXT,
    (Copy("_compound_head", "kfree", STEXT + 16, 9, 3, ((STEXT + 16, 4), (STEXT + 64, 5)), True),),
)

each_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sites.json"


@st.composite
def copies(draw: st.DrawFn) -> Copy:
    pieces = st.tuples(st.integers(STEXT, STEXT + (1 << 28)), st.integers(1, 4096))
    ranges = tuple(draw(st.lists(pieces, min_size=1, max_size=4)))
    size = sum(length for _, length in ranges)
    names = st.text(min_size=1, max_size=40)
    return Copy(
        draw(names),
        draw(names),
        ranges[0][0],
        size,
        draw(st.integers(1, size)),
        ranges,
        draw(st.booleans()),
    )


@each_example
@given(st.lists(copies(), max_size=4), st.text(min_size=1))
def test_what_is_written_is_read_back(file: Path, some: list[Copy], release: str) -> None:
    sites = Sites(BUILD_ID, release, STEXT, tuple(some))
    file.write_text(sites_json(sites), encoding="utf-8")
    assert read_sites(file) == sites


def test_the_contract() -> None:
    assert json.loads(sites_json(SMALL)) == {
        "schema": "hvoinspect.sites/1",
        "build_id": BUILD_ID,
        "release": "7.3.4",
        "stext": "0xffffffff81000000",
        "copies": [
            {
                "helper": "_compound_head",
                "function": "kfree",
                "address": "0xffffffff81000010",
                "bytes": 9,
                "instructions": 3,
                "ranges": [["0xffffffff81000010", 4], ["0xffffffff81000040", 5]],
                "in_loop": True,
            }
        ],
    }


def refused(file: Path) -> str:
    with pytest.raises(HvoinspectError) as caught:
        read_sites(file)
    assert caught.value.status == ExitStatus.CANNOT_INSPECT
    assert "hotpath sites" in caught.value.remedy
    assert "\n" not in caught.value.why
    return caught.value.why


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (("build_id",), "../../etc/passwd", '"build_id" is no build-id'),
        (("build_id",), "AB" * 20, '"build_id" is no build-id'),
        (("build_id",), "ab" * 21, '"build_id" is no build-id'),
        (("release",), 7, '"release" is no text'),
        (("stext",), STEXT, '"stext" is no text'),
        (("stext",), "0x1" + "0" * 16, '"stext" is no address'),
        (("stext",), "-0x1", '"stext" is no address'),
        (("copies",), {}, '"copies" is no list'),
        (("copies", 0), 5, '"copies[0]" is no object'),
        (("copies", 0, "helper"), "", '"copies[0].helper" is empty'),
        (("copies", 0, "function"), None, '"copies[0].function" is no text'),
        (("copies", 0, "address"), "0x0", '"copies[0].address" is too far from stext'),
        (("copies", 0, "address"), f"{STEXT + MAX_IMAGE:#x}", "is too far from stext"),
        (("copies", 0, "bytes"), 10, '"copies[0].bytes" is not what the ranges add up to'),
        (("copies", 0, "bytes"), -9, '"copies[0].bytes" is no count'),
        (("copies", 0, "instructions"), 0, '"copies[0].instructions" does not fit into bytes'),
        (("copies", 0, "instructions"), 10, "does not fit into bytes"),
        (("copies", 0, "ranges"), "all", '"copies[0].ranges" is no list'),
        (("copies", 0, "ranges"), [], '"copies[0].bytes" is not what the ranges add up to'),
        (("copies", 0, "ranges", 1), ["0xffffffff81000040"], "is no list of addresses"),
        (("copies", 0, "ranges", 1, 1), True, "is no list of addresses"),
        (("copies", 0, "ranges", 1, 1), 0, "is no list of addresses"),
        (("copies", 0, "ranges", 1, 1), 2**63, '"copies[0].ranges" is too far from stext'),
        (("copies", 0, "ranges", 1, 0), "0x10", '"copies[0].ranges" is too far from stext'),
        (("copies", 0, "in_loop"), 1, '"copies[0].in_loop" is neither true nor false'),
    ],
)
def test_a_member_that_is_wrong_is_named(
    file: Path, place: tuple[str | int, ...], value: object, why: str
) -> None:
    content = json.loads(sites_json(SMALL))
    at = content
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    file.write_text(json.dumps(content))
    assert why in refused(file)


@pytest.mark.parametrize("name", list(vars(SMALL.copies[0])))
def test_a_member_that_is_missing_is_refused(file: Path, name: str) -> None:
    content = json.loads(sites_json(SMALL))
    del content["copies"][0][name]
    file.write_text(json.dumps(content))
    assert f'"copies[0].{name}"' in refused(file)


@each_example
@given(st.sampled_from(list(vars(SMALL.copies[0]))), ANYTHING)
def test_anything_in_a_member_is_read_or_refused(file: Path, name: str, value: object) -> None:
    content = json.loads(sites_json(SMALL))
    content["copies"][0][name] = value
    file.write_text(json.dumps(content))
    with contextlib.suppress(HvoinspectError):
        assert sites_json(read_sites(file))


def test_sites_of_another_build_are_refused() -> None:
    check_build_id(SMALL, BUILD_ID)
    for running in ("cd" * 20, None):
        with pytest.raises(HvoinspectError, match=r"of another kernel: 7\.3\.4"):
            check_build_id(SMALL, running)


class TestFind:
    """Sites are found by the kernel's build-id: the user's first, then the host's."""

    @pytest.fixture
    def system(self, tmp_path: Path) -> Path:
        return tmp_path / "system"

    def put(self, folder: Path, release: str, build_id: str = BUILD_ID) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = sites_json(Sites(build_id, release, STEXT, ()))
        (folder / f"{BUILD_ID}.json").write_text(text)

    def found(self, system: Path, **environment: str) -> str | None:
        sites = find_sites(BUILD_ID, environment, system)
        return None if sites is None else sites.release

    def test_nowhere(self, system: Path) -> None:
        assert self.found(system) is None

    def test_in_each_place_the_users_own_first(self, tmp_path: Path, system: Path) -> None:
        self.put(system, "of the host")
        assert self.found(system, HOME=str(tmp_path)) == "of the host"
        self.put(tmp_path / ".local/share/hvoinspect/sites", "of home")
        assert self.found(system, HOME=str(tmp_path), XDG_DATA_HOME="relative") == "of home"
        self.put(tmp_path / "data/hvoinspect/sites", "of data")
        data = str(tmp_path / "data")
        assert self.found(system, HOME=str(tmp_path), XDG_DATA_HOME=data) == "of data"

    def test_a_file_that_is_not_what_its_name_says_is_refused(self, system: Path) -> None:
        self.put(system, "7.0", "cd" * 20)
        with pytest.raises(HvoinspectError, match="of another kernel"):
            self.found(system)

    def test_a_build_id_leads_to_no_other_folder(self, tmp_path: Path, system: Path) -> None:
        self.put(tmp_path, "7.3")
        assert find_sites(f"../{BUILD_ID}", {}, system) is None
