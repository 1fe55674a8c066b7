"""What this host lets be read of its own kernel, found by looking: nothing is changed or loaded.

All is read below `Host.root`, through /proc and /sys. What the running kernel would refuse is said
as `denied` says it, which is what the other commands print. Needs no drgn.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hvoinspect.errors import HvoinspectError
from hvoinspect.target.btf import Btf, read_btf
from hvoinspect.target.btf_records import BtfError, Kind
from hvoinspect.target.denied import (
    no_addresses,
    no_kallsyms,
    no_kcore,
    no_kpageflags,
    not_x86_64,
)
from hvoinspect.target.kcore import read_vmcoreinfo
from hvoinspect.target.notes import running_build_id

Purpose = Literal["scan", "own view", "hotpath"]
"""What a check is needed for: a full scan, the kernel's own view in its place, or counting."""
Reach = Literal["full", "own view", "none"]
"""What a scan of the running kernel would show."""

CAP_SYS_RAWIO, CAP_SYS_ADMIN, CAP_SYSLOG, CAP_PERFMON, CAP_BPF = 17, 21, 34, 38, 39
"""Bits of CapEff (include/uapi/linux/capability.h)."""

MEMORY = ("kcore", "vmcoreinfo")
"""Checks without which the kernel's memory cannot be opened; a scan then shows its own view."""

MAX_TEXT = 1 << 16
"""Bytes that are read of a file of /proc or /sys; kallsyms is read by lines."""
MAX_SYMBOLS = 1 << 16
"""Lines of kallsyms among which _stext is looked for: only per-CPU variables come before it."""

_SUDO = "run it again with sudo"
_GIVEN = "run it on the host, or in a container that is given it"


@dataclass(frozen=True)
class Check:
    """One thing that a host has or lacks.

    `enables` is what it is good for, `found` what was seen. `fix` is how to mend it, None where it
    is ok or where nothing mends it. `needed_for` is what cannot be had on this host without it.
    """

    name: str
    ok: bool
    enables: str
    found: str
    fix: str | None = None
    needed_for: tuple[Purpose, ...] = ()

    def __post_init__(self) -> None:
        if self.ok:
            object.__setattr__(self, "fix", None)


@dataclass(frozen=True)
class Host:
    """A host; `root` is where its /proc, /sys and files are."""

    root: Path = Path("/")
    release: str = field(default_factory=lambda: os.uname().release)
    machine: str = field(default_factory=lambda: os.uname().machine)

    @property
    def is_root(self) -> bool:
        """Whether this process has the effective user id 0."""
        return re.search(r"^Uid:\s+\d+\s+0\s", self._status, re.MULTILINE) is not None

    def has_capability(self, bit: int) -> bool:
        """Whether a capability is effective."""
        found = re.search(r"^CapEff:\s+([0-9a-f]{1,16})$", self._status, re.MULTILINE)
        return found is not None and bool(int(found[1], 16) >> bit & 1)

    @functools.cached_property
    def build_id(self) -> str | None:
        """The running kernel's build-id, in hexadecimal."""
        return running_build_id(self.root / "sys/kernel/notes")

    @functools.cached_property
    def _status(self) -> str:
        return read_text(self.root / "proc/self/status") or ""


def read_text(path: Path) -> str | None:
    """Return the text of a small file without the spaces around it, None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT).decode("ascii", "replace").strip()
    except OSError:
        return None


def exists(path: Path) -> bool:
    """Whether something is there that this user may know of."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists() raises where a folder is closed


def hvo_setting(root: Path) -> tuple[bool | None, bool | None]:
    """Return whether the running kernel has HVO built in, and whether it is on; None: not known."""
    sysctls = root / "proc/sys/vm"
    text = read_text(sysctls / "hugetlb_optimize_vmemmap")
    # The sysctl exists iff CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP (mm/hugetlb_vmemmap.c); where
    # there are no sysctls at all, as in some sandboxes, its absence says nothing.
    supported = None if text is None and not sysctls.is_dir() else text is not None
    return supported, {"0": False, "1": True}.get(text or "")


