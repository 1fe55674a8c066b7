"""What is said where the running kernel does not let itself be read: in one place, for all who ask.

`hvoinspect doctor` foretells what the other commands will say, so they must say it in its words.
"""

from __future__ import annotations

from pathlib import Path

from hvoinspect.errors import HvoinspectError


class NoKcoreError(HvoinspectError):
    """The running kernel's memory cannot be read; its own view may still be had."""


def no_kcore(error: Exception, *, root: bool) -> NoKcoreError:
    """Return what to say of what opening /proc/kcore raised; `root`: for root."""
    if isinstance(error, PermissionError):
        if not root:
            return NoKcoreError(
                "only root may read /proc/kcore, the running kernel's memory",
                "run it again with sudo",
            )
        return NoKcoreError(
            "the kernel does not let even root read /proc/kcore",
            "it is locked down for confidentiality, or this container lacks CAP_SYS_RAWIO: "
            "scan from the host, or inspect a crash dump",
        )
    if isinstance(error, FileNotFoundError):
        return NoKcoreError(
            "there is no /proc/kcore here",
            "run it on the host and not in a container, or on a kernel with CONFIG_PROC_KCORE",
        )
    return NoKcoreError(
        f"/proc/kcore cannot be used: {reason(error)}",
        "run it on the host and not in a container",
    )


def no_kpageflags(path: Path, error: OSError) -> HvoinspectError:
    """Return what to say of what reading /proc/kpageflags, which is at `path`, raised."""
    return HvoinspectError(
        f"{path} cannot be read either: {error.strerror}",
        "run it as root on the host, or inspect a crash dump with -c",
    )


def not_x86_64(arch: str) -> HvoinspectError:
    """Return what to say of a kernel of another architecture."""
    return HvoinspectError(
        f"the kernel's architecture is {arch}, and only x86_64 page tables can be walked",
        "inspect it on an x86_64 machine; riscv64 and loongarch64 are not supported yet",
    )


def no_kallsyms(path: Path, error: OSError | None) -> HvoinspectError:
    """Return what to say of a /proc/kallsyms, at `path`, that cannot be read, or has no symbols."""
    return HvoinspectError(
        f"{path} cannot be read: {error.strerror}" if error else f"{path} has no symbols",
        "use a kernel with CONFIG_KALLSYMS",
    )


def no_addresses(path: Path) -> HvoinspectError:
    """Return what to say of a /proc/kallsyms, at `path`, whose addresses are hidden."""
    return HvoinspectError(
        f"{path} shows no addresses",
        "run it as root, with the sysctl kernel.kptr_restrict at 1 or 0",
    )


def reason(error: Exception) -> str:
    """Return what went wrong, without the path: the sentence around it has it."""
    strerror: str | None = getattr(error, "strerror", None)
    return strerror or str(error) or type(error).__name__
