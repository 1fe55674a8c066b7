"""The project's one error class, and the exit statuses of its commands."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command's exit status says; part of the contract of the command line."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    CANNOT_INSPECT = 3
    PARTIAL = 4


class HvoinspectError(Exception):
    """Something the user can be told in one line, and what to do about it in another.

    Raised wherever going on would mean guessing; caught once, in `hvoinspect.cli.main`, which
    prints `why` and `remedy` to stderr and exits with `status`. Neither line holds a newline,
    a control character or an unprintable byte, whatever a kernel or a file put into it.
    """

    def __init__(
        self, why: str, remedy: str, status: ExitStatus = ExitStatus.CANNOT_INSPECT
    ) -> None:
        self.why = printable(why)
        self.remedy = printable(remedy)
        self.status = status
        super().__init__(f"{self.why}. {self.remedy}")


def printable(text: str) -> str:
    """Return `text` as one line that is safe to print: what could steer a terminal is escaped.

    Names, versions and paths come from kernels, dumps and files, so they are hostile until shown.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
