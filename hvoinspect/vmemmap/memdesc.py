"""Could a page's memdesc, beside the one before it, tell a tail? The rule, emulated on a kernel.

Once every `compound_head` is a pointer to a memory descriptor, all struct pages of a folio hold the
same one. Then a page would be a tail where its memdesc is the one of the page before it, and no bit
need say so. Whether that holds hangs on what all memory holds that is no folio: the models. Here
each struct page gets the memdesc that a model gives it, and the rule is held against what the page
is today. A run of the vmemmap begins behind a page of zeros, which is what makes the struct page
before its first one readable: it reads as NULL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hvoinspect.vmemmap.pages import UNKNOWN_HEAD

NULL = np.uint64(0xFFFF_FFFF_FFFF_FFFE)
"""Stands for no memdesc; a memdesc is else named by the pfn of a struct page that holds it."""


@dataclass(frozen=True)
class Model:
    """What struct pages hold, beside those of folios, which hold their folio's.

    `free`: what free memory holds: each page itself, NULL, or one memdesc a free block. `others`:
    what compound pages hold that are neither folio, slab nor page table: one memdesc, as today's
    one head, or each page itself.
    """

    name: str
    free: Literal["itself", "null", "block"]
    others: Literal["one", "itself"]
    text: str


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            "self",
            "itself",
            "one",
            "compound pages of every kind hold one memdesc each, all other pages their own",
        ),
        Model("null-free", "null", "one", "as self, but free memory holds NULL"),
        Model("free-block", "block", "one", "as self, but a free block holds one memdesc"),
        Model(
            "slab-table",
            "itself",
            "itself",
            "folios, slabs and page tables hold one memdesc each, all other pages their own, even "
            "where they are compound",
        ),
    )
}


class Verdict(IntEnum):
    """What the rule says of a struct page, against what it is."""

    UNJUDGED = 0
    """It or the one before it cannot be read, or its word leads nowhere."""
    AGREES = 1
    FREE = 2
    """No tail, but free memory that holds what the free memory before it holds."""
    GUARD = 3
    """No tail, but the first of a run, and NULL as the page of zeros before it."""
    LED_TO = 4
    """No tail, but the page before it is a tail that leads here: damage."""
    UNNAMED = 5
    """A tail, but of a compound page that is no folio, slab or page table, and holds itself."""
    RUN_START = 6
    """A tail, but the first of a run."""
    ASTRAY = 7
    """A tail, but the page before it leads elsewhere: damage."""


FALSE_TAILS = (Verdict.FREE, Verdict.GUARD, Verdict.LED_TO)
MISSED_TAILS = (Verdict.UNNAMED, Verdict.RUN_START, Verdict.ASTRAY)
DAMAGE = [Verdict.LED_TO, Verdict.RUN_START, Verdict.ASTRAY]
"""What no kernel at rest shows under any model."""


@dataclass(frozen=True)
class Cells:
    """What consecutive places hold, c of them, in any shape.

    `own` uint64[c]: the pfn of the struct page. `memdesc` uint64[c]: NULL, UNKNOWN_HEAD
    (`pages.py`), or the pfn that names it. `tail` bool[c].
    """

    own: NDArray[np.uint64]
    memdesc: NDArray[np.uint64]
    tail: NDArray[np.bool_]


def judge(
    cells: Cells,
    before: NDArray[np.uint64],
    begins: NDArray[np.bool_] | bool,
    model: Model,
) -> NDArray[np.uint8]:
    """Return the Verdict on each of `cells`: uint8[c].

    `before` uint64[c]: the memdesc of the struct page before each. `begins` bool[c]: there is none,
    but the page of zeros of a run; `before` is NULL there.
    """
    same = cells.memdesc == before
    verdict = np.full(same.shape, Verdict.AGREES, np.uint8)
    false, missed = same & ~cells.tail, cells.tail & ~same
    if false.any():
        verdict[false] = Verdict.LED_TO
        verdict[false & (cells.memdesc != cells.own)] = Verdict.FREE
        verdict[false & begins] = Verdict.GUARD
    if missed.any():
        verdict[missed] = Verdict.ASTRAY
        if model.others == "itself":
            verdict[missed & (cells.memdesc == cells.own)] = Verdict.UNNAMED
        verdict[missed & begins] = Verdict.RUN_START
    verdict[(cells.memdesc == UNKNOWN_HEAD) | (before == UNKNOWN_HEAD)] = Verdict.UNJUDGED
    return verdict
