"""Symbols of a kernel that has no debug package, for drgn: out of its own symbol table.

Every kernel carries the table that /proc/kallsyms shows (CONFIG_KALLSYMS). It tells variables too
where CONFIG_KALLSYMS_ALL is on, as in distributions' kernels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum

from drgn import Program, ProgramFlags, Symbol

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.btf import Btf, read_btf
from hvoinspect.target.btf_types import register_types
from hvoinspect.target.kallsyms import read_kallsyms
from hvoinspect.target.variables import register_variables
from hvoinspect.target.vmcoreinfo import vmcoreinfo_symbol

FINDER = "kallsyms"
"""Name of the finder, as drgn lists it."""

Finder = Callable[[Program, str | None, int | None, bool], list[Symbol]]
"""drgn's form of a symbol finder: name, address, and whether one symbol is enough."""

_LOCAL = ProgramFlags.IS_LIVE | ProgramFlags.IS_LOCAL
_REMEDY = "give the kernel's debug symbols with --symbols PATH"


class SymbolSource(StrEnum):
    """Where symbols were found."""

    PROC = "/proc/kallsyms"
    MEMORY = "kallsyms tables in the kernel's memory"


def register_symbols(prog: Program) -> SymbolSource:
    """Let `prog` find the kernel's symbols; what is registered already is asked first.

    They are read from the kernel's own tables, which VMCOREINFO names since f09bddbd8661
    "vmcoreinfo: add kallsyms_num_syms symbol" (v6.0); a running kernel's otherwise from
    /proc/kallsyms, as far as that shows addresses (to root, and by the sysctl
    kernel.kptr_restrict). Symbols that place _stext elsewhere than VMCOREINFO does are refused.

    Raises HvoinspectError if neither way leads to symbols.
    """
    reasons = []
    for source, load in _ways(prog):
        try:
            find = load(prog)
        except HvoinspectError:
            raise
        except Exception as error:  # noqa: BLE001 - drgn raises whatever it ran into, and it is told
            reasons.append(f"{source}: {error or type(error).__name__}")
            continue
        wrong = _wrong(prog, find)
        if not wrong:
            prog.register_symbol_finder(FINDER, find, enable_index=-1)
            return source
        reasons.append(f"{source}: {wrong}")
    raise HvoinspectError(f"the kernel's symbols cannot be found ({'; '.join(reasons)})", _REMEDY)


def _ways(prog: Program) -> list[tuple[SymbolSource, Callable[[Program], Finder]]]:
    memory = (SymbolSource.MEMORY, _load_from_memory)
    if prog.flags & _LOCAL != _LOCAL or os.geteuid() != 0:
        return [memory]
    return [memory, (SymbolSource.PROC, _load_from_proc)]


def _load_from_proc(prog: Program) -> Finder:
    # All of drgn's helpers come with it, which few kernels are worth.
    from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms  # noqa: PLC0415

    index: Finder = load_vmlinux_kallsyms(prog)
    return index


def _load_from_memory(prog: Program) -> Finder:
    return read_kallsyms(prog).find


def _wrong(prog: Program, find: Finder) -> str | None:
    """Say why the symbols cannot be those of this kernel, or None if they can."""
    found = find(prog, "_stext", None, False)
    if not found:
        return "_stext is not among the symbols"
    if not any(symbol.address for symbol in found):
        return "its addresses are hidden (kernel.kptr_restrict)"
    expected = vmcoreinfo_symbol(prog, "_stext")
    if expected is not None and all(symbol.address != expected for symbol in found):
        return f"_stext is at {found[0].address:#x}, but VMCOREINFO says {expected:#x}"
    return None


def register_all(prog: Program) -> Btf:
    """Let `prog` work without a debug package: symbols, types, constants and global variables.

    Returns the types, for questions that need no drgn. Raises HvoinspectError, of which BtfError
    is one, if symbols or types cannot be had. Takes about 0.2 s on the kernel of a distribution.
    """
    register_symbols(prog)
    btf = Btf.parse(read_btf(prog))
    register_variables(prog, btf, register_types(prog, btf))
    return btf
