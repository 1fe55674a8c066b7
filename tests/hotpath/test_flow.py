"""Whether control can come back to an instruction, on code that is written out here."""

from __future__ import annotations

import pytest

from hvoinspect.hotpath.flow import Flow, Flows, own_name
from hvoinspect.hotpath.vmlinux import Function

NOP, RET, UD2, INT3 = "90", "c3", "0f0b", "cc"


def flow_of(*pieces: tuple[str, int, str], branches: dict[int, int] | None = None) -> Flow:
    """Return the flow of the first piece; each is a name, an address and code."""
    functions = {
        Function(name, start, start + len(bytes.fromhex(code))): bytes.fromhex(code)
        for name, start, code in pieces
    }

    def function_at(address: int) -> Function | None:
        return next((one for one in functions if one.start <= address < one.end), None)

    def code(start: int, end: int) -> bytes:
        return next(text for one, text in functions.items() if (one.start, one.end) == (start, end))

    return Flows(function_at, code, branches or {}).of(next(iter(functions)))


@pytest.mark.parametrize(
    ("code", "looped"),
    [
        # nop; 1: nop; jne 1b; ret
        ("909075fdc3", {1, 2}),
        # nop; 1: nop; jmp 1b
        ("9090ebfd", {1, 2}),
        # 1: nop; jmp 1b, by a jump of 32 bits
        ("90e9faffffff", {0, 1}),
        # je 2f; 1: nop; ret; 2: jmp 1b: back, but once
        ("740290c3ebfc", set()),
        # je 2f; 1: nop; ret; 2: nop; jmp 1b
        ("740290c390ebfb", set()),
        # two loops, one in the other: 1: nop; 2: nop; jne 2b; nop; jne 1b; ret
        ("909075fd9075f9c3", {0, 1, 2, 4, 5}),
        # 1: nop; loop 1b; ret
        ("90e2fdc3", {0, 1}),
        # 1: nop; ud2; jmp 1b: nothing goes on behind it
        ("900f0bebfb", set()),
        # 1: nop; ret; jmp 1b
        ("90c3ebfc", set()),
        # 1: nop; call out; jne 1b; ret: a call comes back
        ("90e80010000075f8c3", {0, 1, 6}),
        # 1: nop; jmp *%rax; jmp 1b: not followed
        ("90ffe0ebfb", set()),
        # 1: nop; bnd jmp 1b: a prefix
        ("90f2ebfc", {0, 1}),
        # 1: nop; jmp out of the function; jmp 1b
        ("90e9fb0f0000ebf8", set()),
    ],
)
def test_what_is_looped(code: str, looped: set[int]) -> None:
    flow = flow_of(("f", 0x1000, code))
    assert {at - 0x1000 for at in flow.addresses if flow.returns_to(at)} == looped


def test_a_loop_through_a_cold_piece() -> None:
    # f: nop; jne f.cold; ret; f.cold, some way off: nop; jmp f
    pieces = [("f", 0x1000, "900f85f90f0000c3"), ("f.cold", 0x2000, "90e9faefffff")]
    for order in (pieces, pieces[::-1]):
        flow = flow_of(*order)
        assert {at for at in flow.addresses if flow.returns_to(at)} == {
            *(0x1000, 0x1001, 0x2000, 0x2001)
        }
    # What another function does when it is jumped to is its own business.
    other = flow_of(pieces[0], ("g", *pieces[1][1:]))
    assert not any(map(other.returns_to, other.addresses))
    assert len(other.addresses) == 3


@pytest.mark.parametrize("built", ["0f1f440000", "e9fbffffff"])
def test_both_ways_of_a_static_key_are_gone(built: str) -> None:
    """It is built as a no-op of five bytes or as a jump, and may become the other."""
    # 1: nop; the key's jump to 1b or nothing; nop; ret
    flow = flow_of(("f", 0x1000, "90" + built + "90c3"), branches={0x1001: 0x1000})
    assert {at for at in flow.addresses if flow.returns_to(at)} == {0x1000, 0x1001}
    assert len(flow.following[0x1000]) == 2
    # No key, and no jump: no loop.
    assert not flow_of(("f", 0x1000, "900f1f44000090c3")).returns_to(0x1000)


def test_instructions_are_counted_where_they_begin() -> None:
    flow = flow_of(("f", 0x1000, "90e80010000075f8c3"))
    assert flow.instructions(0x1000, 0x1009) == 4
    assert flow.instructions(0x1001, 0x1006) == 1
    assert flow.instructions(0x1002, 0x1006) == 0


def test_what_no_disassembler_knows_is_passed_over() -> None:
    flow = flow_of(("f", 0x1000, "069075fdc3"))  # 06 is nothing in 64-bit mode
    assert flow.returns_to(0x1001)
    assert not flow.returns_to(0xFFF)


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("f", "f"),
        ("f.cold", "f"),
        ("f.cold.12", "f"),
        ("f.isra.0.cold", "f.isra.0"),
        ("f.constprop.0", "f.constprop.0"),
        ("f.colder", "f.colder"),
    ],
)
def test_a_cold_piece_belongs_to_its_function(symbol: str, name: str) -> None:
    assert own_name(symbol) == name
