"""Panics a guest and lets a crash kernel save its memory, as kdump does on a real machine.

with boot("7.3", append=CRASH_KERNEL, memory="4G") as guest:
    whole, filtered = crash(guest)

The crash kernel is the guest's own, loaded beside it. Its first program is a script that sees this
machine's files as the guest does, may write to `guest.work` only, and ends the machine.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from lab.errors import GuestDied, LabError
from lab.guest import Guest
from lab.initrd import initrd, needs_initrd
from lab.session import text_of

CRASH_KERNEL = "crashkernel=256M"
"""What `Config.append` must hold; with less, a crash kernel runs out of memory."""
CRASH_SECONDS = 900.0

SAVE_WHOLE = "cp --sparse=always /proc/vmcore vmcore"
# makedumpfile wants to write to /tmp, which is not covered for all: the project may lie there.
SAVE_FILTERED = (
    "unshare --mount sh -c "
    "'mount -t tmpfs tmp /tmp && exec makedumpfile -l -d 31 /proc/vmcore vmcore.lzo'"
)

# acpi_no_memhotplug: a crash kernel that brings up hot-plugged memory overwrites what it should
# save. reset_devices: virtiofs works without a reset of the machine.
_ARGUMENTS = (
    "rootfstype=virtiofs root=ROOTFS rw console=ttyS0 quiet panic=-1 nr_cpus=1 "
    "reset_devices acpi_no_memhotplug random.trust_cpu=on no_timer_check"
)

# Nothing but the work folder is writable, which /run shows under a name of its own.
_INIT = """#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
mount -t tmpfs run /run
mkdir /run/work
mount --bind @WORK@ /run/work
mount -o remount,bind,ro /
cd /run/work || exit 1
@COMMANDS@
[ -n "$failed" ] || echo done >crash.done
sync
echo b >/proc/sysrq-trigger
"""


def crash(
    guest: Guest,
    commands: Sequence[str] = (SAVE_WHOLE, SAVE_FILTERED),
    timeout: float = CRASH_SECONDS,
) -> tuple[Path, Path]:
    """Panic the guest, run `commands` in its crash kernel and wait for the machine to end.

    The commands are the shell's, run in `guest.work` with /proc/vmcore there. Returns where the
    default ones put the memory as a whole and filtered. Raises LabError if no crash kernel can be
    loaded, GuestDied with the console's last lines if it did not come to the end of `commands` or
    one of them failed, GuestHung if it takes longer than `timeout` seconds.
    """
    if shutil.which("kexec") is None or shutil.which("makedumpfile") is None:
        raise LabError(
            "kexec or makedumpfile is missing",
            "install them with: sudo apt-get install kexec-tools makedumpfile",
        )
    load_crash_kernel(guest, commands)
    guest.start("sync; echo c >/proc/sysrq-trigger")
    guest.wait_for_end(timeout)
    if not (guest.work / "crash.done").exists():
        raise GuestDied(
            f"the crash kernel of the guest ({guest.config}) did not save its memory",
            "look at its console",
            f"{guest.console()}\n--- its commands ---\n{text_of(guest.work / 'crash.log')[-2000:]}",
        )
    return guest.work / "vmcore", guest.work / "vmcore.lzo"


def load_crash_kernel(guest: Guest, commands: Sequence[str]) -> None:
    """Load a crash kernel that will run `commands`. Raises LabError, CommandFailed."""
    if guest.read_file("/sys/kernel/kexec_crash_size").strip() == b"0":
        raise LabError(
            f"the guest ({guest.config}) has no memory for a crash kernel",
            f"boot it with append={CRASH_KERNEL!r}",
        )
    work = shlex.quote(str(guest.work))
    steps = "\n".join(f"({command}) >>crash.log 2>&1 || failed=1" for command in commands)
    script = guest.work / "crash-init"
    script.write_text(_INIT.replace("@WORK@", work).replace("@COMMANDS@", steps), encoding="utf-8")
    script.chmod(0o755)
    load = [
        "kexec",
        "-s",
        "-p",
        str(guest.kernel.vmlinuz),
        f"--command-line=init={script} {_ARGUMENTS}",
    ]
    if needs_initrd(guest.kernel):
        image = guest.work / "crash-initrd"
        image.write_bytes(initrd(guest.kernel, script))
        load.append(f"--initrd={image}")
    guest.run(load)
