"""What one chunk of the vmemmap comes to, whichever way it was looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvoinspect.vmemmap.backing import Backing
from hvoinspect.vmemmap.hugepages import Hugepages
from hvoinspect.vmemmap.oddities import Oddities
from hvoinspect.vmemmap.savings import Mappings


@dataclass(frozen=True)
class Part:
    """What one chunk comes to.

    `classes` int64, struct pages of each PageClass; `encodings` int64, tails that are no fake
    heads, by Encoding. `offline`: struct pages of offline sections; `inferred`: those that were
    not read because another one tells what they are.
    """

    classes: NDArray[np.int64]
    encodings: NDArray[np.int64]
    offline: int
    inferred: int
    hugepages: Hugepages
    mappings: Mappings
    oddities: Oddities
    backing: Backing
