"""A host in a folder: files as /proc and /sys have them, for what only looks at files."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from hvoinspect.target.elfcore import write_headers
from hvoinspect.target.host import Check, Host
from tests.tiny_kernel import kernel_btf

RELEASE = "6.12.0-test"
BUILD_ID = "ab" * 20
ALL, NONE = (1 << 41) - 1, 0
ROOT, NOBODY = 0, 65534
VMCOREINFO = b"OSRELEASE=6.12.0-test\nSYMBOL(kallsyms_num_syms)=ffffffff82000000\n"


def put(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def kcore(vmcoreinfo: bytes = VMCOREINFO) -> bytes:
    """The headers of a /proc/kcore."""
    file = io.BytesIO()
    write_headers(file, vmcoreinfo, [(0, 4096)], [])
    return file.getvalue()


class MadeUpHost:
    """A host where everything works; take away what is to be missing."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.host = Host(folder, RELEASE, "x86_64")
        self.be(ROOT, ALL)
        note = struct.pack("<III", 4, 20, 3) + b"GNU\0" + bytes.fromhex(BUILD_ID)
        for name, content in (
            ("proc/kcore", kcore()),
            ("proc/kpageflags", bytes(8)),
            ("proc/kallsyms", b"0000000000001000 A first\nffffffff81000000 T _stext\n"),
            ("proc/sys/kernel/kptr_restrict", b"1\n"),
            ("proc/sys/kernel/perf_event_paranoid", b"2\n"),
            ("proc/sys/kernel/unprivileged_bpf_disabled", b"2\n"),
            ("proc/sys/vm/hugetlb_optimize_vmemmap", b"1\n"),
            ("sys/bus/event_source/devices/cpu/type", b"4\n"),
            ("sys/bus/event_source/devices/kprobe/type", b"8\n"),
            ("sys/kernel/btf/vmlinux", kernel_btf()),
            ("sys/kernel/debug/kprobes/enabled", b"1\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", b"0\n"),
            ("sys/kernel/notes", note),
            ("sys/kernel/security/lockdown", b"[none] integrity confidentiality\n"),
            ("sys/kernel/tracing/kprobe_events", b""),
            ("sys/kernel/vmcoreinfo", b"1000 1024\n"),
            (f"lib/modules/{RELEASE}/build/Makefile", b""),
            ("python/bcc/libbcc.py", b""),
        ):
            self.put(name, content)

    @property
    def bcc(self) -> Path:
        """The folder of Debian's bcc."""
        return self.root / "python/bcc"

    def be(self, uid: int, capabilities: int) -> None:
        """Let this process be that user, with those capabilities effective."""
        status = f"Name:\tpython\nUid:\t1000\t{uid}\t1000\t1000\nCapEff:\t{capabilities:016x}\n"
        self.put("proc/self/status", status.encode())

    def put(self, name: str, content: bytes) -> None:
        put(self.root / name, content)

    def take(self, *names: str) -> None:
        """Take files away."""
        for name in names:
            (self.root / name).unlink()

    def break_(self, name: str) -> None:
        """Let a file be there, and reading it fail with EISDIR."""
        self.take(name)
        (self.root / name).mkdir()


def named(checks: tuple[Check, ...]) -> dict[str, Check]:
    """The checks by name, each of which is there once."""
    found = {check.name: check for check in checks}
    assert len(found) == len(checks)
    return found
