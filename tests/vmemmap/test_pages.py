"""The classifier finds what the kernel's own rules say, on any made-up machine."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.vmemmap.chunks import chunk_starts, map_chunk, read_chunk
from hvoinspect.vmemmap.pages import UNKNOWN_HEAD, Encoding, PageClass, decode
from hvoinspect.vmemmap.pagetable import walk_directory
from tests.madeup import ORDER_1G, ORDER_2M, SECTION_PAGES, TAILS, Machine, Tail
from tests.model import class_of, compound_head

CLASS_NAMES = {
    "hole": PageClass.HOLE,
    "head": PageClass.HEAD,
    "fake_head": PageClass.FAKE_HEAD,
    "tail": PageClass.TAIL,
    "single": PageClass.SINGLE,
}


@st.composite
def machines(draw: st.DrawFn) -> tuple[Machine, list[int]]:
    """A machine with compound pages on it, and the pfns worth a look.

    Heads of pointer-encoded pages lie anywhere, those of mask-encoded ones at multiples of their
    size; sections come with holes between them; struct pages are of any multiple of 8 bytes.
    """
    tail: Tail = draw(st.sampled_from(TAILS))
    page_size = draw(st.sampled_from([64] * 4 + [56, 72, 80, 96, 128]))
    masks = tail == "mask" and page_size & (page_size - 1) == 0
    sections = draw(st.lists(st.integers(0, 70), min_size=1, max_size=4, unique=True))
    machine = Machine(
        tuple(sections),
        tail=tail,
        page_size=page_size,
        levels=draw(st.sampled_from([4, 5])),
        base_pages=frozenset(draw(st.sets(st.sampled_from(sections)))),
    )
    looked_at = {section * SECTION_PAGES for section in sections}
    for section in sections:
        first, end = section * SECTION_PAGES, (section + 1) * SECTION_PAGES
        for _ in range(draw(st.integers(0, 6))):
            order = draw(st.integers(1, 11))
            first += draw(st.integers(0, 3000))
            if masks or draw(st.booleans()):
                first = -(-first >> order << order) if first else 0
                first = (first + (1 << order) - 1) >> order << order
            if first + (1 << order) > end:
                break
            if order == ORDER_2M and page_size == 64 and first % 512 == 0:
                machine.hugetlb(first, order, hvo=draw(st.booleans()))
            else:
                machine.compound(first, order)
            last = first + (1 << order)
            looked_at.update(range(max(first - 2, 0), first + 200), range(last - 70, last + 3))
            first = last
    return machine, sorted(looked_at)


@settings(max_examples=60, deadline=None)
@given(machines())
def test_class_and_head_of_every_page_are_the_kernels(made: tuple[Machine, list[int]]) -> None:
    machine, looked_at = made
    kernel = machine.kernel()
    directory = walk_directory(machine, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    pages = {
        start: read_chunk(kernel, map_chunk(kernel, directory, start), start).pages
        for start in chunk_starts(kernel)
    }
    present = set(machine.sections)
    for pfn in looked_at:
        if pfn // SECTION_PAGES not in present:
            continue
        chunk = pages[pfn >> 20 << 20]
        at = pfn - chunk.first_pfn
        assert PageClass(chunk.kind[at]) == CLASS_NAMES[class_of(machine, pfn)], pfn
        assert int(chunk.head[at]) == compound_head(machine, pfn), pfn


@given(
    order=st.integers(1, 22),
    number=st.integers(0, 500),
    within=st.integers(1, (1 << 22) - 1),
    shift=st.integers(5, 8),
)
def test_a_mask_names_the_head_of_any_tail_of_its_order(
    order: int, number: int, within: int, shift: int
) -> None:
    """info = GENMASK(63, order + shift) | 1, and head = page & info."""
    machine = Machine(sections=(0,), page_size=1 << shift)
    head = number << order
    tail = head + within % (1 << order)
    info = (1 << 64) - (1 << (order + shift)) | 1
    start = machine.vmemmap
    encoding, found = decode(
        np.array([info], np.uint64),
        np.array([start + (tail << shift)], np.uint64),
        machine.kernel().page,
        (start, start + (1 << 41)),
    )
    assert encoding.tolist() == [Encoding.MASK]
    assert found.tolist() == [head]


def test_masks_read_off_a_real_kernel() -> None:
    """Words and addresses as Linux 7.3 has them for a 2 MiB and for a 1 GiB page."""
    page = Machine(sections=(0,)).kernel().page
    start = 0xFFFF_EA00_0000_0000
    encoding, head = decode(
        np.array([0xFFFF_FFFF_FFFF_8001, 0xFFFF_FFFF_FF00_0001], np.uint64),
        np.array([0xFFFF_EA00_0400_9340, 0xFFFF_EA00_05FF_FFC0], np.uint64),
        page,
        (start, start + (1 << 40)),
    )
    assert encoding.tolist() == [Encoding.MASK, Encoding.MASK]
    assert head.tolist() == [0x100200, 0x140000]


@given(word=st.integers(0, (1 << 64) - 1).filter(lambda word: word & 1))
def test_a_word_that_is_neither_mask_nor_pointer_is_said_to_be_so(word: int) -> None:
    page = Machine(sections=(0,)).kernel().page
    start, end = 0xFFFF_EA00_0000_0000, 0xFFFF_EA00_0020_0000
    encoding, head = decode(
        np.array([word], np.uint64), np.array([start + 64], np.uint64), page, (start, end)
    )
    value = word & ~1
    pointer = start <= value < end and (value - start) % 64 == 0
    mask = value in {(1 << 64) - (1 << zeros) for zeros in range(7, 29)}
    assert (encoding[0] == Encoding.UNDECODABLE) == (not pointer and not mask)
    assert (head[0] == UNKNOWN_HEAD) == (not pointer and not mask)


def test_the_vmemmap_of_a_gigantic_page_is_read_once_a_frame() -> None:
    """4,096 vmemmap pages, but the frame of the head and the shared tail frame are all there is."""
    machine = Machine(sections=tuple(range(8)))
    machine.hugetlb(0, ORDER_1G)
    kernel = machine.kernel()
    directory = walk_directory(machine, kernel.paging, kernel.vmemmap, kernel.vmemmap_end)
    chunk = read_chunk(kernel, map_chunk(kernel, directory, 0), 0)
    assert len(chunk.content.words) == 2 + 1  # and the row of zeros for what was not read
    assert np.count_nonzero(chunk.pages.kind == PageClass.TAIL) == (1 << ORDER_1G) - 1
