"""Opens what is to be inspected: the running kernel, a dump or a QEMU guest."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import drgn
from drgn import Architecture, FaultError, Platform, Program

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.target.choice import Target
from hvoinspect.target.denied import NoKcoreError, no_kcore, reason
from hvoinspect.target.drgn_memory import DrgnMemory
from hvoinspect.target.dumpfile import NO_ADDRESS, DumpFile, open_dump, recognize
from hvoinspect.target.elf_memory import ElfMemory
from hvoinspect.target.flattened import is_flattened, rearranged
from hvoinspect.target.kcore_memory import KcoreMemory
from hvoinspect.target.kdump_memory import KdumpMemory
from hvoinspect.target.layout import DebugInfo, Kernel, SourceKind
from hvoinspect.target.learn import learn
from hvoinspect.target.memory import Memory
from hvoinspect.target.openfile import OpenFile
from hvoinspect.target.qmp import is_running
from hvoinspect.target.segments import Segments
from hvoinspect.target.symbols import register_all
from hvoinspect.target.unpack import is_capture, unpacked

# What drgn has to say is told as an error of this project's, or is of no concern to its users.
# A handler would not do: drgn trips over names that are no UTF-8 before it comes to one.
if logging.getLogger("drgn").level == logging.NOTSET:
    logging.getLogger("drgn").setLevel(logging.CRITICAL + 1)

MAX_VMCOREINFO = 1 << 16
"""Bytes; the kernel's own has no more than a page."""
_RUNNING = drgn.ProgramFlags.IS_LIVE | drgn.ProgramFlags.IS_LOCAL
_VMCOREINFO = "give its text: lines as OSRELEASE=..., from the same boot"


@dataclass(frozen=True)
class Opened:
    """Memory that is open, before anything is known of it.

    `running`: it moves while it is read. `suspect` is what to do if it turns out to be wrong.
    """

    prog: Program
    memory: Memory
    kind: SourceKind
    path: str | None
    running: bool
    suspect: str | None = None


def open_target(target: Target) -> Kernel:
    """Open what the user wants to look at, and learn it.

    Raises NoKcoreError if that is the running kernel and its memory cannot be read, and otherwise
    HvoinspectError.
    """
    if target.program is not None:
        return _open_session(target.program)
    return learn_opened(open_program(target), target.symbols)


def open_program(target: Target) -> Opened:
    """Open what the user wants to look at, but a `program`, without types.

    Raises as `open_target`.
    """
    if target.core is not None:
        text = _read_vmcoreinfo(target.vmcoreinfo)
        return _open_core(target.core, text, _suspect(target.vmcoreinfo))
    if target.qemu is not None:
        return _open_qemu(target.qemu, target.vmcoreinfo)
    if target.demo is not None:
        shipped = Path(__file__).parents[1] / "demos" / f"{target.demo}.hvo"
        return replace(_open_core(shipped), kind="demo", path=target.demo)
    prog = _running_program()
    return Opened(prog, _running_memory(prog), "kcore", None, running=True)


def open_core(path: Path, symbols: Path | None = None) -> Kernel:
    """Open a crash dump or a capture. Raises HvoinspectError."""
    return open_target(Target(core=path, symbols=symbols))


def open_running(symbols: Path | None = None) -> Kernel:
    """Open the running kernel. Raises NoKcoreError, HvoinspectError."""
    return open_target(Target(symbols=symbols))


def _running_program() -> Program:
    """Open the running kernel through /proc/kcore.

    Raises NoKcoreError if that is missing, forbidden or empty.
    """
    prog = Program()
    try:
        prog.set_kernel()
    except Exception as error:  # drgn raises also bare ones, as for what libelf says
        raise no_kcore(error, root=os.geteuid() == 0) from error
    return prog


def _running_memory(prog: Program, proc: Path = Path("/proc")) -> Memory:
    try:
        return KcoreMemory(proc / "kcore", proc / "kpageflags")
    except (OSError, ValueError):
        return DrgnMemory(prog)  # it got in, and knows other ways to the same memory


def _open_core(path: Path, text: bytes | None = None, suspect: str | None = None) -> Opened:
    """Open a crash dump or capture; memory that it leaves out is unreadable, and never zeros.

    `text` is its VMCOREINFO where that is not its own, `suspect` as in `Opened`.
    Raises HvoinspectError.
    """
    if is_capture(path):
        with unpacked(path) as core:
            file = OpenFile(Path(f"/proc/self/fd/{core.fileno()}"))
            return _open_dump(path, file, text, suspect)
    if is_flattened(path):
        with rearranged(path) as dump:
            file = OpenFile(Path(f"/proc/self/fd/{dump.fileno()}"))
            return _open_dump(path, file, text, suspect)
    return _open_dump(path, open_dump(path), text, suspect)


