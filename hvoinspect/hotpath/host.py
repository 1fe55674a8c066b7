"""What this host lets be counted of its own kernel, found by looking: nothing is changed or loaded.

bcc is not imported, for that takes long and loads a compiler: it is looked for where Python would.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath import perf
from hvoinspect.hotpath.denied import (
    closed_events,
    kprobes_off,
    no_bcc,
    no_events,
    no_headers,
    no_kprobes,
    no_sites,
    not_root,
    other_bcc,
)
from hvoinspect.hotpath.files import tracing_folders
from hvoinspect.hotpath.sitesfile import SYSTEM_FOLDER, find_sites
from hvoinspect.hotpath.vmlinux import DEBUG, find_vmlinux
from hvoinspect.target.host import (
    CAP_BPF,
    CAP_PERFMON,
    CAP_SYS_ADMIN,
    Check,
    Host,
    Purpose,
    examine_kernel,
    exists,
    read_text,
)

SYSTEM_BCC = Path("usr/lib/python3/dist-packages/bcc")
"""Where Debian's python3-bpfcc is, for the system's own Python; below the root."""
PMUS = ("cpu", "cpu_core", "cpu_atom")
"""What the kernel calls the CPU's counters: one, or one for each kind of core."""


def has_kprobes(root: Path) -> bool:
    """Whether the kernel takes probes, by perf or by tracefs; `root` is where /sys is."""
    events = (folder / "kprobe_events" for folder in tracing_folders(root))
    return perf.kprobe_type(root) is not None or any(exists(path) for path in events)


def are_kprobes_off(root: Path) -> bool:
    """Whether someone switched all probes off; False where that cannot be told."""
    return read_text(root / "sys/kernel/debug/kprobes/enabled") == "0"


def python_bcc() -> Path | None:
    """Return the folder of the bcc that this Python would import."""
    try:
        spec = importlib.util.find_spec("bcc")
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


def examine(
    host: Host,
    environment: Mapping[str, str] = os.environ,
    find_bcc: Callable[[], Path | None] = python_bcc,
) -> Iterator[Check]:
    """Check all that the commands which look at the running kernel take."""
    dwarf = _debug_data(host)
    yield from examine_kernel(host, has_dwarf=dwarf.ok)
    yield dwarf
    yield _capabilities(host)
    yield from _kprobes(host)
    yield _bcc(host, find_bcc())
    yield _headers(host, environment.get("BCC_KERNEL_SOURCE"))
    yield _bpf(host)
    yield _sites(host, environment)
    yield from _perf(host)


def _debug_data(host: Host) -> Check:
    try:
        path = find_vmlinux(host.build_id, host.release, host.root / DEBUG.relative_to("/"))
        found, fix = f"in {path}", None
    except HvoinspectError as error:
        path, found, fix = None, error.why, error.remedy
    enables = "types without BTF; finding the inlined copies of the kernel's helpers"
    return Check("debug_data", path is not None, enables, found, fix)


def _capabilities(host: Host) -> Check:
    # CAP_SYS_ADMIN has stood for the others since they were split from it: a17b53c4a4b5 "bpf,
    # capability: Introduce CAP_BPF" and 980737282232 "capabilities: Introduce CAP_PERFMON" (5.8).
    both = host.has_capability(CAP_BPF) and host.has_capability(CAP_PERFMON)
    ok = both or host.has_capability(CAP_SYS_ADMIN)
    given = "run it on the host, or in a container that is given them"
    return Check(
        "cap_bpf_perfmon",
        ok,
        "loading programs that count, and attaching them",
        "held" if ok else "neither CAP_BPF with CAP_PERFMON nor CAP_SYS_ADMIN is held",
        given if host.is_root else not_root().remedy,
        ("hotpath",),
    )


def _kprobes(host: Host) -> Iterator[Check]:
    refusal = None
    if not has_kprobes(host.root):
        refusal = no_kprobes()
    elif are_kprobes_off(host.root):
        refusal = kprobes_off()
    enables = "exact counts, and not samples only"
    yield _check("kprobes", enables, "the kernel takes them", refusal, needed=True)
    yield _check("tracefs", "exact counts without bcc", "kprobe_events is there", _events(host))


