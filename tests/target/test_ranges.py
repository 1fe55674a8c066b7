"""Arrays without repeats."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.target.ranges import each_once


@given(st.lists(st.integers(0, 5) | st.integers(0, (1 << 64) - 1)))
def test_each_value_is_there_once_and_they_ascend(values: list[int]) -> None:
    assert each_once(np.array(values, np.uint64)).tolist() == sorted(set(values))
