"""The host's end of the command channel: lines of JSON over the guest's second serial port."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class ChannelClosed(Exception):  # noqa: N818 - says what happened
    """The other end is gone: the machine is off."""


class Channel:
    """A listening socket that QEMU connects to, and what came over it that nobody asked for yet."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._peer: socket.socket | None = None
        self._buffer = b""
        self._answers: list[dict[str, Any]] = []

    def close(self) -> None:
        """Close both sockets; more than once is fine."""
        self._listener.close()
        if self._peer:
            self._peer.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send one line. Raises ChannelClosed."""
        if self._peer is None:
            raise ChannelClosed
        try:
            self._peer.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise ChannelClosed from None

    def receive(
        self, wanted: Callable[[dict[str, Any]], bool], deadline: float
    ) -> dict[str, Any] | None:
        """Return the first message that is wanted, or None at the deadline (time.monotonic()).

        Others are kept for whoever wants them. Raises ChannelClosed.
        """
        while True:
            for number, message in enumerate(self._answers):
                if wanted(message):
                    return self._answers.pop(number)
            readable = self._peer or self._listener
            remaining = deadline - time.monotonic()
            if not select.select([readable], [], [], max(0.0, remaining))[0]:
                return None
            if self._peer is None:
                self._peer, _ = self._listener.accept()
            else:
                self._read(self._peer)

    def _read(self, peer: socket.socket) -> None:
        try:
            data = peer.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            raise ChannelClosed
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        # Before the guest's agent has the port, firmware or kernel may say something there.
        self._answers += [json.loads(line) for line in lines if line.startswith(b"{")]