def reach(checks: Sequence[Check]) -> Reach:
    """Return what a scan would show, by what failed.

    The own view takes the place of memory that cannot be opened, and of nothing else: a scan that
    can open it but lacks what makes sense of it is refused.
    """
    failed = [check for check in checks if not check.ok]
    if not any("scan" in check.needed_for for check in failed):
        return "full"
    if any("own view" in check.needed_for for check in failed):
        return "none"
    return "own view" if any(check.name in MEMORY for check in failed) else "none"


def examine_kernel(host: Host, *, has_dwarf: bool) -> Iterator[Check]:
    """Check what reading the running kernel takes; `has_dwarf`: its DWARF is installed.

    Takes about 0.1 s, for BTF is parsed.
    """
    try:
        info, refusal = read_vmcoreinfo(host.root / "proc/kcore"), None
    except (OSError, ValueError) as error:
        info, refusal = None, no_kcore(error, root=host.is_root)
    yield _machine(host)
    yield _root(host, can_read=refusal is None)
    yield Check(
        "cap_sys_rawio",
        host.has_capability(CAP_SYS_RAWIO),
        "opening /proc/kcore",
        held(host, CAP_SYS_RAWIO),
        _SUDO if not host.is_root else _GIVEN,
        ("scan",) if refusal is not None else (),
    )
    yield _lockdown(host)
    yield Check(
        "kcore",
        refusal is None,
        "reading the kernel's memory: what HVO really did to the vmemmap",
        "/proc/kcore can be read" if refusal is None else refusal.why,
        refusal.remedy if refusal else None,
        ("scan",),
    )
    yield _vmcoreinfo(host, info)
    yield _btf(host, has_dwarf=has_dwarf)
    yield from _symbols(host, info, has_dwarf=has_dwarf)
    yield _kpageflags(host)
    yield from _hugepages(host)


def _machine(host: Host) -> Check:
    refusal = not_x86_64(host.machine)
    ok = host.machine == "x86_64"
    found = "x86_64" if ok else refusal.why
    return Check("x86_64", ok, "walking the page tables", found, refusal.remedy, ("scan",))


def _root(host: Host, *, can_read: bool) -> Check:
    return Check(
        "root",
        host.is_root,
        "opening /proc/kcore and /proc/kpageflags, and counting in the kernel",
        "this is root" if host.is_root else "this is not root",
        _SUDO,
        ("hotpath",) if can_read else ("scan", "hotpath"),
    )


def held(host: Host, capability: int) -> str:
    """Say whether a capability is effective."""
    return "held" if host.has_capability(capability) else "not held"


def _lockdown(host: Host) -> Check:
    text = read_text(host.root / "sys/kernel/security/lockdown")
    found = re.search(r"\[(\w+)\]", text or "")
    level = found[1] if found else None
    # Everything that is read here is below LOCKDOWN_CONFIDENTIALITY_MAX, and above
    # LOCKDOWN_INTEGRITY_MAX (enum lockdown_reason in include/linux/security.h).
    return Check(
        "lockdown",
        level != "confidentiality",
        "/proc/kcore, probes and samples: confidentiality forbids them",
        "not known: /sys/kernel/security/lockdown is missing" if level is None else level,
        "boot without lockdown=confidentiality, or inspect a crash dump",
        ("scan", "hotpath"),
    )


def _vmcoreinfo(host: Host, info: bytes | None) -> Check:
    elsewhere = exists(host.root / "sys/kernel/vmcoreinfo")
    places = ["the notes of /proc/kcore"] if info is not None else []
    places += ["/sys/kernel/vmcoreinfo"] if elsewhere else []
    return Check(
        "vmcoreinfo",
        bool(places),
        "finding the kernel in its memory",
        f"in {' and '.join(places)}" if places else "the kernel tells none",
        "use a kernel with CONFIG_VMCORE_INFO (up to 6.8: CONFIG_CRASH_CORE)",
        ("scan",),
    )


