"""Kernel modules, and the initramfs for kernels that have virtiofs only as a module."""

from __future__ import annotations

import lzma
import re
import shutil
from pathlib import Path

from lab.errors import LabError
from lab.kernels import Kernel

# Virtio's PCI transport, and the file system that becomes the root.
ROOT_MODULES = ("virtio_pci", "virtiofs")

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /root
/bin/busybox mount -t proc proc /proc
for module in /modules/*; do /bin/busybox insmod "$module"; done
/bin/busybox mount -t virtiofs ROOTFS /root
/bin/busybox umount /proc
exec /bin/busybox switch_root /root @INIT@
"""


def needs_initrd(kernel: Kernel) -> bool:
    """Tell whether the root file system is a module: by its configuration, else by its modules.

    Where neither is carried any more, only the kernel can have it.
    """
    if kernel.config:
        text = kernel.config.read_text(encoding="utf-8", errors="replace")
        return not ("\nCONFIG_VIRTIO_FS=y" in text and "\nCONFIG_VIRTIO_PCI=y" in text)
    return kernel.modules is not None and "virtiofs" in _modules(kernel)


def initrd(kernel: Kernel, init: Path) -> bytes:
    """Return an initramfs (cpio, newc) that mounts ROOTFS and goes on with `init` from there.

    Raises LabError if there is no static busybox, or a module is missing.
    """
    busybox = find_busybox()
    files = {
        "init": (_INIT.replace("@INIT@", str(init)).encode(), 0o100755),
        "bin/busybox": (busybox.read_bytes(), 0o100755),
    }
    for number, (name, content) in enumerate(modules(kernel, ROOT_MODULES)):
        files[f"modules/{number:02}-{name}.ko"] = (content, 0o100644)
    folders = {str(parent): (b"", 0o040755) for name in files for parent in Path(name).parents}
    folders.pop(".")
    # The kernel opens it as the console of /init.
    folders["dev"] = (b"", 0o040755)
    entries = [
        *(_cpio(name, *entry) for name, entry in sorted(folders.items())),
        _cpio("dev/console", b"", 0o020600, (5, 1)),
        *(_cpio(name, *entry) for name, entry in files.items()),
        _cpio("TRAILER!!!", b"", 0),
    ]
    return b"".join(entries)


def find_busybox() -> Path:
    """Return the statically linked busybox. Raises LabError if there is none."""
    found = shutil.which("busybox", path="/bin:/usr/bin")
    # A dynamic one names its loader, which the initramfs does not hold.
    if found is None or b"/ld-linux" in Path(found).read_bytes():
        raise LabError(
            "the static busybox is missing, which this kernel's initramfs and modules need",
            "install it with: sudo apt-get install busybox-static",
        )
    return Path(found)


def modules(kernel: Kernel, wanted: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """Return (name, uncompressed content) of modules and what they depend on, in order of loading.

    Dependencies are read from the modules themselves (`depends=` in .modinfo). A module that is
    built into the kernel is left out. Raises LabError if one is not there at all.
    """
    if not wanted:
        return []
    there = _modules(kernel)
    built_in = _built_in(kernel)
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        name = name.replace("-", "_")
        if name in order or name in built_in:
            return
        if name not in there:
            raise LabError(
                f"kernel {kernel.release} has no module {name} here",
                "Debian carries no modules of superseded kernels: use another one",
            )
        content = _uncompressed(there[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for needed in (depends[1].decode() if depends else "").split(","):
            if needed:
                add(needed)
        order[name] = content

    for name in wanted:
        add(name)
    return list(order.items())


def _modules(kernel: Kernel) -> dict[str, Path]:
    if kernel.modules is None:
        return {}
    paths = (*kernel.modules.rglob("*.ko"), *kernel.modules.rglob("*.ko.xz"))
    return {path.name.split(".ko", 1)[0].replace("-", "_"): path for path in paths}


def _built_in(kernel: Kernel) -> set[str]:
    path = kernel.folder / "lib/modules" / kernel.release / "modules.builtin"
    lines = path.read_text(encoding="utf-8").split() if path.exists() else []
    return {Path(line).name.removesuffix(".ko").replace("-", "_") for line in lines}


def _uncompressed(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def _cpio(name: str, content: bytes, mode: int, device: tuple[int, int] = (0, 0)) -> bytes:
    # The kernel's Documentation/driver-api/early-userspace/buffer-format.rst
    raw = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(raw), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    padded_name = header + raw + b"\0" * (-(len(header) + len(raw)) % 4)
    return padded_name + content + b"\0" * (-len(content) % 4)