def _open_dump(path: Path, file: OpenFile, text: bytes | None, suspect: str | None) -> Opened:
    """Open the dump in `file`, which the user knows as `path`.

    All who read it, drgn too, read this very file, whatever the path comes to be a name of.
    """
    dump = recognize(path, file)
    if dump.machine not in (None, "x86_64"):
        raise HvoinspectError(
            f"the architecture of the kernel in {path} is {dump.machine}, "
            "and only x86_64 page tables can be walked",
            "give a dump of an x86_64 machine",
        )
    if dump.cut_short and dump.form == "kdump":
        # libkdumpfile would end the process, or return zeros for what is not there.
        raise HvoinspectError(
            f"{path} is cut short, and only an ELF dump can be read in part", "copy it again, whole"
        )
    if dump.form == "elf" and text is None and b"VMCOREINFO" not in dump.notes:
        raise _no_vmcoreinfo(path, dump)
    # libkdumpfile does not learn it from a dump that QEMU wrote.
    platform = None if dump.form == "elf" else Platform(Architecture.X86_64)
    try:
        prog = Program(platform, vmcoreinfo=text)
        prog.set_core_dump(str(file.path))
        _hide(prog, dump)
    except Exception as error:  # as above
        raise HvoinspectError(
            f"{path} cannot be read as a dump: {reason(error)}",
            "give a vmcore, as an ELF or a kdump file, whole",
        ) from error
    if prog.flags & _RUNNING == _RUNNING and path.name == "kcore":
        # Of another mount of proc: containers have /dev/null in place of their own /proc/kcore.
        return Opened(prog, _running_memory(prog, path.parent), "kcore", str(path), running=True)
    if dump.cut_short:
        suspect = f"{path} is cut short: copy it again, whole"
    return Opened(prog, _dump_memory(prog, dump, file), "core", str(path), False, suspect)


def _dump_memory(prog: Program, dump: DumpFile, file: OpenFile) -> Memory:
    if dump.form == "elf":
        return ElfMemory(file, Segments.of(dump.headers))
    if dump.form == "kdump":
        with contextlib.suppress(ValueError):
            return KdumpMemory(file)
    return DrgnMemory(prog)


def _open_qemu(address: str, vmcoreinfo: Path | None) -> Opened:
    """Open a QEMU guest by its QMP socket, a path or host:port, and only read its memory.

    Raises HvoinspectError.
    """
    text = _read_vmcoreinfo(vmcoreinfo)
    running = is_running(address)
    try:
        prog = Program(vmcoreinfo=text)
        prog.set_qemu_qmp(address)
        if text is not None and not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
            prog.set_linux_kernel_custom(text, is_live=True)
    except Exception as error:  # as above
        raise HvoinspectError(
            f"the guest at {address} cannot be read: {reason(error)}",
            "give the Unix socket of its -qmp, as a user who may trace QEMU",
        ) from error
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise HvoinspectError(
            f"the guest at {address} does not tell its VMCOREINFO",
            "run QEMU with -device vmcoreinfo and load qemu_fw_cfg in the guest, use a Unix "
            "socket, or give --vmcoreinfo",
        )
    return Opened(prog, DrgnMemory(prog), "qemu", address, running, _suspect(vmcoreinfo))


def _open_session(prog: Program) -> Kernel:
    """Open what a drgn session has open, and learn it.

    Where that can be opened once more, it is: the session's program is only read, and gets neither
    types nor symbols from here. Otherwise, as for a guest, the session's own types must do.
    Raises as `open_target`.
    """
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise HvoinspectError(
            "what drgn has open is no Linux kernel",
            "start drgn with -k, -c VMCORE or --qemu QMP_SOCKET",
        )
    running = prog.flags & _RUNNING == _RUNNING
    try:
        if running:
            return open_running(_debug_file(prog))
        if prog.core_dump_path is not None:
            opened = _open_core(Path(prog.core_dump_path), prog["VMCOREINFO"].string_())
            return learn_opened(opened, _debug_file(prog))
    except NoKcoreError:
        # drgn may have got in where this process cannot: it asks sudo to open /proc/kcore.
        if not _has_types(prog):
            raise
    if not _has_types(prog):
        raise HvoinspectError(
            "drgn has no debug information of this kernel",
            "start drgn with -s VMLINUX, or run hvoinspect by itself, which needs none",
        )
    live = bool(prog.flags & drgn.ProgramFlags.IS_LIVE)
    kind: SourceKind = "kcore" if running else "qemu" if live else "core"
    return learn_opened(Opened(prog, DrgnMemory(prog), kind, "drgn's session", running=live), None)


