"""A made-up kernel of 8 MiB, just enough of one for drgn: page tables, symbols, BTF, variables.

x86-64 with four levels of page tables and KASLR off. Physical memory from 0: 1 MiB nothing, the
page tables, 2 MiB the variables, 3 MiB the kallsyms tables and BTF, 4 MiB the struct pages.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from drgn import Architecture, Platform, Program

from hvoinspect.target.btf_records import Kind
from tests.btf_encoder import Encoder

IMAGE = 0xFFFFFFFF80000000
DIRECT = 0xFFFF888000000000
VMEMMAP = 0xFFFFEA0000000000
TABLES, VARIABLES, KALLSYMS, BTF, PAGES = 1 << 20, 2 << 20, 3 << 20, 0x380000, 4 << 20
SIZE = 8 << 20
NODES, ZONES, TAILS = 4, 2, 16
ZONE = 8 + 8 * TAILS
"""Bytes of a struct zone."""
STEXT = IMAGE + 0x1000


def kernel_btf(*, shared_tails: bool = False) -> bytes:
    """Return types as a kernel of 6.12 has them, with the members that drgn's helpers use.

    With `shared_tails` a zone has the member that 7.1 brought, and struct page the one it renamed.
    """
    e = Encoder()
    long = e.integer("long unsigned int", 8)
    uint = e.integer("unsigned int", 4)
    int_ = e.integer("int", 4, signed=True)
    char = e.integer("char", 1)
    e.integer("_Bool", 1, boolean=True)
    u64 = e.typedef("u64", long)
    e.typedef("phys_addr_t", u64)
    atomic = e.typedef("atomic_t", e.aggregate("", 4, [("counter", int_, 0)]))
    e.typedef("atomic_long_t", e.aggregate("", 8, [("counter", long, 0)]))
    word = "compound_info" if shared_tails else "compound_head"
    compound = e.aggregate("", 8, [(word, long, 0)])
    mapping = e.aggregate("", 40, [("lru", long, 0), ("private", long, 256)], kind=Kind.STRUCT)
    middle = e.aggregate("", 40, [("", mapping, 0), ("", compound, 0)], kind=Kind.UNION)
    typed = e.aggregate("", 4, [("page_type", uint, 0), ("_mapcount", atomic, 0)], kind=Kind.UNION)
    page = [("flags", long, 0), ("", middle, 64), ("", typed, 384), ("_refcount", atomic, 416)]
    page_id = e.aggregate("page", 64, page)
    e.aggregate("folio", 128, [("page", page_id, 0), ("_flags_1", long, 512)])
    e.aggregate("mem_section", 16, [("section_mem_map", long, 0), ("usage", e.pointer(0), 64)])
    per_node = e.array(uint, NODES)
    hstate = [
        ("order", uint, 0),
        ("nr_huge_pages", long, 64),
        ("nr_huge_pages_node", per_node, 128),
        ("free_huge_pages_node", per_node, 256),
    ]
    e.aggregate("hstate", 80, [*hstate, ("name", e.array(char, 32), 384)])
    zone_members = [("zone_start_pfn", long, 0)]
    if shared_tails:
        zone_members.append(("vmemmap_tails", e.array(e.pointer(page_id), TAILS), 64))
    zone = e.aggregate("zone", ZONE, zone_members)
    pgdat = [("node_id", int_, 0), ("node_zones", e.array(zone, ZONES), 64)]
    e.aggregate("pglist_data", 8 + ZONES * ZONE, pgdat)
    pgd = e.typedef("pgd_t", e.aggregate("", 8, [("pgd", long, 0)]))
    e.aggregate("mm_struct", 64, [("pgd", e.pointer(pgd), 128)])
    e.typedef("nodemask_t", e.aggregate("", 8, [("bits", e.array(long, 1), 0)]))
    key = e.aggregate("static_key", 16, [("enabled", atomic, 0)])
    e.aggregate("static_key_false", 16, [("key", key, 0)])
    e.enum("pageflags", {"PG_locked": 0, "PG_head": 6, "__NR_PAGEFLAGS": 24})
    e.enum("node_states", {"N_POSSIBLE": 0, "N_ONLINE": 1, "NR_NODE_STATES": 2})
    e.enum("pagetype", {"PGTY_buddy": 0xF0, "PGTY_hugetlb": 0xF4})
    e.enum("hugetlb_page_flags", {"HPG_freed": 3, "HPG_vmemmap_optimized": 4})
    bits = ("MARKED_PRESENT", "HAS_MEM_MAP", "IS_ONLINE", "IS_EARLY", "TAINT_ZONE_DEVICE")
    section = {f"SECTION_{name}_BIT": rank for rank, name in enumerate(bits)}
    e.enum("", section | {"SECTION_MAP_LAST_BIT": len(section)})
    e.add(Kind.FUNC, "vmemmap_populate", e.prototype(int_, [("start", long), ("end", long)]), 1)
    e.add(Kind.VAR, "per_cpu_thing", long, tail=[0])
    return e.blob()


@dataclass
class TinyKernel:
    """Change what is to be different, then ask for `program`."""

    memory: bytearray = field(default_factory=lambda: bytearray(SIZE))
    symbols: list[tuple[str, str, int]] = field(default_factory=list)
    """Name, nm's letter, address; in kallsyms in ascending order."""
    vmcoreinfo: dict[str, str] = field(default_factory=dict)
    btf: bytes = field(default_factory=kernel_btf)
    next_variable: int = VARIABLES
    orders: tuple[int, ...] = (18, 9)
    """Of `hstates`, all of which are in use."""
    live: bool = False
    roots: int = 0
    """Physical address of what mem_section points to; `sections` that of its first root."""
    sections: int = 0
    mem_section: int = 0
    """Physical address of the variable, as `max_pfn` is of that one."""
    max_pfn: int = 0
    hstates: int = 0
    """Physical address of the variable."""
    nodes: list[int] = field(default_factory=list)
    """Physical addresses of struct pglist_data, a node each."""

    def __post_init__(self) -> None:
        self._map()
        self.symbols += [("_stext", "T", STEXT), ("vmemmap_populate", "T", STEXT + 0x100)]
        self.vmcoreinfo |= {
            "OSRELEASE": "6.12.0",
            "PAGESIZE": "4096",
            "SYMBOL(swapper_pg_dir)": f"{IMAGE + TABLES:x}",
            "SYMBOL(_stext)": f"{STEXT:x}",
            "NUMBER(phys_base)": "0",
            "NUMBER(SECTION_SIZE_BITS)": "27",
            "NUMBER(MAX_PHYSMEM_BITS)": "46",
            "LENGTH(mem_section)": "2048",
            "KERNELOFFSET": "0",
        }
        self.roots = roots = self.object(2048 * 8)
        self.sections = self.object(4096)
        self.put(roots, IMAGE + self.sections)
        self.put(self.sections, VMEMMAP | 0xF)
        self.mem_section = self.variable("mem_section", struct.pack("<Q", IMAGE + roots))
        self.vmcoreinfo["SYMBOL(mem_section)"] = f"{IMAGE + roots:x}"
        self.nodes = [self.object(8 + ZONES * ZONE, bytes([node])) for node in range(2)]
        nodes = struct.pack("<4Q", *(IMAGE + node for node in self.nodes), 0, 0)
        self.vmcoreinfo["SYMBOL(node_data)"] = f"{IMAGE + self.variable('node_data', nodes):x}"
        self.variable("node_states", struct.pack("<2Q", 3, 3))
        self.variable("nr_node_ids", struct.pack("<I", 2))
        self.variable("init_mm", bytes(16) + struct.pack("<Q", IMAGE + TABLES) + bytes(40))
        self.variable("page_offset_base", struct.pack("<Q", DIRECT))
        self.variable("vmemmap_base", struct.pack("<Q", VMEMMAP))
        self.max_pfn = self.object(8, struct.pack("<Q", 2 << 15))
        self.symbols.append(("max_pfn", "D", IMAGE + self.max_pfn))
        self.variable("__highest_present_section_nr", struct.pack("<Q", (1 << 19) - 1))
        sizes = zip(self.orders, (b"1G", b"2M", b"", b""), strict=False)
        hstates = b"".join(self.hstate(*size) for size in sizes)
        self.hstates = self.object(len(hstates), hstates)
        self.symbols.append(("hstates", "D", IMAGE + self.hstates))
        self.variable("hugetlb_max_hstate", struct.pack("<i", len(self.orders)))
        self.variable("vmemmap_optimize_enabled", b"\1", letter="d")
        self.variable("linux_banner", b"Linux version 6.12.0\n\0", letter="R")

    @staticmethod
    def hstate(order: int, name: bytes, hugepages: Sequence[int] = (0,) * 8) -> bytes:
        """Return a struct hstate; `hugepages` on each node, and the free ones on each."""
        return struct.pack("<IxxxxQ8I32s", order, sum(hugepages[:4]), *hugepages, name)

    def put(self, physical: int, word: int) -> None:
        struct.pack_into("<Q", self.memory, physical, word)

    def entry(self, table: int, index: int) -> int:
        """Return the table that an entry of a page table leads to."""
        word: int = struct.unpack_from("<Q", self.memory, table + 8 * (index & 511))[0]
        return word & ~0xFFF

    def map_section(self, number: int) -> None:
        """Map the struct pages of a section, of the first 512, to those of section 0."""
        upper = self.entry(TABLES, VMEMMAP >> 39)
        lower = self.entry(upper, VMEMMAP >> 30)
        self.put(lower + 8 * number, PAGES | 0x83)

    def object(self, size: int, data: bytes = b"") -> int:
        """Reserve memory for something without a symbol; return its physical address."""
        place = self.next_variable
        self.next_variable += (size + 63) & ~63
        self.memory[place : place + len(data)] = data
        return place

    def variable(self, name: str, data: bytes, letter: str = "D") -> int:
        place = self.object(len(data), data)
        self.symbols.append((name, letter, IMAGE + place))
        return place

    def _map(self) -> None:
        top, free = TABLES, TABLES + 4096
        for start, target, count in ((IMAGE, 0, 4), (DIRECT, 0, 4), (VMEMMAP, PAGES, 2)):
            upper, lower, free = free, free + 4096, free + 8192
            self.put(top + (start >> 39 & 511) * 8, upper | 3)
            self.put(upper + (start >> 30 & 511) * 8, lower | 3)
            for rank in range(count):
                self.put(lower + (start >> 21 & 511) * 8 + rank * 8, target + (rank << 21) | 0x83)

    def page(self, pfn: int, flags: int = 0, info: int = 0, page_type: int = 0xFFFFFFFF) -> None:
        """Write a struct page."""
        page = struct.pack("<QQ32xII8x", flags, info, page_type, 1)
        self.memory[PAGES + 64 * pfn : PAGES + 64 * pfn + 64] = page

    def compound(self, pfn: int, order: int) -> None:
        self.page(pfn, flags=1 << 6)
        for tail in range(pfn + 1, pfn + (1 << order)):
            self.page(tail, info=VMEMMAP + 64 * pfn | 1, flags=order if tail == pfn + 1 else 0)

    def write_kallsyms(self) -> None:
        """Write the tables as a kernel before 7.0 has them, each token a character of its own."""
        symbols = sorted(self.symbols, key=lambda symbol: symbol[2])
        names = bytearray()
        for name, letter, _ in symbols:
            text = (letter + name).encode()
            size = len(text)
            names += bytes([size & 0x7F | 0x80, size >> 7] if size > 0x7F else [size]) + text
        tokens = b"".join(bytes([max(token & 127, 1)]) + b"\0" for token in range(256))
        tables = {
            "kallsyms_num_syms": struct.pack("<I", len(symbols)),
            "kallsyms_token_index": struct.pack("<256H", *range(0, 512, 2)),
            "kallsyms_token_table": tokens,
            "kallsyms_relative_base": struct.pack("<Q", IMAGE),
            "kallsyms_offsets": struct.pack(f"<{len(symbols)}I", *(s[2] - IMAGE for s in symbols)),
            "kallsyms_names": bytes(names),
        }
        place = KALLSYMS
        for name, table in tables.items():
            self.memory[place : place + len(table)] = table
            self.vmcoreinfo.setdefault(f"SYMBOL({name})", f"{IMAGE + place:x}")
            place += (len(table) + 7) & ~7

    def write(self) -> str:
        """Write types and symbols to memory; return VMCOREINFO."""
        self.memory[BTF : BTF + len(self.btf)] = self.btf
        self.symbols += [("__start_BTF", "R", IMAGE + BTF)]
        self.symbols += [("__stop_BTF", "R", IMAGE + BTF + len(self.btf))]
        self.write_kallsyms()
        return "".join(f"{key}={value}\n" for key, value in self.vmcoreinfo.items())

    def program(self) -> Program:
        """Return the kernel as drgn sees a dump, nothing registered."""
        text = self.write()
        prog = Program(Platform(Architecture.X86_64))
        prog.set_linux_kernel_custom(text, self.live)
        prog.add_memory_segment(0, SIZE, self._read, True)
        return prog

    def _read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        return bytes(self.memory[offset : offset + count])

    def core(self) -> bytes:
        """Return the kernel as an ELF core file, as /proc/vmcore has it: one note, its memory."""
        text = self.write().encode()
        note = struct.pack("<3I12s", 11, len(text), 0, b"VMCOREINFO") + text + bytes(-len(text) % 4)
        virtual = (DIRECT, IMAGE)
        start = 64 + 56 * (1 + len(virtual))
        content = start + len(note)
        core, x86_64 = 4, 62
        header = struct.pack(
            "<16s2HI3QI6H", b"\x7fELF\2\1\1", core, x86_64, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0
        )
        programs = struct.pack("<2I6Q", 4, 0, start, 0, 0, len(note), len(note), 0)
        for address in virtual:
            programs += struct.pack("<2I6Q", 1, 7, content, address, 0, SIZE, SIZE, 0)
        return header + programs + note + bytes(self.memory)
