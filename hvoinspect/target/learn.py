"""Learns a kernel from a drgn program: what `layout.Kernel` holds, and nothing is read later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from drgn import Architecture, FaultError, Object, Program, ProgramFlags

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.denied import not_x86_64
from hvoinspect.target.descriptors import learn_descriptors
from hvoinspect.target.drgn_memory import DrgnMemory
from hvoinspect.target.facts import DAMAGED, Facts
from hvoinspect.target.layout import (
    Counters,
    DebugInfo,
    Hstate,
    Hvo,
    Identity,
    Kernel,
    Paging,
    Source,
    SourceKind,
    TailFrames,
)
from hvoinspect.target.memory import Memory
from hvoinspect.target.nodename import read_node_name
from hvoinspect.target.page_layout import learn_page_layout
from hvoinspect.target.percpu import vm_event
from hvoinspect.target.sections import learn_sections
from hvoinspect.target.vmcoreinfo import vmcoreinfo, vmcoreinfo_symbol

START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
"""Where x86-64 maps the kernel's image (arch/x86/include/asm/page_64_types.h, __START_KERNEL_map);
the image's physical address is this far below, plus `phys_base`."""

MAX_ORDER = 20
"""The largest hugepage that `vmemmap.chunks` can hold, 4 GiB; x86-64's largest is 1 GiB."""

_SYMBOLS = "give the kernel's debug symbols with --symbols PATH"


def learn(
    prog: Program,
    kind: SourceKind,
    path: str | None,
    debug_info: tuple[DebugInfo, ...],
    *,
    memory: Memory | None = None,
    live: bool | None = None,
) -> Kernel:
    """Learn the kernel that `prog` has open, with types and symbols registered.

    `memory` is how its memory is to be read, if there is a better way than through `prog`.
    `live` says whether its memory moves, where `prog` does not know.

    Raises HvoinspectError naming what could not be learned, or what this kernel is that the walk
    does not know.
    """
    _require_x86_64(prog)
    info = vmcoreinfo(prog)
    facts = Facts(prog, info, "dwarf" if "dwarf" in debug_info else "btf")
    page = learn_page_layout(facts)
    try:
        memory, paging = memory or DrgnMemory(prog), _paging(prog, facts)
        vmemmap, sections = learn_sections(prog, facts, memory, paging)
        kernel = Kernel(
            source=Source(kind, path, debug_info),
            identity=_identity(info),
            memory=memory,
            live=bool(prog.flags & ProgramFlags.IS_LIVE) if live is None else live,
            vmemmap=vmemmap,
            page=page,
            paging=paging,
            sections=sections,
            hstates=tuple(_hstates(prog)),
            hvo=_hvo(prog, facts),
            tail_frames=lambda: _tail_frames(prog, facts, kernel),
            counters=lambda: _counters(prog, kernel.hstates),
            origins=facts.origins,
            sections_now=lambda: learn_sections(prog, facts, memory, paging)[1],
            hvo_now=lambda: _hvo(prog, facts),
            descriptors=lambda: learn_descriptors(prog, facts),
            node_name=lambda: read_node_name(
                info, memory, image_physical(prog, facts) - START_KERNEL_MAP
            ),
            direct_map=_direct_map(prog),
        )
    except FaultError as error:
        raise HvoinspectError(
            f"the kernel's own tables cannot be read: {error}",
            "the memory is incomplete; a dump needs the kernel's data (makedumpfile keeps it)",
        ) from error
    except LookupError as error:
        raise HvoinspectError(
            f"the kernel's symbols and types are incomplete: {error.args[0]}", _SYMBOLS
        ) from error
    except (AttributeError, TypeError, ValueError) as error:
        # A member that is missing or of another type than in any kernel.
        raise HvoinspectError(
            f"the kernel's types are not what their names say: {error}",
            "this kernel's debug information is damaged; try another source of it",
        ) from error
    if kernel.hstates and page.hugetlb is None:
        raise facts.missing("how hugetlb pages are marked")
    return kernel


def _require_x86_64(prog: Program) -> None:
    if prog.platform is None or prog.platform.arch != Architecture.X86_64:
        name = prog.platform.arch.name.lower() if prog.platform else "unknown"
        raise not_x86_64(name)


def _identity(info: Mapping[str, str]) -> Identity:
    return Identity(
        release=info.get("OSRELEASE", "unknown"),
        build_id=info.get("BUILD-ID"),
        arch="x86_64",
        page_size=4096,  # x86-64 has no other
    )


def _paging(prog: Program, facts: Facts) -> Paging:
    """Return where the kernel's page tables are.

    With page-table isolation init_top_pgt is the kernel's half, which maps everything.
    """
    root = vmcoreinfo_symbol(prog, "init_top_pgt")
    if root is None:
        root = vmcoreinfo_symbol(prog, "swapper_pg_dir")
    if root is not None:
        facts.origins["init_top_pgt"] = "vmcoreinfo"
    else:
        root = prog.symbol("init_top_pgt").address
        facts.origins["init_top_pgt"] = "kallsyms"
    five = facts.number("pgtable_l5_enabled")
    levels: Literal[4, 5] = 5 if five else 4
    physical = root - START_KERNEL_MAP + image_physical(prog, facts)
    if not 0 <= physical < 1 << 52 or physical % 4096:
        raise HvoinspectError(
            f"the kernel's page tables would be at physical address {physical:#x}", DAMAGED
        )
    encryption = facts.number("sme_mask") or 0
    if encryption and (encryption & (encryption - 1) or not 1 << 12 <= encryption < 1 << 52):
        raise HvoinspectError(f"the memory encryption mask would be {encryption:#x}", DAMAGED)
    return Paging(physical, levels, encryption)


