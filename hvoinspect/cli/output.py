"""Where results go: to standard output, or into a file that is there whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from hvoinspect.errors import ExitStatus, HvoinspectError

if TYPE_CHECKING:
    from rich.console import Console

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def print_text(text: str) -> None:
    """Print `text` as it is. Raises HvoinspectError if it cannot be written, or BrokenPipeError."""
    stdout = _stdout()
    try:
        stdout.write(text)
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritten("standard output", error.strerror) from error


def print_page(show: Callable[[Console], None], width: int | None = None) -> None:
    """Print what a person reads, `width` columns wide or as wide as the terminal.

    `show` draws it. Without escape sequences where NO_COLOR asks for that or the output is no
    terminal. Raises what `print_text` does.
    """
    from rich.console import Console  # noqa: PLC0415

    page = _Page(_stdout())
    # NO_COLOR alone leaves rich bold and dim.
    plain = os.environ.get("NO_COLOR")
    show(Console(file=page, width=width, color_system=None if plain else "auto", emoji=False))
    print_text(page.getvalue())


def emit(
    to_json: Callable[[], str],
    show: Callable[[Console], None],
    *,
    output: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    width: int | None = None,
) -> None:
    """Do with a result what the output options ask for. Raises what the functions here do."""
    if output is not None:
        write_output(output, to_json(), force=force)
    elif as_json:
        print_text(to_json())
    elif not quiet:
        print_page(show, width)


class _Page(io.StringIO):
    """Takes what rich prints in place of `stdout`, whose looks it has.

    rich ends the program where writing fails, with the exit status of findings.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__()
        self._stdout = stdout

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What rich may show."""
        return self._stdout.encoding

    def isatty(self) -> bool:
        """Whether rich may colour it."""
        return self._stdout.isatty()


def _stdout() -> TextIO:
    # Python has none where it was started without; mypy does not know.
    stdout: TextIO | None = sys.stdout
    if stdout is None:
        raise _unwritten("standard output", "it is closed")
    return stdout


def check_output(path: Path | None, *, force: bool) -> None:
    """Raise HvoinspectError if `path` cannot be written: before the work, not after it."""
    if path is not None:
        destination(path, force=force)


def write_output(path: Path, text: str, *, force: bool, mode: int | None = None) -> None:
    """Write `text` to `path`, whole or not at all. Raises HvoinspectError.

    Whatever exists is refused without `force`. With it, a file is never truncated: the new one
    takes its place and its permissions when it is complete, behind a symbolic link if it was named
    by one. What can only be written to, a pipe or a terminal, is written to. `mode`: permissions
    that a file gets whatever was there before, and whatever the umask is.
    """
    _write(path, lambda file: file.write(text.encode()), force=force, mode=mode)


def write_copy(path: Path, source: Path, *, force: bool) -> None:
    """Write what is in the file `source` to `path`, as `write_output` does. Raises what it does."""

    def write(file: BinaryIO) -> None:
        with source.open("rb") as content:
            shutil.copyfileobj(content, file)

    _write(path, write, force=force)


def _write(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    force: bool,
    mode: int | None = None,
) -> None:
    goal = destination(path, force=force)
    try:
        if goal.exists() and not goal.is_file():
            with goal.open("wb") as file:
                write(file)
        else:
            _replace(goal, write, force=force, mode=mode)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise _unwritten(str(path), error.strerror) from error


def destination(path: Path, *, force: bool, streams: bool = True) -> Path:
    """Return what is to be written to, links followed.

    Raises HvoinspectError if something is there and `force` does not allow to replace it, if it is
    no file, or, unless `streams` is False, a pipe or a terminal, or if its folder takes no files.
    """
    try:
        if not force and os.path.lexists(path):
            raise _exists(path)
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = None
        if streams and mode is not None and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            return path  # not resolved: /dev/stdout leads to what has no path
        if mode is not None and not stat.S_ISREG(mode):
            raise _unwritten(str(path), "it is no file")
        goal = path.resolve()
        if not goal.parent.is_dir():
            raise _unwritten(str(path), f"there is no folder {goal.parent}")
        if not os.access(goal.parent, os.W_OK | os.X_OK, effective_ids=True):
            raise _unwritten(str(path), f"this user may not write to the folder {goal.parent}")
    except (OSError, RuntimeError) as error:
        raise _unwritten(str(path), getattr(error, "strerror", None) or str(error)) from error
    return goal


def _replace(
    goal: Path, write: Callable[[BinaryIO], object], *, force: bool, mode: int | None
) -> None:
    """Let a new file with what `write` writes appear at `goal`, over an old one only if `force`."""
    temporary = goal.with_name(f".hvoinspect-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if not force:
            _appear(temporary, goal)
            return
        if mode is None and goal.exists():
            shutil.copymode(goal, temporary)
        temporary.replace(goal)
    finally:
        temporary.unlink(missing_ok=True)


def _appear(temporary: Path, goal: Path) -> None:
    """Give `temporary` the name `goal`. Raises FileExistsError if something has it by now."""
    try:
        goal.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # vfat and others have no links; there the name is taken first, by an empty file.
        goal.touch(exist_ok=False)
        temporary.replace(goal)


def _exists(path: Path) -> HvoinspectError:
    return HvoinspectError(
        f"{path} exists already", "give another name, or -f to overwrite it", ExitStatus.USAGE
    )


def _unwritten(what: str, why: str | None) -> HvoinspectError:
    return HvoinspectError(
        f"{what} cannot be written: {why}",
        "give a path with room that this user may write",
        ExitStatus.USAGE,
    )
