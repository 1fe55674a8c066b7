"""Distinct values of an array in which equal ones mostly stand side by side, or all differ."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Distinct(NamedTuple):
    """The distinct values among the chosen ones of p, d of them.

    `values` uint64[d], ascending. `row` intp[p]: which of them stands at each place, -1 where none
    was chosen. `times` int64[d]: how often each is there, `first` and `last` intp[d]: where
    at first, and at last.
    """

    values: NDArray[np.uint64]
    row: NDArray[np.intp]
    times: NDArray[np.int64]
    first: NDArray[np.intp]
    last: NDArray[np.intp]


def distinct(values: NDArray[np.uint64], chosen: NDArray[np.bool_]) -> Distinct:
    """Return the distinct ones of `values`, uint64[p], where `chosen`, bool[p].

    Frames behind a vmemmap mostly ascend, or one is repeated many times in a row, so sorting all
    of them, as np.unique() does, is seldom needed.
    """
    row = np.full(len(values), -1, np.intp)
    used = chosen.nonzero()[0]
    some = values[used]
    if (some[1:] > some[:-1]).all():
        row[used] = np.arange(len(used))
        return Distinct(some, row, np.ones(len(used), np.int64), used, used)
    # Runs of equal ones, at `edges[i]` to before `edges[i + 1]` of those chosen.
    edges = np.concatenate([[0], (some[1:] != some[:-1]).nonzero()[0] + 1, [len(some)]])
    begins, length = edges[:-1], np.diff(edges)
    found, of_run = np.unique(some[begins], return_inverse=True)
    row[used] = np.repeat(of_run, length)
    first, last = np.zeros(len(found), np.intp), np.zeros(len(found), np.intp)
    last[of_run] = used[edges[1:] - 1]  # of places assigned more than once the last counts
    first[of_run[::-1]] = used[begins[::-1]]
    times = np.zeros(len(found), np.int64)
    np.add.at(times, of_run, length)
    return Distinct(found, row, times, first, last)
