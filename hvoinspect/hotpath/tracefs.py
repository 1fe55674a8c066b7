"""Counts by tracefs alone, where there is no bcc, no compiler or no kernel headers.

Each probe is a line in kprobe_events, and kprobe_profile shows its hits
(Documentation/trace/kprobetrace.rst). What is written there outlives this process, so `guardian.py`
watches it and cleans up. Events are enabled in an instance of their own, with tracing off: hits
are counted, nothing is written to the buffers of other users.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath import guardian
from hvoinspect.hotpath.backend import Cost
from hvoinspect.hotpath.denied import closed_events, no_events
from hvoinspect.hotpath.files import tracing_folders

CLEAN_SECONDS = 300
"""So long the guardian may take; without emulation it takes no more than seconds."""


class TracefsCounter:
    """Counts by kprobe_events. Raises HvoinspectError if there are none, or not for this user."""

    name = "tracefs"

    def __init__(self, root: Path = Path("/")) -> None:
        self._folder = tracing_folder(root)
        self._group = f"{guardian.PREFIX}{os.getpid()}"
        guardian.sweep(self._folder)
        self._names: dict[int, str] = {}
        self._guardian: subprocess.Popen[bytes] | None = None
        self._instance = self._folder / "instances" / self._group

    def attach(self, addresses: Sequence[int]) -> Mapping[int, str]:
        """See `backend.Counter`."""
        # Before anything is written, and in a session of its own: a signal to this process's group
        # does not reach it.
        self._guardian = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", guardian.__file__, str(self._folder), self._group],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        try:
            return self._attach(addresses)
        except OSError as error:
            self.close()
            raise HvoinspectError(
                f"the kernel takes no probes: {error.strerror}",
                "it may be locked down; --mode sample needs no probes",
            ) from error
        except BaseException:
            self.close()
            raise

    def _attach(self, addresses: Sequence[int]) -> Mapping[int, str]:
        events = self._folder / "kprobe_events"
        refused = {}
        for number, address in enumerate(addresses):
            name = f"{self._group}_{number}"
            try:
                guardian.write(events, f"p:{self._group}/{name} {address:#x}\n")
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EACCES):
                    raise
                refused[address] = f"{error.strerror} ({errno.errorcode.get(error.errno or 0)})"
            else:
                self._names[address] = name
        if self._names:
            self._instance.mkdir()
            with contextlib.suppress(OSError):
                guardian.write(self._instance / "buffer_size_kb", "4")
            guardian.write(self._instance / "tracing_on", "0")
            guardian.write(self._instance / "events" / self._group / "enable", "1")
        return refused

    def read(self) -> Mapping[int, int]:
        """See `backend.Counter`."""
        profile = self._profile()
        return {address: profile.get(name, (0, 0))[0] for address, name in self._names.items()}

    def detach(self, addresses: Iterable[int]) -> None:
        """See `backend.Counter`."""
        for address in addresses:
            event = self._instance / "events" / self._group / self._names[address]
            guardian.write(event / "enable", "0")

    def cost(self) -> Cost | None:
        """See `backend.Counter`: the kernel times BPF programs only."""
        return None

    def missed(self) -> int:
        """See `backend.Counter`."""
        profile = self._profile()
        return sum(profile.get(name, (0, 0))[1] for name in self._names.values())

    def close(self) -> None:
        """See `backend.Counter`. The guardian does it, as it would if this process had died."""
        watching, self._guardian = self._guardian, None
        if watching is None:
            return
        assert watching.stdin is not None  # noqa: S101 - for the type checker
        watching.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            watching.wait(CLEAN_SECONDS)

    def _profile(self) -> dict[str, tuple[int, int]]:
        return parse_profile((self._folder / "kprobe_profile").read_text(encoding="ascii"))


def parse_profile(text: str) -> dict[str, tuple[int, int]]:
    """Read kprobe_profile: hits and missed hits of each event, by its name without the group."""
    found = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
            found[parts[0]] = (int(parts[1]), int(parts[2]))
    return found


def tracing_folder(root: Path) -> Path:
    """Return where tracefs is. Raises HvoinspectError if it has no kprobe_events for this user."""
    for folder in tracing_folders(root):
        events = folder / "kprobe_events"
        try:
            os.close(os.open(events, os.O_WRONLY | os.O_APPEND))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise closed_events(events, error) from error
        return folder
    raise no_events()
