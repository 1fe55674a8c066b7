"""The two system calls behind a count: perf_event_open(2), and what bcc lacks of bpf(2).

Whatever is opened here ends with its file descriptor, so also when this process is killed. That is
why probes are not attached through bcc: where the kernel refuses one, bcc goes on to write it to
tracefs, where it would stay.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from pathlib import Path

from hvoinspect.hotpath.files import read_text

SOFTWARE, HARDWARE = 1, 0
"""`enum perf_type_id`, include/uapi/linux/perf_event.h."""
CPU_CLOCK, CPU_CYCLES = 0, 0
"""PERF_COUNT_SW_CPU_CLOCK and PERF_COUNT_HW_CPU_CYCLES."""

_PERF_EVENT_OPEN = {"x86_64": 298}
_BPF = {"x86_64": 321}
# riscv64, loongarch64 and arm64 share one table of numbers, include/uapi/asm-generic/unistd.h.
_GENERIC_PERF_EVENT_OPEN, _GENERIC_BPF = 241, 280
_BPF_LINK_CREATE, _BPF_ENABLE_STATS = 28, 32
_BPF_PERF_EVENT = 41
_LINK = struct.Struct("=IIIIQ")
"""Of `union bpf_attr`, its `link_create` with `perf_event.bpf_cookie`; include/uapi/linux/bpf.h."""
_FD_CLOEXEC = 1 << 3
_EXCLUDE_IDLE, _FREQ = 1 << 7, 1 << 10
_SET_BPF = 0x40042408  # PERF_EVENT_IOC_SET_BPF, _IOW('$', 8, __u32)
_ATTR = struct.Struct("=IIQQQQQIIQQ")
"""`struct perf_event_attr` up to config2, which is its size since Linux 3.3."""

_libc = ctypes.CDLL(None, use_errno=True)


def kprobe_type(root: Path) -> int | None:
    """Return the number of the kernel's kprobe PMU, or None if it has none.

    It is there since e12f03d7031a "perf/core: Implement the 'perf_kprobe' PMU" (4.17), where
    CONFIG_KPROBE_EVENTS is on.
    """
    text = read_text(root / "sys/bus/event_source/devices/kprobe/type")
    return int(text) if text and text.isdecimal() else None


def attach_kprobe(pmu: int, address: int, program: int, cookie: int) -> int:
    """Run the BPF program `program` at a kernel address, on all CPUs. Returns the descriptor.

    The program finds `cookie` with bpf_get_attach_cookie(), since 82e6b1eee6a8 "bpf: Allow to
    specify user-provided bpf_cookie for BPF perf links" (5.15). Raises OSError with what the kernel
    says: EINVAL for what may not be probed.
    """
    # One event on one CPU is enough: the program runs wherever the probe is hit
    # (kprobe_perf_func() asks for events of its CPU only after it).
    event = _open(pmu, config2=address, cpu=_a_cpu())
    try:
        return _bpf(_BPF_LINK_CREATE, _LINK.pack(program, event, _BPF_PERF_EVENT, 0, cookie))
    finally:
        os.close(event)  # the link keeps it


def attach_clock(kind: int, config: int, hertz: int, cpu: int, program: int) -> int:
    """Run a BPF program `hertz` times a second on a busy CPU. Returns the descriptor.

    Raises OSError: ENOENT or EOPNOTSUPP where there is no such counter.
    """
    event = _open(kind, config=config, period=hertz, flags=_FREQ | _EXCLUDE_IDLE, cpu=cpu)
    try:
        fcntl.ioctl(event, _SET_BPF, program)
    except OSError:
        os.close(event)
        raise
    return event


def enable_stats() -> int:
    """Let the kernel time BPF programs, until the returned descriptor is closed. Raises OSError.

    Since d46edd671a14 "bpf: Sharing bpf runtime stats with BPF_ENABLE_STATS" (5.8); unlike the
    sysctl kernel.bpf_stats_enabled it needs no restoring.
    """
    return _bpf(_BPF_ENABLE_STATS, bytes(4))  # its type is BPF_STATS_RUN_TIME, which is 0


def run_time(program: int) -> tuple[int, int, int]:
    """Return the nanoseconds a BPF program took, how often it ran, and how often it could not.

    It cannot run where another one is running on that CPU. From Documentation/bpf: what
    /proc/PID/fdinfo shows of a program's descriptor.
    """
    text = Path(f"/proc/self/fdinfo/{program}").read_text(encoding="ascii")
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    names = ("run_time_ns", "run_cnt", "recursion_misses")
    taken, runs, missed = (int(fields.get(name, "0")) for name in names)
    return taken, runs, missed


def _open(
    kind: int, *, config: int = 0, config2: int = 0, period: int = 0, flags: int = 0, cpu: int
) -> int:
    attr = _ATTR.pack(kind, _ATTR.size, config, period, 0, 0, flags, 0, 0, 0, config2)
    number = _PERF_EVENT_OPEN.get(platform.machine(), _GENERIC_PERF_EVENT_OPEN)
    return _checked(_libc.syscall(number, attr, -1, cpu, -1, ctypes.c_ulong(_FD_CLOEXEC)))


def _bpf(command: int, attr: bytes) -> int:
    number = _BPF.get(platform.machine(), _GENERIC_BPF)
    return _checked(_libc.syscall(number, command, attr, ctypes.c_uint(len(attr))))


def _a_cpu() -> int:
    return min(os.sched_getaffinity(0))


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