def _btf(host: Host, *, has_dwarf: bool) -> Check:
    path = host.root / "sys/kernel/btf/vmlinux"
    refusal: HvoinspectError | None = None
    try:
        if Btf.parse(read_btf(path)).find("page", (Kind.STRUCT,)) is None:
            refusal = BtfError("it has no struct page")
    except BtfError as error:
        refusal = error
    return Check(
        "btf",
        refusal is None,
        "the kernel's types without a debug package",
        f"{path} has them" if refusal is None else refusal.why,
        refusal.remedy if refusal else None,
        ("own view",) if has_dwarf else ("scan", "own view"),
    )


def _symbols(host: Host, info: bytes | None, *, has_dwarf: bool) -> Iterator[Check]:
    restrict = read_text(host.root / "proc/sys/kernel/kptr_restrict")
    yield Check(
        "cap_syslog",
        host.has_capability(CAP_SYSLOG),
        "addresses in /proc/kallsyms",
        held(host, CAP_SYSLOG),
        _SUDO if not host.is_root else _GIVEN,
    )
    yield Check(
        "kptr_restrict",
        restrict != "2",
        "addresses in /proc/kallsyms: 2 hides them even from root",
        f"kernel.kptr_restrict is {restrict or 'not known'}",
        "sudo sysctl kernel.kptr_restrict=1",
    )
    # f09bddbd8661 "vmcoreinfo: add kallsyms_num_syms symbol" (v6.0): a scan finds them in memory.
    in_memory = b"SYMBOL(kallsyms_num_syms)=" in (info or b"")
    path = host.root / "proc/kallsyms"
    refusal = _hidden(path)
    found = f"{path} shows addresses" if refusal is None else refusal.why
    yield Check(
        "kallsyms",
        refusal is None,
        "the kernel's symbols, and where to count",
        f"{found}; a scan takes them from memory" if in_memory and refusal else found,
        refusal.remedy if refusal else None,
        ("hotpath",) if in_memory or has_dwarf else ("scan", "hotpath"),
    )


def _hidden(path: Path) -> HvoinspectError | None:
    """Say what keeps addresses out of a kallsyms file, None if _stext has one that is not 0."""
    try:
        with path.open("rb") as file:
            for _ in range(MAX_SYMBOLS):
                match file.readline(MAX_TEXT).split():
                    case []:
                        break
                    case [address, _, b"_stext"]:
                        return None if address.strip(b"0") else no_addresses(path)
    except OSError as error:
        return no_kallsyms(path, error)
    return no_kallsyms(path, None)


def _kpageflags(host: Host) -> Check:
    path = host.root / "proc/kpageflags"
    refusal: HvoinspectError | None = None
    try:
        with path.open("rb", buffering=0) as file:
            file.read(8)
    except OSError as error:
        refusal = no_kpageflags(path, error)
    return Check(
        "kpageflags",
        refusal is None,
        "the kernel's own view, where its memory cannot be read",
        f"{path} can be read" if refusal is None else refusal.why.replace(" either", ""),
        refusal.remedy if refusal else None,
        ("own view",),
    )


def _hugepages(host: Host) -> Iterator[Check]:
    hugetlb = exists(host.root / "sys/kernel/mm/hugepages")
    yield Check(
        "hugetlb",
        hugetlb,
        "hugepages for HVO to work on",
        "built in" if hugetlb else "there is no /sys/kernel/mm/hugepages",
        "use a kernel with CONFIG_HUGETLBFS",
    )
    supported, enabled = hvo_setting(host.root)
    state = {True: "on", False: "off for new hugepages", None: "not known whether it is on"}
    found = {True: f"built in, {state[enabled]}", False: "not built in", None: "not known"}
    yield Check(
        "hvo",
        supported is True,
        "fewer frames behind the vmemmap of hugepages",
        found[supported],
        "use a kernel with CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP" if supported is False else None,
    )
