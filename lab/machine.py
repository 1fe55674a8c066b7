"""What a guest is made of, and the command lines of QEMU and virtiofsd that make it so.

Measured on QEMU 7.2: `thread=multi` corrupts memory (cmpxchg16b), and with AVX on, programs that
use it crash in a loaded guest. So neither is used.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

QEMU = "qemu-system-x86_64"
# Debian 12's belongs to QEMU and is written in C; later ones are a package of their own.
VIRTIOFSD = (Path("/usr/lib/qemu/virtiofsd"), Path("/usr/libexec/virtiofsd"))

_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class Config:
    """A guest's configuration; equal ones can share a guest.

    `memory` is QEMU's way of saying it (`2G`), divided evenly among `nodes`. `hvo` switches
    HugeTLB Vmemmap Optimization on or off at boot; None leaves the kernel its default. `append`
    are further kernel arguments, `modules` kernel modules to load (with what they need), and
    `qemu_args` further arguments for QEMU. With `icount` the guest's clock, its time-stamp counter
    with it, counts instructions: one a nanosecond, and what would be slept is skipped.
    """

    kernel: str
    memory: str = "2G"
    cpus: int = 1
    nodes: int = 1
    la57: bool = False
    hvo: bool | None = None
    append: str = ""
    modules: tuple[str, ...] = ()
    qemu_args: tuple[str, ...] = ()
    icount: bool = False

    def __str__(self) -> str:
        """Say the kernel, and whatever is not as usual, for a test's name."""
        usual = Config(self.kernel)
        unusual = [
            f"{name}={getattr(self, name)}"
            for name in self.__dataclass_fields__
            if getattr(self, name) != getattr(usual, name)
        ]
        return ",".join([self.kernel, *unusual])

    @property
    def hugepages(self) -> list[tuple[int, int]]:
        """The hugepages that `append` asks for: their bytes, and how many, whatever their node."""
        size, found = 2 << 20, []
        for name, _, value in (word.partition("=") for word in self.append.split()):
            if name == "hugepagesz":
                size = size_bytes(value)
            elif name == "hugepages" and value.isdecimal():
                found.append((size, int(value)))
        return found


@dataclass(frozen=True)
class Folder:
    """The paths of one guest's session; all lie in a folder that both sides see."""

    path: Path

    @property
    def console(self) -> Path:
        """What the kernel says on its console."""
        return self.path / "console.log"

    @property
    def control(self) -> Path:
        """The socket of the command channel."""
        return self.path / "control.sock"

    @property
    def files(self) -> Path:
        """The socket between QEMU and virtiofsd."""
        return self.path / "files.sock"

    @property
    def qmp(self) -> Path:
        """QEMU's machine protocol, for tests that need it."""
        return self.path / "qmp.sock"

    @property
    def init(self) -> Path:
        """The guest's first program."""
        return self.path / "init"

    @property
    def initrd(self) -> Path:
        """The initramfs, where the kernel needs one."""
        return self.path / "initrd"


def check_host() -> Path:
    """Return virtiofsd's path. Raises LabError if this machine cannot run a guest."""
    if platform.machine() != "x86_64":
        raise LabError(f"this machine is {platform.machine()}", "run the lab on an x86-64 machine")
    if os.geteuid() != 0:
        raise LabError(
            "the lab shows this machine's files to a guest, which needs root", "run it with sudo"
        )
    if shutil.which(QEMU) is None:
        raise LabError("QEMU is missing", "install it with: sudo apt-get install qemu-system-x86")
    for path in VIRTIOFSD:
        if path.exists():
            return path
    raise LabError(
        "virtiofsd is missing",
        "install it with: sudo apt-get install virtiofsd (Debian 12: qemu-system-common)",
    )


def size_bytes(text: str) -> int:
    """Return the bytes of a size as `512M` or `2G`; MiB if it has no unit. Raises LabError."""
    match = re.fullmatch(r"(\d+)([KMGT]?)", text.upper())
    if not match or int(match[1]) == 0:
        raise LabError(f"{text!r} is no size of memory", "say it as 2G or 512M")
    return int(match[1]) << _UNITS[match[2] or "M"]


