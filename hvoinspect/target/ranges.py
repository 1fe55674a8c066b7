"""Ranges of places in an array, spelled out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def places_in(starts: NDArray[np.int64], sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return starts[0], starts[0] + 1, ... (sizes[0] of them), starts[1], ...: int64."""
    ends = np.cumsum(sizes, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    first: NDArray[np.int64] = np.repeat(starts - (ends - sizes), sizes)
    return first + np.arange(total)
