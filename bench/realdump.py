"""A real kernel's memory, as its crash kernel saved it, in the forms that are measured.

Made once by the lab, in two minutes, and kept.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab.crash import CRASH_KERNEL, SAVE_WHOLE, crash
from lab.errors import LabError
from lab.guest import boot
from lab.machine import Config

CONFIG = Config(
    "7.3",
    memory="8G",
    hvo=True,
    append=f"hugepagesz=1G hugepages=2 hugepagesz=2M hugepages=1024 {CRASH_KERNEL}",
)
BOOT_SECONDS = 600.0
FORMS = {"zlib": "-c", "lzo": "-l", "raw": ""}
"""kdump files, and the option of makedumpfile that packs their pages so."""


def real_dump(folder: Path, form: str, say: Callable[[str], None]) -> Path:
    """Return the dump as "elf", or in one of FORMS, from `folder` or made now. Raises LabError."""
    path = folder / f"{CONFIG.kernel}-{CONFIG.memory}.{form}"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder, prefix="dump-") as made:
            new = Path(made, "new")
            if form == "elf":
                say(f"letting a guest of {CONFIG.memory} crash, for its memory")
                _crash(new)
            else:
                whole = real_dump(folder, "elf", say)
                say(f"packing its memory: {form}")
                _makedumpfile(["-d", "31", *filter(None, [FORMS[form]])], whole, new)
            new.rename(path)  # so that what has this name is whole
    return path


def _crash(path: Path) -> None:
    with boot(CONFIG, timeout=BOOT_SECONDS) as guest:
        whole, _ = crash(guest, (SAVE_WHOLE,))
        # The work folder goes with the guest; sparse, as it may be on another file system.
        subprocess.run(["cp", "--sparse=always", whole, path], check=True)


def _makedumpfile(options: list[str], whole: Path, path: Path) -> None:
    if shutil.which("makedumpfile") is None:
        raise LabError(
            "makedumpfile is missing", "install it with: sudo apt-get install makedumpfile"
        )
    done = subprocess.run(
        ["makedumpfile", *options, whole, path], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(
            f"makedumpfile ended with status {done.returncode}", f"it said: {done.stderr[-300:]}"
        )