def _events(host: Host) -> HvoinspectError | None:
    """Say what keeps kprobe_events from this user. It is opened to be read only, and not read."""
    for folder in tracing_folders(host.root):
        path = folder / "kprobe_events"
        try:
            path.open("rb").close()
        except FileNotFoundError:
            continue
        except OSError as error:
            return closed_events(path, error)
        return None
    return no_events()


def _bcc(host: Host, place: Path | None) -> Check:
    refusal = None
    if place is None:
        refusal = no_bcc("it is not in its path", elsewhere=exists(host.root / SYSTEM_BCC))
    elif not exists(place / "libbcc.py"):
        refusal = other_bcc(place)
    enables = "counts at a lower cost, of one command only, and samples"
    return _check("bcc", enables, f"in {place}", refusal, needed=True)


def _headers(host: Host, given: str | None) -> Check:
    places = header_places(host.root, host.release, given)
    place = next((place for place in places if exists(place)), None)
    refusal = no_headers(host.release, given) if place is None else None
    enables = "compiling the counting program, by bcc"
    return _check("headers", enables, f"in {place}", refusal, needed=True)


def header_places(root: Path, release: str, given: str | None) -> list[Path]:
    """Return where bcc looks for a kernel's headers; `given` is BCC_KERNEL_SOURCE."""
    if given:
        return [Path(given)]
    packed = (root / "sys/kernel/kheaders.tar.xz", root / "proc/kheaders.tar.xz")
    return [root / f"lib/modules/{release}/build", *packed]


def _bpf(host: Host) -> Check:
    # The sysctl exists iff CONFIG_BPF_SYSCALL (kernel/bpf/syscall.c). Its value does not matter:
    # whoever counts is privileged.
    ok = exists(host.root / "proc/sys/kernel/unprivileged_bpf_disabled")
    return Check(
        "bpf",
        ok,
        "counting by a BPF program",
        "built in" if ok else "the kernel has no BPF, or sysctls are not mounted",
        "use a kernel with CONFIG_BPF_SYSCALL; --backend tracefs needs none",
        ("hotpath",),
    )


def _sites(host: Host, environment: Mapping[str, str]) -> Check:
    refusal: HvoinspectError | None = no_sites(host.build_id)
    found = ""
    try:
        system = host.root / SYSTEM_FOLDER.relative_to("/")
        sites = find_sites(host.build_id, environment, system) if host.build_id else None
    except HvoinspectError as error:
        refusal = error
    else:
        if sites is not None:
            refusal, found = None, f"{len(sites.copies):,} copies are known"
    return _check("sites", "counting at each inlined copy, not only at functions", found, refusal)


def _perf(host: Host) -> Iterator[Check]:
    paranoid = read_text(host.root / "proc/sys/kernel/perf_event_paranoid")
    # From 1 on, only the privileged may look at all of a CPU, which is what samples are of
    # (Documentation/admin-guide/sysctl/kernel.rst).
    allowed = host.has_capability(CAP_PERFMON) or host.has_capability(CAP_SYS_ADMIN)
    has_perf = paranoid is not None
    found = f"kernel.perf_event_paranoid is {paranoid}" + (
        ", and this process may profile" if allowed else ", and this process lacks CAP_PERFMON"
    )
    yield Check(
        "perf",
        has_perf and (allowed or paranoid in ("0", "-1")),
        "samples of where the CPUs are",
        found if has_perf else "the kernel has no perf events, or sysctls are not mounted",
        not_root().remedy if has_perf else "use a kernel with CONFIG_PERF_EVENTS",
        ("hotpath",),
    )
    devices = host.root / "sys/bus/event_source/devices"
    pmus = [name for name in PMUS if exists(devices / name)]
    yield Check(
        "pmu",
        bool(pmus),
        "samples by CPU cycles, also where interrupts are off",
        f"the CPU counts ({', '.join(pmus)})" if pmus else "samples go by the kernel's clock",
    )


def _check(
    name: str,
    enables: str,
    found: str,
    refusal: HvoinspectError | None,
    *,
    needed: bool = False,
) -> Check:
    """Return a check that is ok if nothing was refused, and otherwise says what."""
    purposes: tuple[Purpose, ...] = ("hotpath",) if needed else ()
    if refusal is None:
        return Check(name, True, enables, found, None, purposes)
    return Check(name, False, enables, refusal.why, refusal.remedy, purposes)
