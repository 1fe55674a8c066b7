"""What a guest needs on this machine while it runs: a folder of files, and two processes."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from lab.errors import LabError
from lab.initrd import initrd, modules, needs_initrd
from lab.kernels import Kernel
from lab.machine import Config, Folder


def prepare(kernel: Kernel, config: Config, folder: Folder, writable: Sequence[Path]) -> None:
    """Fill a session's folder with what the guest needs to start. Raises LabError.

    The guest may write below `writable` and the folder itself. It sees the project and its
    environment, wherever they are.
    """
    here = Path(__file__).parent
    shutil.copyfile(here / "init.sh", folder.init)
    folder.init.chmod(0o755)
    shutil.copyfile(here / "agent.py", folder.path / "agent.py")
    (folder.path / "work").mkdir()
    (folder.path / "modules").mkdir()
    # Users in the guest other than root may get at the work folder.
    folder.path.chmod(0o755)
    for number, (name, content) in enumerate(modules(kernel, config.modules)):
        (folder.path / "modules" / f"{number:02}-{name}.ko").write_bytes(content)
    paths = [path.resolve() for path in writable]
    if Path("/") in paths:
        raise LabError("the guest may not write to all of /", "run this in another folder")
    rest = (Path(__file__).resolve().parents[1], Path(sys.prefix).resolve())
    seen = [path for path in rest if _covered(path) and not _inside(path, paths)]
    lines = [*(f"ro {path}" for path in seen), *(f"rw {path}" for path in [*paths, folder.path])]
    if any("\n" in line for line in lines):
        raise LabError("a folder's name holds a newline", "run this in another folder")
    (folder.path / "kept").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if needs_initrd(kernel):
        folder.initrd.write_bytes(initrd(kernel, folder.init))


def _covered(path: Path) -> bool:
    """Whether the guest has files of its own where `path` is on this machine."""
    return _inside(path, [Path("/tmp"), Path("/var/tmp")])  # noqa: S108


def _inside(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


@contextlib.contextmanager
def process(
    command: list[str], *, stdin: int | None, output: IO[bytes] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program as long as the context lasts. Raises LabError if it is missing."""
    try:
        process = subprocess.Popen(command, stdin=stdin, stdout=output, stderr=output)
    except FileNotFoundError:
        raise LabError(
            f"{command[0]} is missing", "install it with: sudo apt-get install util-linux"
        ) from None
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_socket(path: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until virtiofsd listens. Raises LabError if it does not."""
    deadline = time.monotonic() + 20
    while not path.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise LabError(
                f"virtiofsd did not start: {text_of(log)[-300:] or 'it says nothing'}",
                "the lab needs root with the right to chroot",
            )
        time.sleep(0.01)


def text_of(path: Path) -> str:
    """Return a file's text, empty if there is no such file."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
