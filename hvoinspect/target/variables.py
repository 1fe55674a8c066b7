"""Global variables and functions of a kernel for drgn, where only symbols and BTF are known.

BTF has no types of ordinary variables (only of per-CPU ones), so those that are needed are listed
here with the type that the kernel's source gives them. drgn takes some that it cannot find for a
kernel without the feature, and answers wrongly: those that must be there raise instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from drgn import Architecture, FindObjectFlags, Object, Program, Symbol

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.btf import Btf
from hvoinspect.target.btf_records import Kind
from hvoinspect.target.btf_types import Types
from hvoinspect.target.vmcoreinfo import vmcoreinfo_length, vmcoreinfo_symbol

FINDER = "variables"
"""Name of the finder, as drgn lists it."""

VARIABLES: Mapping[str, str] = {
    "__highest_present_section_nr": "unsigned long",
    "__pgtable_l5_enabled": "unsigned int",
    "_totalram_pages": "atomic_long_t",
    "contig_page_data": "struct pglist_data",
    "default_hstate_idx": "unsigned int",
    "high_memory": "void *",
    "hugetlb_free_vmemmap_enabled_key": "struct static_key_false",
    "hugetlb_max_hstate": "int",
    "hugetlb_optimize_vmemmap_key": "struct static_key_false",
    "init_mm": "struct mm_struct",
    "init_uts_ns": "struct uts_namespace",
    "max_low_pfn": "unsigned long",
    "max_pfn": "unsigned long",
    "min_low_pfn": "unsigned long",
    "nr_memmap_boot_pages": "atomic_long_t",
    "nr_memmap_pages": "atomic_long_t",
    "nr_node_ids": "unsigned int",
    "page_offset_base": "unsigned long",
    "phys_base": "unsigned long",
    "saved_command_line": "char *",
    "sections_per_block": "int",
    "sme_me_mask": "u64",
    "vmalloc_base": "unsigned long",
    "vmemmap_base": "unsigned long",
    "vmemmap_optimize_enabled": "_Bool",
}
"""C types of variables. Those whose type is a matter of configuration are in `Variables`."""

# Only these of the listed variables are in VMCOREINFO by their address.
_IN_VMCOREINFO = ("contig_page_data", "init_uts_ns", "node_data")
# Where HVO exists, SPARSEMEM is SPARSEMEM_EXTREME: mem_section is a pointer to pointers.
_EXTREME = (Architecture.X86_64, Architecture.AARCH64, Architecture.RISCV64)
# drgn asks for these only to know whether they exist. An encoder may leave any function
# out of BTF; then these have a type that says nothing.
_FUNCTIONS = ("vmemmap_populate",)
_MAX_HSTATES = 64
_MAX_NODES = 1 << 16


class Variables:
    """The variables and functions of one Program."""

    def __init__(self, prog: Program, btf: Btf, types: Types) -> None:
        self._prog = prog
        self._btf = btf
        self._types = types
        self._found: dict[tuple[str, bool], Object | None] = {}
        self._special: Mapping[str, Callable[[Symbol | None], str | None]] = {
            "hstates": self._hstates,
            "linux_banner": lambda symbol: f"const char [{(symbol and symbol.size) or 512}]",
            "mem_section": self._mem_section,
            "node_data": self._node_data,
            "node_states": self._node_states,
        }

    def find(
        self, _prog: Program, name: str, flags: FindObjectFlags, filename: str | None
    ) -> Object | None:
        """Find a variable or function for drgn: an object finder.

        Raises HvoinspectError for one that the kernel must have but whose symbol is missing, or
        whose symbol is there more than once.
        """
        if filename is not None:
            return None
        for wanted, find in (
            (FindObjectFlags.VARIABLE, self._variable),
            (FindObjectFlags.FUNCTION, self._function),
        ):
            if not flags & wanted:
                continue
            key = (name, wanted == FindObjectFlags.FUNCTION)
            if key not in self._found:
                self._found[key] = find(name)
            if self._found[key] is not None:
                return self._found[key]
        return None

    def _function(self, name: str) -> Object | None:
        ids = self._btf.records.ids_named(name, (Kind.FUNC,))
        symbol = self._symbol(name) if ids or name in _FUNCTIONS else None
        if symbol is None:
            return None
        if ids:
            made = self._types.type(self._btf.records.record(ids[0]).value)
        else:
            made = self._prog.function_type(self._prog.void_type(), ())
        return Object(self._prog, made, address=symbol.address)

    def _variable(self, name: str) -> Object | None:
        ids = self._btf.records.ids_named(name, (Kind.VAR,))
        if not ids and name not in VARIABLES and name not in self._special:
            return None
        symbol = self._symbol(name)
        if ids:
            made = self._types.type(self._btf.records.record(ids[0]).value)
            return symbol and Object(self._prog, made, address=symbol.address)
        address = symbol.address if symbol else None
        if address is None and name in _IN_VMCOREINFO:
            address = vmcoreinfo_symbol(self._prog, name)
        if address is None:
            return self._without_symbol(name)
        c_type = self._special[name](symbol) if name in self._special else VARIABLES[name]
        try:
            return c_type and Object(self._prog, c_type, address=address)
        except LookupError:
            return None  # The kernel has no such type, so what the symbol names is something else.

    def _without_symbol(self, name: str) -> Object | None:
        """Say what a variable without a symbol means: that there is none, or that it is hidden."""
        if name == "mem_section" and self._prog.platform.arch in _EXTREME:
            value = vmcoreinfo_symbol(self._prog, name)
            if value is not None:
                return Object(self._prog, "struct mem_section **", value=value)
        # Without CONFIG_HUGETLB_PAGE, struct hstate is empty.
        hugetlb = name in ("hstates", "hugetlb_max_hstate") and self._btf.size_of("struct hstate")
        sparse = name == "mem_section" and self._btf.size_of("struct mem_section")
        numa = name in ("node_data", "node_states", "nr_node_ids") and (self._nodes() or 0) > 1
        if hugetlb or sparse or numa:
            raise HvoinspectError(
                f"the kernel must have a variable {name}, but its symbols do not tell of it "
                "(CONFIG_KALLSYMS_ALL is off?)",
                "give the kernel's debug symbols with --symbols PATH",
            )
        return None

    def _symbol(self, name: str) -> Symbol | None:
        found = {symbol.address: symbol for symbol in self._prog.symbols(name)}
        if len(found) > 1:
            raise HvoinspectError(
                f"the kernel has {len(found)} symbols of the name {name}",
                "give the kernel's debug symbols with --symbols PATH",
            )
        return next(iter(found.values()), None)

    def _mem_section(self, symbol: Symbol | None) -> str | None:
        roots = vmcoreinfo_length(self._prog, "mem_section")
        start = vmcoreinfo_symbol(self._prog, "mem_section")
        if symbol is not None and start == symbol.address and roots:
            # It starts where it is, so it is no pointer: SPARSEMEM_STATIC, one section a root.
            return f"struct mem_section [{roots}][1]"
        return "struct mem_section **"

    def _hstates(self, symbol: Symbol | None) -> str | None:
        size = self._btf.size_of("struct hstate")
        if not size:
            return None
        length = symbol.size // size if symbol else 0
        if not length:
            # drgn gives symbols of 64 KiB and more no size, and where there can be 1,024 nodes one
            # hstate has 32 KiB.
            length = self._prog["hugetlb_max_hstate"].value_()
        if not 0 < length <= _MAX_HSTATES:
            raise HvoinspectError(
                f"the kernel would have {length} sizes of hugepages",
                "give the kernel's debug symbols with --symbols PATH",
            )
        return f"struct hstate [{length}]"

    def _nodes(self) -> int | None:
        """Return MAX_NUMNODES."""
        length = self._btf.array_length("struct hstate", "nr_huge_pages_node")
        length = length or vmcoreinfo_length(self._prog, "node_data")
        return length if length and length <= _MAX_NODES else None

    def _node_data(self, symbol: Symbol | None) -> str | None:
        nodes = self._nodes() or (symbol.size // self._btf.pointer_size if symbol else 0)
        return f"struct pglist_data *[{nodes}]" if nodes else None

    def _node_states(self, _symbol: Symbol | None) -> str | None:
        states = self._btf.enumerator("NR_NODE_STATES")
        return f"nodemask_t [{states}]" if states else None


def register_variables(prog: Program, btf: Btf, types: Types) -> None:
    """Let `prog` find VARIABLES, per-CPU variables and functions that no other finder knows.

    Its symbols must be registered by then.
    """
    prog.register_object_finder(FINDER, Variables(prog, btf, types).find, enable_index=-1)


def require(prog: Program, *names: str) -> None:
    """Raise HvoinspectError unless `prog` knows all of `names`, and say which it does not know.

    A name is an object's ("hstates") or, with its keyword, a type's ("struct hstate"). To be called
    before a helper of drgn that would take what is missing for a kernel without it.
    """
    missing = []
    for name in names:
        try:
            if name.startswith(("struct ", "union ", "enum ")):
                prog.type(name)
            else:
                prog[name]
        except LookupError:
            missing.append(name)
    if missing:
        raise HvoinspectError(
            f"what is known of the kernel does not include {', '.join(missing)}",
            "give the kernel's debug symbols with --symbols PATH",
        )
