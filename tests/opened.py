"""A kernel and the drgn program that it was learned from: the tests' other witness."""

from __future__ import annotations

from drgn import Program

from hvoinspect.target.choice import Target
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import learn_opened, open_program


def open_with_drgn(target: Target) -> tuple[Kernel, Program]:
    opened = open_program(target)
    return learn_opened(opened, target.symbols), opened.prog