def _debug_file(prog: Program) -> Path | None:
    """Return the vmlinux that a session has debug information from, if it is a file."""
    try:
        path = prog.main_module().debug_file_path
    except LookupError:
        return None
    return Path(path) if path and Path(path).is_file() else None


def _has_types(prog: Program) -> bool:
    try:
        prog.type("struct page")
    except LookupError:
        return False
    return True


def learn_opened(opened: Opened, symbols: Path | None) -> Kernel:
    """Learn a kernel from memory that may be anything. Raises HvoinspectError."""
    prog, path = opened.prog, opened.path
    try:
        debug_info = _debug_info(prog, symbols)
        return learn(prog, opened.kind, path, debug_info, memory=opened.memory, live=opened.running)
    except HvoinspectError as error:
        if opened.suspect is None or symbols is not None:
            raise
        raise HvoinspectError(error.why, opened.suspect) from error
    except Exception as error:  # damaged memory leads drgn anywhere
        raise HvoinspectError(
            f"no kernel can be made out in {path or '/proc/kcore'}: {reason(error)}",
            "give one that is whole and undamaged",
        ) from error


def _hide(prog: Program, dump: DumpFile) -> None:
    """Let reads of what an ELF dump names but does not hold fail: drgn would return zeros."""

    def refuse(address: int, _count: int, _offset: int, _physical: bool) -> bytes:
        raise FaultError("the dump leaves this memory out", address)

    for virtual, physical, size in dump.holes.tolist():
        if virtual != NO_ADDRESS:
            prog.add_memory_segment(virtual, size, refuse)
        if physical != NO_ADDRESS:
            prog.add_memory_segment(physical, size, refuse, physical=True)


def _no_vmcoreinfo(path: Path, dump: DumpFile) -> HvoinspectError:
    if b"QEMU" in dump.notes:
        return HvoinspectError(
            f"{path} is a dump by QEMU, without the guest's VMCOREINFO",
            "run QEMU with -device vmcoreinfo and load qemu_fw_cfg in the guest before it is "
            "dumped, or give --vmcoreinfo",
        )
    return HvoinspectError(
        f"{path} is a core file, but not a Linux kernel's: it has no VMCOREINFO",
        "give a kernel crash dump (vmcore); for one that lacks the note, also --vmcoreinfo",
    )


def _suspect(vmcoreinfo: Path | None) -> str | None:
    return f"give VMCOREINFO of the same boot; is {vmcoreinfo}?" if vmcoreinfo else None


def _read_vmcoreinfo(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_VMCOREINFO)
    except OSError as error:
        raise HvoinspectError(
            f"{path} cannot be read: {error.strerror}", _VMCOREINFO, ExitStatus.USAGE
        ) from error
    try:
        Program(vmcoreinfo=text)
    except Exception as error:  # as above
        raise HvoinspectError(
            f"{path} is not VMCOREINFO: {reason(error)}", _VMCOREINFO, ExitStatus.USAGE
        ) from error
    return text


def _debug_info(prog: Program, symbols: Path | None) -> tuple[DebugInfo, ...]:
    """Register DWARF if it is given or installed, and otherwise BTF and kallsyms."""
    if _has_types(prog):
        return ("vmcoreinfo", "dwarf")
    if _load_dwarf(prog, symbols):
        return ("vmcoreinfo", "dwarf")
    register_all(prog)
    return ("vmcoreinfo", "btf")


def _load_dwarf(prog: Program, symbols: Path | None) -> bool:
    # Only what is on this machine: a scan does not wait for a server of debug information.
    prog.set_enabled_debug_info_finders(["standard"])
    if symbols is not None and not symbols.exists():
        raise HvoinspectError(
            f"there is no file {symbols}", "give the path of a vmlinux", ExitStatus.USAGE
        )
    try:
        prog.load_debug_info([str(symbols)] if symbols else [], main=True)
    except drgn.MissingDebugInfoError as error:
        if symbols is not None:
            raise HvoinspectError(
                f"{symbols} is not the debug information of this kernel",
                "give the vmlinux, with DWARF, of exactly this build",
            ) from error
    except Exception as error:  # as above
        if symbols is not None:
            raise HvoinspectError(
                f"{symbols} cannot be read: {reason(error)}", "give a vmlinux with DWARF"
            ) from error
    return _has_types(prog)
