"""Asking QEMU whether a guest runs, against made-up QEMUs; real ones are in tests/lab."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvoinspect.errors import HvoinspectError
from hvoinspect.target import qmp

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
DONE = b'{"return": {}}\r\n'
EVENT = b'{"event": "RESUME", "timestamp": {}}\r\n'


@contextlib.contextmanager
def qemu(listener: socket.socket, *answers: bytes) -> Iterator[None]:
    """Say each answer in turn: the first at once, the others after a line from the client."""
    listener.listen(1)

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as lines:
                for answer in answers:
                    lines.write(answer)
                    lines.flush()
                    lines.readline()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.close()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "qmp.sock")


@contextlib.contextmanager
def unix(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        yield listener


@pytest.mark.parametrize("running", [True, False])
def test_it_tells_whether_the_guest_runs(path: str, running: bool) -> None:
    status = b'{"return": {"status": "x", "running": %s}}\n' % str(running).lower().encode()
    with unix(path) as listener, qemu(listener, GREETING, EVENT + DONE, EVENT + status):
        assert qmp.is_running(path) is running


def test_it_asks_over_tcp_too() -> None:
    with socket.create_server(("localhost", 0)) as listener:
        port = listener.getsockname()[1]
        with qemu(listener, GREETING, DONE, b'{"return": {"running": true}}\n'):
            assert qmp.is_running(f"localhost:{port}")


def test_a_qemu_that_talks_to_another_says_so(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "PATIENCE_SECONDS", 0.1)
    with unix(path) as listener:
        listener.listen(1)  # and nobody accepts
        with pytest.raises(HvoinspectError) as caught:
            qmp.is_running(path)
    assert "does not answer" in caught.value.why
    assert "one program at a time" in caught.value.remedy


@pytest.mark.parametrize(
    "answers",
    [
        (b"HTTP/1.1 400 Bad Request\r\n",),
        (b"[]\n",),
        (b"",),
        (GREETING, b'{"error": {"class": "CommandNotFound"}}\n'),
        (GREETING, DONE, b'{"return": {}}\n'),
        (GREETING, DONE, b'{"return": []}\n'),
        (GREETING, DONE, b'"return"\n'),
        (GREETING, DONE, EVENT * 2 * qmp.MAX_LINES),
    ],
)
def test_what_is_no_qemu_says_so(path: str, answers: tuple[bytes, ...]) -> None:
    with unix(path) as listener, qemu(listener, *answers), pytest.raises(HvoinspectError) as caught:
        qmp.is_running(path)
    assert path in caught.value.why
    assert "-qmp" in caught.value.remedy


@pytest.mark.parametrize("address", ["/nonexistent/qmp", ":1", "localhost:99999", "", "x" * 200])
def test_where_nobody_listens_it_says_so(address: str) -> None:
    with pytest.raises(HvoinspectError, match="no QEMU can be asked"):
        qmp.is_running(address)
