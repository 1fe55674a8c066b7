"""The control flow of a function: its instructions, and which of them one call can come back to.

What is followed: jumps with a fixed target, conditional or not, within a function and its cold
pieces, and from each other instruction on to the next; a call is such an instruction. It ends at
returns and at undefined instructions (BUG(); WARN() is taken for one, which hides only loops that
go on through a warning), and at jumps out of the function and through registers: kernels are
built without tables of jumps since retpolines (-fno-jump-tables).

What is missed: a way that only a static key opens when the kernel runs (the file has a no-op
there), and one by a fixed-up exception. What is too much: a way on behind a call that never
returns, if code follows that something else jumps to.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from capstone import CS_ARCH_X86, CS_MODE_64, Cs  # type: ignore[import-untyped]

from hvoinspect.hotpath.vmlinux import Function

_JUMPS = frozenset({"loop", "loope", "loopne", "xbegin"})  # besides all that begin with a j
_ENDS = frozenset({"ret", "retf", "iretq", "sysretq", "ud0", "ud1", "ud2", "hlt", "int3"})

Code = Callable[[int, int], bytes]
FunctionAt = Callable[[int], Function | None]


class _Disassembler(Protocol):
    skipdata: bool

    def disasm_lite(self, code: bytes, offset: int) -> Iterator[tuple[int, int, str, str]]: ...


@dataclass(frozen=True)
class Flow:
    """The instructions of a function and all its pieces, in blocks that are entered at the top.

    `addresses` are those of the instructions and `blocks` those of each block's first one, both
    sorted; `following` are the blocks to which control can go from each.
    """

    addresses: tuple[int, ...]
    blocks: tuple[int, ...]
    following: dict[int, tuple[int, ...]]

    def instructions(self, start: int, end: int) -> int:
        """Return how many instructions begin from `start` on and before `end`."""
        return bisect_left(self.addresses, end) - bisect_left(self.addresses, start)

    def returns_to(self, address: int) -> bool:
        """Whether control that is at `address` can come there again."""
        place = bisect_right(self.blocks, address) - 1
        if place < 0:
            return False
        goal = self.blocks[place]
        seen: set[int] = set()
        ahead = list(self.following[goal])
        while ahead:
            block = ahead.pop()
            if block == goal:
                return True
            if block not in seen:
                seen.add(block)
                ahead.extend(self.following[block])
        return False


def own_name(symbol: str) -> str:
    """Return the name of the function that `symbol` is, or is a cold piece of.

    GCC splits off what is rarely run as NAME.cold, or NAME.cold.NUMBER before version 9.
    """
    return re.sub(r"\.cold(\.\d+)?$", "", symbol)


class Flows:
    """Finds the control flow of functions, once for each."""

    def __init__(self, function_at: FunctionAt, code: Code) -> None:
        self._function_at, self._code = function_at, code
        self._machine: _Disassembler = Cs(CS_ARCH_X86, CS_MODE_64)
        self._machine.skipdata = True  # what is unknown is one byte
        self._known: dict[int, Flow] = {}

    def of(self, function: Function) -> Flow:
        """Return the control flow of `function`. Raises what the code's reader does."""
        if function.start not in self._known:
            self._known[function.start] = self._read(function)
        return self._known[function.start]

    def _read(self, function: Function) -> Flow:
        pieces = [function]
        jumps: dict[int, int] = {}
        ends: set[int] = set()
        sizes: dict[int, int] = {}
        for piece in pieces:  # which grows
            targets = self._disassemble(piece, jumps, ends, sizes)
            for target in targets:
                other = self._function_at(target)
                if other and own_name(other.name) == own_name(function.name):
                    pieces += [other] * (other not in pieces)
        return _flow(sizes, jumps, ends)

    def _disassemble(
        self, piece: Function, jumps: dict[int, int], ends: set[int], sizes: dict[int, int]
    ) -> list[int]:
        """Add the instructions of `piece`; return the targets of jumps out of it."""
        outside = []
        code = self._code(piece.start, piece.end)
        for address, size, name, operand in self._machine.disasm_lite(code, piece.start):
            sizes[address] = size
            name = name.rpartition(" ")[2]  # noqa: PLW2901 - without prefixes, as bnd and rep
            if name[0] == "j" or name in _JUMPS:
                if operand.startswith("0x"):
                    jumps[address] = target = int(operand, 16)
                    if not piece.start <= target < piece.end:
                        outside.append(target)
                if name == "jmp":
                    ends.add(address)
            elif name in _ENDS:
                ends.add(address)
        return outside


def _flow(sizes: dict[int, int], jumps: dict[int, int], ends: set[int]) -> Flow:
    """Build the blocks: one begins where a jump goes, and behind each jump and each end."""
    addresses = tuple(sorted(sizes))
    starts = {target for target in jumps.values() if target in sizes}
    starts.update(at + sizes[at] for at in itertools.chain(jumps, ends))
    starts.update(addresses[:1])
    # A piece that begins elsewhere is not run on into by the one before.
    starts.update(
        after for before, after in itertools.pairwise(addresses) if before + sizes[before] != after
    )
    blocks = tuple(sorted(starts & sizes.keys()))
    following = {}
    for place, block in enumerate(blocks):
        until = blocks[place + 1] if place + 1 < len(blocks) else addresses[-1] + 1
        last = addresses[bisect_left(addresses, until) - 1]
        ways = [jumps.get(last)] + [last + sizes[last]] * (last not in ends)
        following[block] = tuple(way for way in ways if way is not None and way in starts)
    return Flow(addresses, blocks, {key: _known(ways, sizes) for key, ways in following.items()})


def _known(ways: tuple[int, ...], sizes: dict[int, int]) -> tuple[int, ...]:
    return tuple(way for way in ways if way in sizes)
