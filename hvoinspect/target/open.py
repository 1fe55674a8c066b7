"""Opens what is to be inspected: the running kernel or a dump."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import drgn
from drgn import Program

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.target.capture import is_capture, unpacked
from hvoinspect.target.layout import DebugInfo, Kernel
from hvoinspect.target.learn import learn
from hvoinspect.target.symbols import register_all

# What drgn has to say is told as an error of this project's, or is of no concern to its users.
# A handler would not do: drgn trips over names that are no UTF-8 before it comes to one.
if logging.getLogger("drgn").level == logging.NOTSET:
    logging.getLogger("drgn").setLevel(logging.CRITICAL + 1)


class NoKcoreError(HvoinspectError):
    """The running kernel's memory cannot be read; its own view may still be had."""


def open_running(symbols: Path | None = None) -> Kernel:
    """Open the running kernel through /proc/kcore.

    Raises NoKcoreError if /proc/kcore is missing, forbidden or empty, and HvoinspectError if the
    kernel cannot be understood.
    """
    prog = running_program()
    return learn(prog, "kcore", None, _debug_info(prog, symbols))


def running_program() -> Program:
    """Return a drgn program of the running kernel, without types. Raises NoKcoreError."""
    prog = Program()
    try:
        prog.set_kernel()
    except PermissionError as error:
        if os.geteuid() != 0:
            raise NoKcoreError(
                "only root may read /proc/kcore, the running kernel's memory",
                "run it again with sudo",
            ) from error
        raise NoKcoreError(
            "the kernel does not let even root read /proc/kcore",
            "it is locked down for confidentiality, or this container lacks CAP_SYS_RAWIO: "
            "scan from the host, or inspect a crash dump",
        ) from error
    except FileNotFoundError as error:
        raise NoKcoreError(
            "there is no /proc/kcore here",
            "run it on the host and not in a container, or on a kernel with CONFIG_PROC_KCORE",
        ) from error
    except Exception as error:  # drgn raises also bare ones, as for what libelf says
        raise NoKcoreError(
            f"/proc/kcore cannot be used: {_reason(error)}",
            "run it on the host and not in a container",
        ) from error
    return prog


def open_core(path: Path, symbols: Path | None = None) -> Kernel:
    """Open a crash dump of a kernel, or a capture. Raises HvoinspectError."""
    prog = core_program(path)
    return learn(prog, "core", str(path), _debug_info(prog, symbols))


def core_program(path: Path) -> Program:
    """Return a drgn program of a dump or a capture, without types. Raises HvoinspectError."""
    prog = Program()
    try:
        if is_capture(path):
            with unpacked(path) as core:
                prog.set_core_dump(os.dup(core.fileno()))
        else:
            prog.set_core_dump(str(path))
    except FileNotFoundError as error:
        raise HvoinspectError(
            f"there is no file {path}", "give the path of a dump", ExitStatus.USAGE
        ) from error
    except HvoinspectError:
        raise
    except Exception as error:  # as above
        raise HvoinspectError(
            f"{path} cannot be read as a dump: {_reason(error)}",
            "give a vmcore, as an ELF or a kdump file, that this user may read",
        ) from error
    if not prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise HvoinspectError(
            f"{path} is a core file, but not a Linux kernel's",
            "give a kernel crash dump (vmcore), and all of it",
        )
    return prog


def _reason(error: Exception) -> str:
    """Return what went wrong, without the path: the sentence around it has it."""
    strerror: str | None = getattr(error, "strerror", None)
    return strerror or str(error) or type(error).__name__


def _debug_info(prog: Program, symbols: Path | None) -> tuple[DebugInfo, ...]:
    """Register DWARF if it is given or installed, and otherwise BTF and kallsyms."""
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
                f"{symbols} cannot be read: {_reason(error)}", "give a vmlinux with DWARF"
            ) from error
    try:
        prog.type("struct page")
    except LookupError:
        return False
    return True
