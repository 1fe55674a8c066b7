"""Gives a guest's QEMU commands, over its machine protocol (QMP).

https://www.qemu.org/docs/master/interop/qmp-spec.html
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.guest import Guest

QMP_SECONDS = 300.0


def qmp(guest: Guest, command: str, **arguments: Any) -> Any:
    """Run one command to its end and return its answer. Raises LabError.

    QEMU talks to one program at a time, so the connection is closed again at once.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(QMP_SECONDS)
            connection.connect(str(guest.folder.qmp))
            with connection.makefile("rwb") as lines:
                lines.readline()  # the greeting
                _ask(lines, "qmp_capabilities", {})
                return _ask(lines, command, arguments)
    except (OSError, ValueError) as error:
        raise LabError(
            f"QEMU did not {command}: {error}", "look at the guest's qemu.log"
        ) from error


def dump_memory(guest: Guest, path: Path, form: str = "elf") -> None:
    """Let QEMU save the guest's memory: "elf", "kdump-zlib", "kdump-lzo". Raises LabError."""
    qmp(guest, "dump-guest-memory", paging=False, protocol=f"file:{path}", format=form)


def _ask(lines: Any, command: str, arguments: dict[str, Any]) -> Any:
    lines.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    lines.flush()
    while True:
        answer = json.loads(lines.readline())
        if "return" in answer:
            return answer["return"]
        if "error" in answer:  # events of the guest come in between
            raise ValueError(answer["error"]["desc"])