def image_physical(prog: Program, facts: Facts) -> int:
    """Return the physical address that START_KERNEL_MAP maps, `phys_base`.

    It may be negative: the image can lie below where it was linked to be. Raises LookupError if
    neither VMCOREINFO nor the symbols tell.
    """
    phys_base = facts.number("phys_base")
    return int(prog["phys_base"].value_()) if phys_base is None else phys_base


def _hstates(prog: Program) -> Iterator[Hstate]:
    """Return the hugepage sizes, each once; none where hugetlb is not built in."""
    try:
        count = int(prog["hugetlb_max_hstate"].value_())
        hstates = prog["hstates"]
    except LookupError:
        return
    # Only the first `count` are in use; an order that cannot be is a damaged one, and left out.
    orders = {int(hstates[i].order.value_()) for i in range(min(count, hstates.type_.length or 0))}
    for order in sorted(orders):
        if 0 < order <= MAX_ORDER:
            yield Hstate(order)


def _counters(prog: Program, known: tuple[Hstate, ...]) -> Counters:
    """Return the counters of the pools `known`, and of the static key that counts hugepages.

    What cannot be read is not known: whoever looks at a pool can do without.
    """
    found: dict[int, Hstate] = {}
    with contextlib.suppress(LookupError, AttributeError, TypeError, FaultError, HvoinspectError):
        hstates = prog["hstates"]
        for at in range(hstates.type_.length or 0):
            hstate = hstates[at]
            order = int(hstate.order.value_())
            found.setdefault(
                order,
                Hstate(
                    order,
                    _by_node(hstate, "nr_huge_pages_node"),
                    _by_node(hstate, "free_huge_pages_node"),
                ),
            )
    pools = tuple(found.get(hstate.order, hstate) for hstate in known)
    return Counters(
        pools,
        _key_count(prog, "hugetlb_optimize_vmemmap_key"),
        vm_event(prog, "HTLB_BUDDY_PGALLOC"),
    )


def _by_node(hstate: Object, member: str) -> dict[int, int] | None:
    with contextlib.suppress(LookupError, AttributeError, TypeError, FaultError, HvoinspectError):
        counts = hstate.member_(member)
        each = np.frombuffer(counts.to_bytes_(), f"<u{counts.type_.type.size}")  # drgn takes 1 ms
        return {node: int(each[node]) for node in each.nonzero()[0].tolist()}
    return None


def _hvo(prog: Program, facts: Facts) -> Hvo:
    # hugetlb_free_vmemmap_enabled up to 5.19; a static of mm/hugetlb_vmemmap.c since 6.0.
    enabled: bool | None = None
    supported = False
    try:
        enabled = bool(prog["vmemmap_optimize_enabled"].value_())
        supported = True
    except LookupError:
        pass
    has_shared_tails = facts.member("zone", "vmemmap_tails") is not None
    return Hvo(supported or has_shared_tails, enabled, has_shared_tails, _fake_head_key(prog))


def _fake_head_key(prog: Program) -> int | None:
    """Return the count of the static key that `page_fixed_fake_head()` asks.

    A bool until a6b40850c442 (5.18); hugetlb_free_vmemmap_enabled_key until 47010c040dec (5.19);
    gone with da3e2d1ca43d (7.1). Whichever way it is defined, `key.enabled` is its count, below
    zero while it is being switched on for the first time (include/linux/jump_label.h).
    """
    count = _key_count(prog, "hugetlb_optimize_vmemmap_key")
    return _key_count(prog, "hugetlb_free_vmemmap_enabled_key") if count is None else count


def _key_count(prog: Program, name: str) -> int | None:
    with contextlib.suppress(LookupError, AttributeError, FaultError):
        return int(prog[name].key.enabled.counter.value_())
    return None


def _direct_map(prog: Program) -> int | None:
    """Return where the direct map begins (arch/x86/kernel/head64.c, `page_offset_base`).

    None where the layout is fixed when the kernel is built (no CONFIG_DYNAMIC_MEMORY_LAYOUT), or
    where variables have no symbols.
    """
    with contextlib.suppress(LookupError, FaultError):
        return int(prog["page_offset_base"].value_())
    return None


def _tail_frames(prog: Program, facts: Facts, kernel: Kernel) -> TailFrames:
    """Return `zone.vmemmap_tails[order - first]` of every zone: 622026e87c40 (7.1).

    The first entry is for the smallest order whose struct pages fill more than one vmemmap page.
    What cannot be read, or is no struct page, is left out.
    """
    if facts.member("zone", "vmemmap_tails") is None:
        return {}
    vmemmap, size = kernel.vmemmap, kernel.page.size
    first_order = (4096 // size).bit_length()
    frames: dict[tuple[int, int, int], int] = {}
    with contextlib.suppress(FaultError, LookupError):
        for node, zone_index, zone in _zones(prog):
            for at, tail in enumerate(zone.vmemmap_tails):
                page = int(tail.value_())
                if vmemmap <= page < kernel.vmemmap_end and (page - vmemmap) % size == 0:
                    frames[node, zone_index, first_order + at] = (page - vmemmap) // size
    return frames


def _zones(prog: Program) -> Iterator[tuple[int, int, Object]]:
    for node, data in enumerate(_nodes(prog)):
        if data:
            for zone_index, zone in enumerate(data.node_zones):
                yield node, zone_index, zone


def _nodes(prog: Program) -> Iterator[Object]:
    try:
        node_data = prog["node_data"]
    except LookupError:
        yield prog["contig_page_data"].address_of_()
        return
    pointers = np.frombuffer(prog.read(node_data.address_ or 0, 8 * node_data.type_.length), "<u8")
    for node in range(int(np.flatnonzero(pointers).max(initial=-1)) + 1):
        yield node_data[node]
