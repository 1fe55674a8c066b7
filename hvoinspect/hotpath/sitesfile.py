"""The inlined copies of a kernel's helpers, and the file that keeps them for a host."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = "hvoinspect.sites/1"


@dataclass(frozen=True)
class Copy:
    """One inlined copy of `helper` in `function`, or its out-of-line body if the two are the same.

    `address` is where it is entered, as the kernel was linked (without KASLR's shift). `ranges` are
    its pieces, as (address, bytes); `bytes` and `instructions` are those of all of them. `in_loop`
    says whether code of `function` jumps back over it, so that one call may run it many times.
    """

    helper: str
    function: str
    address: int
    bytes: int
    instructions: int
    ranges: tuple[tuple[int, int], ...]
    in_loop: bool


@dataclass(frozen=True)
class Sites:
    """All copies of one build of a kernel.

    `build_id` is lower-case hexadecimal, `stext` the link address of `_stext`, which tells a
    running kernel's shift.
    """

    build_id: str
    release: str
    stext: int
    copies: tuple[Copy, ...]
