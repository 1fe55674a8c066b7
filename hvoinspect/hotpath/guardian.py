"""Takes a recorder's probes out of tracefs when the recorder ends, however it ends.

Run as a program, with tracefs and a group of events: it waits until its standard input ends, which
happens when the recorder closes it or is gone, and then leaves nothing of the group. It stands on
Python's own library alone, so that it starts fast and cannot fail for want of another.
"""

import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path

PREFIX = "hvoinspect_"
"""Of the groups of a recorder's events; its process's number follows."""
TRIES, PAUSE_SECONDS = 50, 0.1


def write(path: Path, text: str) -> None:
    """Write to a file of tracefs, where opening kprobe_events to truncate would remove all."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(handle, text.encode("ascii"))
    finally:
        os.close(handle)


def clean(tracing: Path, group: str) -> bool:
    """Remove a group's instance and events; return whether nothing is left of it."""
    instance = tracing / "instances" / group
    for folder in (instance, tracing):
        with contextlib.suppress(OSError):
            write(folder / "events" / group / "enable", "0")
    with contextlib.suppress(OSError):
        instance.rmdir()
    left = _events(tracing, group)
    for event in left:
        with contextlib.suppress(OSError):
            write(tracing / "kprobe_events", f"-:{group}/{event}\n")
    return not instance.exists() and not _events(tracing, group)


def sweep(tracing: Path) -> None:
    """Remove what recorders left whose guardians were killed as well."""
    try:
        text = (tracing / "kprobe_events").read_text(encoding="ascii", errors="replace")
        instances = [path.name for path in (tracing / "instances").iterdir()]
    except OSError:
        return
    groups = set(re.findall(rf"^p:({PREFIX}\d+)/", text, re.MULTILINE))
    groups.update(name for name in instances if re.fullmatch(rf"{PREFIX}\d+", name))
    for group in groups:
        if not Path("/proc", group.removeprefix(PREFIX)).exists():
            clean(tracing, group)


def _events(tracing: Path, group: str) -> list[str]:
    try:
        text = (tracing / "kprobe_events").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return re.findall(rf"^p:{re.escape(group)}/(\S+)", text, re.MULTILINE)


def main() -> None:
    """Wait for the end of standard input, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    tracing, group = Path(sys.argv[1]), sys.argv[2]
    while os.read(0, 1 << 12):
        pass
    # Something else may have a file of an event open for a moment.
    for _ in range(TRIES):
        if clean(tracing, group):
            return
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main()
