"""Names for files that no other has."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.fleet.files import named

PART = st.sampled_from(["a", "b", "a-b", "vmcore", "dump.1", "dump.2"])


def test_names_of_files_alone_are_theirs() -> None:
    assert named([Path("/x/a.hvo"), Path("/y/b")]) == {Path("/x/a.hvo"): "a", Path("/y/b"): "b"}


def test_files_that_are_alike_are_named_for_their_folders() -> None:
    files = [Path("/var/crash/db-1/vmcore"), Path("/var/crash/db-2/vmcore"), Path("/x/other")]
    assert list(named(files).values()) == ["db-1-vmcore", "db-2-vmcore", "other"]


@given(st.sets(st.lists(PART, min_size=1, max_size=3).map(lambda parts: Path("/", *parts))))
def test_no_two_have_the_same_and_none_leads_elsewhere(files: set[Path]) -> None:
    names = named(sorted(files))
    assert len(set(names.values())) == len(files)
    assert all(name and os.sep not in name for name in names.values())
