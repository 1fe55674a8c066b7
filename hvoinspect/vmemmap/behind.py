"""Which frames are behind hugepages' struct pages: what page tables show of many at a time."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hvoinspect.vmemmap.chunks import MappedPages
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD

T = TypeVar("T", bound=np.generic)


def behind_hugepages(
    mapped: MappedPages, first: NDArray[np.intp], known: NDArray[np.bool_]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Return the columns of Hugepages that page tables show, and what else may be judged.

    `first` intp[h]: which of `mapped` holds their first struct pages; `known` bool[h, N], which of
    their vmemmap pages are mapped and were read. What may be judged is bool[h, N] too: of those
    known the ones on frames of the hugepage's own, where what they hold is its own matter.
    """
    count, pages = known.shape
    frame, present = rows_of(mapped.frame, first, pages), rows_of(mapped.present, first, pages)
    writable = rows_of(mapped.writable, first, pages)
    tails, read_only = frame[:, 1:], ~writable[:, 1:]
    tail_frame = _commonest(frame, present)
    stray = (tails != tail_frame[:, None]) & present[:, 1:]
    different = _distinct(frame, present)
    shares = different < present.sum(axis=1)

    wrong = np.zeros_like(stray)
    odd = np.flatnonzero(shares & stray.any(axis=1))
    if len(odd):
        wrong[odd] = stray[odd] & (read_only[odd] | _behind_several(tails[odd]))
    wrong_page = np.where(wrong.any(axis=1), first_in_row(wrong) + 1, 0)
    own = known & ~(
        (frame == tail_frame[:, None]) & (shares & (tail_frame != frame[:, 0]))[:, None]
    )
    own[:, 1:] &= ~wrong
    columns = {
        "vmemmap_pages": np.full(count, pages, np.int64),
        "unknown": pages - known.sum(axis=1),
        "split": rows_of(mapped.split, first, pages).all(axis=1),
        "head_frame": frame[:, 0],
        "on_head_frame": ((frame == frame[:, :1]) & known).sum(axis=1),
        "head_writable": writable[:, 0],
        "tail_frame": tail_frame,
        "strays": (stray & known[:, 1:]).sum(axis=1),
        "distinct": different if (known == present).all() else _distinct(frame, known),
        "read_only": (read_only & known[:, 1:]).sum(axis=1),
        "read_only_run": np.logical_and.accumulate(read_only, axis=1).sum(axis=1),
        "wrong": wrong.sum(axis=1),
        "wrong_page": wrong_page,
        "wrong_frame": np.where(wrong_page > 0, frame[np.arange(count), wrong_page], np.uint64(0)),
    }
    return columns, own


def rows_of(values: NDArray[T], first: NDArray[np.intp], count: int) -> NDArray[T]:
    """Return the `count` of `values` from each of `first` on, of intp[h]: [h, count], a copy."""
    rows: NDArray[T] = sliding_window_view(values, count)[first]
    return rows


def first_in_row(chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the first place that is chosen in each row, 0 where none is: intp[h]."""
    return np.argmax(chosen, axis=1) if chosen.size else np.zeros(len(chosen), np.intp)


def _commonest(frame: NDArray[np.uint64], present: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return the frame that is behind most vmemmap pages of each row but the first: uint64[h].

    The second's where no frame is behind several, the first's where there is no second.
    """
    result = frame[:, min(1, frame.shape[1] - 1)].copy()
    odd = np.flatnonzero((frame[:, 1:] != result[:, None]).any(axis=1))
    if len(odd):
        ordered = np.sort(np.where(present, frame, UNKNOWN_HEAD)[odd, 1:], axis=1)
        place = np.arange(ordered.shape[1])
        begins = np.diff(ordered, axis=1, prepend=~ordered[:, :1]) != 0
        again = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
        again[ordered == UNKNOWN_HEAD] = 0
        most = np.argmax(again, axis=1)
        each = np.arange(len(odd))
        result[odd] = np.where(again[each, most] > 0, ordered[each, most], result[odd])
    return result


def _behind_several(frame: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell of each frame of each row whether it is there again: bool, as `frame`."""
    order = np.argsort(frame, axis=1)
    ordered = np.take_along_axis(frame, order, axis=1)
    again = np.zeros(frame.shape, np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    again[:, :-1] |= again[:, 1:]
    result = np.zeros(frame.shape, np.bool_)
    np.put_along_axis(result, order, again, axis=1)
    return result


def _distinct(frame: NDArray[np.uint64], known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the distinct frames of each row among those `known`: int64[h]."""
    if frame.shape[1] == 0:
        return np.zeros(len(frame), np.int64)
    second = frame[:, min(1, frame.shape[1] - 1)]
    # As where HVO has left one for all tails, or where all is the head's.
    result: NDArray[np.int64] = 1 + (frame[:, 0] != second).astype(np.int64)
    odd = np.flatnonzero(
        ~((frame[:, 1:] == second[:, None]) & known[:, 1:]).all(axis=1) | ~known[:, 0]
    )
    if len(odd):
        ordered = np.sort(np.where(known[odd], frame[odd], UNKNOWN_HEAD), axis=1)
        changes = (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)
        result[odd] = changes + known[odd].all(axis=1)
    return result
