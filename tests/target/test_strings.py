"""Finding a string among many, against looking at each of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.target.strings import MAX_STRINGS, Strings

few = st.text("ab", max_size=3).map(str.encode)


@given(strings=st.lists(few, max_size=12), wanted=few.filter(bool))
def test_all_that_are_wanted_are_found_and_no_other(strings: list[bytes], wanted: bytes) -> None:
    text = b"\0" + b"".join(each + b"\0" for each in strings)
    starts = [1 + sum(len(each) + 1 for each in strings[:at]) for at in range(len(strings))]
    expected = [at for at, each in zip(starts, strings, strict=True) if each == wanted]
    assert Strings(text).find(wanted).tolist() == expected


def test_no_string_at_all() -> None:
    assert not len(Strings(b"\0").find(b"a"))
    assert not len(Strings(b"\0" * 1000).find(b"a"))


def test_more_than_there_may_be() -> None:
    strings = Strings(b"\0" + b"a\0" * (MAX_STRINGS + 1))
    with pytest.raises(ValueError, match=f"it has {MAX_STRINGS + 1} strings"):
        strings.find(b"a")
