"""Asks QEMU about a guest, over its machine protocol (QMP).

https://www.qemu.org/docs/master/interop/qmp-spec.html: lines of JSON, a greeting first.
"""

from __future__ import annotations

import json
import re
import socket
from typing import Any

from hvoinspect.errors import HvoinspectError

PATIENCE_SECONDS = 5.0
MAX_LINES = 1000
"""Lines that QEMU may say before its answer: events of the guest come in between."""


def is_running(address: str) -> bool:
    """Tell whether the guest runs, by `query-status`; False if it is paused or has panicked.

    `address` is a socket's path or host:port. Raises HvoinspectError if no QEMU answers there. A
    QMP socket talks to one program at a time and lets others wait; so this also finds out whether
    another one has it, before drgn would wait for ever.
    """
    try:
        with _connect(address) as connection, connection.makefile("rwb") as lines:
            greeting = json.loads(lines.readline() or "null")
            if not isinstance(greeting, dict) or "QMP" not in greeting:
                raise _no_qemu(address, "what answers there is not QEMU")
            _ask(lines, "qmp_capabilities")
            return bool(_ask(lines, "query-status")["running"])
    except TimeoutError as error:
        raise HvoinspectError(
            f"QEMU does not answer at {address}",
            "it talks to one program at a time: end the other, or add a second -qmp to QEMU",
        ) from error
    except OSError as error:
        raise _no_qemu(address, error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _no_qemu(address, f"it answers what QEMU does not: {error}") from error


def _connect(address: str) -> socket.socket:
    # As drgn reads an address: a port at the end means TCP, unless it begins as a path does.
    tcp = re.fullmatch(r"([^/.].*)?:([0-9]{1,5})", address)
    if tcp and 1 <= int(tcp[2]) <= 65535:
        return socket.create_connection((tcp[1] or "localhost", int(tcp[2])), PATIENCE_SECONDS)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_SECONDS)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _ask(lines: Any, command: str) -> dict[str, Any]:
    lines.write(json.dumps({"execute": command}).encode() + b"\n")
    lines.flush()
    for _ in range(MAX_LINES):
        answer: dict[str, Any] = json.loads(lines.readline())
        if "return" in answer:
            content: dict[str, Any] = answer["return"]
            return content
        if "error" in answer:
            raise ValueError(answer["error"])
    raise ValueError("events only")


def _no_qemu(address: str, why: str) -> HvoinspectError:
    return HvoinspectError(
        f"no QEMU can be asked at {address}: {why}",
        "give the socket of -qmp unix:PATH,server=on,wait=off",
    )
