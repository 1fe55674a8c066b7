"""What is said where this host does not let its kernel be counted: in one place, for all who ask.

`hvoinspect doctor` foretells what `hvoinspect hotpath` will say, so both say it in these words.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hvoinspect.errors import HvoinspectError

_INSTALL = "install it with: sudo apt-get install python3-bpfcc"


def not_root() -> HvoinspectError:
    """Return what to say to a user who may not count."""
    return HvoinspectError("only root may count in the kernel", "run it again with sudo")


def no_kprobes() -> HvoinspectError:
    """Return what to say of a kernel that has no probes."""
    return HvoinspectError(
        "this kernel has no kprobes (CONFIG_KPROBE_EVENTS is off, or sysfs is not mounted)",
        "use --mode sample, or a distribution's kernel",
    )


def kprobes_off() -> HvoinspectError:
    """Return what to say where probes do nothing."""
    return HvoinspectError(
        "kprobes are switched off",
        "switch them on with: echo 1 > /sys/kernel/debug/kprobes/enabled",
    )


def no_events() -> HvoinspectError:
    """Return what to say where there is no kprobe_events."""
    return HvoinspectError(
        "this kernel has no kprobe_events: no kprobes, or tracefs is not mounted",
        "mount it with: mount -t tracefs tracefs /sys/kernel/tracing",
    )


def closed_events(path: Path, error: OSError) -> HvoinspectError:
    """Return what to say of what opening kprobe_events raised."""
    return HvoinspectError(
        f"{path} cannot be written: {error.strerror}",
        "run it as root, on a kernel that is not locked down",
    )


def no_bcc(error: object, *, elsewhere: bool) -> HvoinspectError:
    """Return what to say where Python finds no bcc; `elsewhere`: the system's Python has it."""
    if elsewhere:
        return HvoinspectError(
            f"bcc is installed for the system's Python, and this is {sys.executable}: {error}",
            "run scripts/hvoinspect, or a virtual environment made by /usr/bin/python3 "
            "with --system-site-packages; --backend tracefs needs no bcc",
        )
    return HvoinspectError(
        "bcc, which compiles the counting program, is not installed",
        f"{_INSTALL}; --backend tracefs needs no bcc",
    )


def broken_bcc(error: Exception) -> HvoinspectError:
    """Return what to say of a bcc that cannot be imported."""
    return HvoinspectError(f"bcc cannot be loaded: {error}", _INSTALL)


def other_bcc(place: object) -> HvoinspectError:
    """Return what to say of the package that PyPI has under that name, or its like."""
    return HvoinspectError(
        f"{place} is another package of that name, as PyPI's is",
        f"remove it with: pip uninstall bcc; then {_INSTALL}",
    )


def no_headers(release: str, given: str | None) -> HvoinspectError:
    """Return what to say where bcc would find no headers; `given` is BCC_KERNEL_SOURCE."""
    return HvoinspectError(
        f"bcc wants the headers of kernel {release}, and there are none"
        + (f" in {given} (BCC_KERNEL_SOURCE)" if given else ""),
        f"install them with: sudo apt-get install linux-headers-{release}; "
        "--backend tracefs needs none",
    )


def no_sites(build_id: str | None) -> HvoinspectError:
    """Return what to say where there is no sites file."""
    return HvoinspectError(
        f"there is no sites file for this kernel (build-id {build_id or 'unknown'})",
        "make one with `hvoinspect hotpath sites -o FILE` and give it with --sites",
    )