def virtiofsd_command(program: Path, folder: Folder) -> list[str]:
    """Return the command that serves this machine's `/` to the guest."""
    # The guest may keep what it has read: else it reads a program anew each time it runs it, and
    # Python takes six times as long to start. What this machine changes in files that the guest has
    # read need not be seen there; new files are. The program in C has -o only, that in Rust both.
    shared = ["-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot"]
    usage = subprocess.run(
        [program, "--help"], capture_output=True, text=True, check=False, errors="replace"
    ).stdout
    if "--shared-dir" in usage:
        shared = ["--shared-dir=/", "--cache=always", "--sandbox=chroot", "--log-level=error"]
    else:
        shared += ["-o", "log_level=err"]
    return [*_dies_with_us(), str(program), f"--socket-path={folder.files}", *shared]


def qemu_command(
    config: Config, vmlinuz: Path, folder: Folder, *, terminal: bool, initrd: bool
) -> list[str]:
    """Return QEMU's command for a guest; `terminal` gives it this process's as its ttyS2."""
    cpu = "max,-avx,-avx2" if config.la57 else "max,la57=off,-avx,-avx2"
    command = [
        *_dies_with_us(),
        QEMU,
        *("-machine", "q35", "-accel", "tcg,thread=single", "-cpu", cpu),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"),
        *("-smp", str(config.cpus)),
        *_memory(config),
        *("-chardev", f"file,id=console,path={folder.console}", "-serial", "chardev:console"),
        *("-chardev", f"socket,id=control,path={folder.control}", "-serial", "chardev:control"),
        *("-chardev", f"socket,id=files,path={folder.files}"),
        *("-device", "vhost-user-fs-pci,chardev=files,tag=ROOTFS"),
        *("-qmp", f"unix:{folder.qmp},server=on,wait=off"),
        *("-kernel", str(vmlinuz), "-append", kernel_arguments(config, folder)),
    ]
    if config.icount:
        command += ["-icount", "shift=0,sleep=off"]
    if initrd:
        command += ["-initrd", str(folder.initrd)]
    if terminal:
        command += ["-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal"]
    return [*command, *config.qemu_args]


def kernel_arguments(config: Config, folder: Folder) -> str:
    """Return the kernel's command line."""
    arguments = [
        "rootfstype=virtiofs root=ROOTFS rw",
        f"init={folder.init}",
        # Where this machine is busy, its clock may outrun the kernel's test of its timer: a panic.
        "console=ttyS0 quiet panic=-1 random.trust_cpu=on no_timer_check",
    ]
    if config.hvo is not None:
        arguments.append(f"hugetlb_free_vmemmap={'on' if config.hvo else 'off'}")
    if config.append:
        arguments.append(config.append)
    return " ".join(arguments)


def _memory(config: Config) -> Sequence[str]:
    total = size_bytes(config.memory) >> 20
    if total < config.nodes * 128 or config.cpus < 1 or config.nodes < 1:
        raise LabError(
            f"no guest can have {config.memory} on {config.nodes} nodes with {config.cpus} CPUs",
            "give each node 128M at least, and the guest one CPU",
        )
    command = ["-m", f"{total}M"]
    # A hot-plugged DIMM needs slots: `-m` may be among the further arguments, and the last counts.
    for node in range(config.nodes):
        size = total // config.nodes + (total % config.nodes if node == 0 else 0)
        cpus = [f",cpus={cpu}" for cpu in range(config.cpus) if cpu % config.nodes == node]
        command += [
            "-object",
            # Shared because virtiofsd reads and writes it; not reserved, so that a guest may have
            # more than this machine, most of which it never touches.
            f"memory-backend-memfd,id=memory{node},size={size}M,share=on,reserve=off",
            "-numa",
            f"node,nodeid={node},memdev=memory{node}{''.join(cpus)}",
        ]
    return command


def _dies_with_us() -> list[str]:
    # PR_SET_PDEATHSIG: even if this process is killed, nothing is left behind.
    return ["setpriv", "--pdeathsig", "KILL"]
