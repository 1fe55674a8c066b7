"""The lab's one error class, and the kinds of it that a test may want to tell apart."""

from __future__ import annotations

EXIT_CANNOT_RUN = 3


class LabError(Exception):
    """Something the user can be told in one line, and what to do about it in another.

    Raised wherever the lab cannot go on; caught once, in `lab.cli.main`, which prints both lines
    to stderr and exits with status 3.
    """

    def __init__(self, why: str, remedy: str) -> None:
        self.why = one_line(why)
        self.remedy = one_line(remedy)
        super().__init__(f"{self.why}. {self.remedy}")


class GuestError(LabError):
    """A guest failed that could have worked; `console` holds the last lines of its console."""

    def __init__(self, why: str, remedy: str, console: str = "") -> None:
        super().__init__(why, remedy)
        self.console = console

    def __str__(self) -> str:
        """Return both lines, and below them what the guest's console said last."""
        text = super().__str__()
        return (
            f"{text}\n--- end of the guest's console ---\n{self.console}" if self.console else text
        )


class GuestDied(GuestError):  # noqa: N818 - says what happened, as `BrokenPipeError` does not
    """The guest panicked, was shut down, or QEMU ended."""


class GuestHung(GuestError):  # noqa: N818
    """The guest does not answer any more, or did not finish booting in time."""


class CommandTimeout(GuestError):  # noqa: N818
    """A command took too long and was killed; the guest is well."""


class CommandFailed(GuestError):  # noqa: N818
    """A command ended with another exit status than 0 and `check` was asked for."""


def one_line(text: str) -> str:
    """Return `text` as one printable line; output of other programs may be quoted in it."""
    flat = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat)
