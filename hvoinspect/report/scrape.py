"""A server that answers scrapes of Prometheus with the metrics of the last scan.

It scans nothing itself: a scrape costs the same at any moment, however often it comes.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.report.openmetrics import CONTENT_TYPES, Format, Snapshot, render

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

PATH = "/metrics"
PATIENCE_SECONDS = 60.0
"""How long a client may take over a request: it holds a thread meanwhile.

Far longer than anyone waits for an answer, since a busy host may take its time over that.
"""


class Scrapes:
    """A server, from the moment on at which it is made.

    `snapshot` is what it answers with; who sets it replaces the one before. Raises HvoinspectError
    if it cannot listen at `host` and `port`; port 0 is any that is free.
    """

    def __init__(self, host: str, port: int) -> None:
        self.snapshot = Snapshot()
        try:
            self._server = _listen(host, port, self._answer)
        except (OSError, UnicodeError) as error:
            raise HvoinspectError(
                f"cannot listen at {address_text(host, port)}: "
                f"{getattr(error, 'strerror', None) or error}",
                "give another address, with --listen ADDRESS",
                ExitStatus.USAGE,
            ) from error

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and port that it listens at."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    @property
    def loopback(self) -> bool:
        """Whether nobody beyond this host can reach it."""
        return ipaddress.ip_address(self.address[0].partition("%")[0]).is_loopback

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Answer scrapes, each in a thread of its own, as long as the context is entered."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, kind, body = self._page(environ)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        if status.startswith("405"):
            headers.append(("Allow", "GET, HEAD"))
        start_response(status, headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _page(self, environ: WSGIEnvironment) -> tuple[str, str, bytes]:
        """Return status, content type and body."""
        plain = "text/plain; charset=utf-8"
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return "405 Method Not Allowed", plain, b"GET only\n"
        if environ["PATH_INFO"] == PATH:
            form = wanted(environ.get("HTTP_ACCEPT", ""))
            return "200 OK", CONTENT_TYPES[form], render(self.snapshot, form).encode()
        if environ["PATH_INFO"] == "/":
            return "200 OK", plain, f"hvoinspect: metrics are at {PATH}\n".encode()
        return "404 Not Found", plain, f"metrics are at {PATH}\n".encode()


def wanted(accept: str) -> Format:
    """Return the format that an Accept header asks for: the text format unless it names another."""
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")]
    return "openmetrics" if "application/openmetrics-text" in kinds else "text"


def address_text(host: str, port: int) -> str:
    """Return an address as a URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int, answer: Callable[..., Iterable[bytes]]) -> _Server:
    """Listen at the first address of a host that there is. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, address in found[:-1]:
        with contextlib.suppress(OSError):
            return _Server(family, address, answer)
    family, _, _, _, address = found[-1]
    return _Server(family, address, answer)


class _Handler(WSGIRequestHandler):
    """Answers a connection, and says nothing of it."""

    timeout = PATIENCE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, family: int, address: Any, answer: Callable[..., Iterable[bytes]]) -> None:
        self.address_family = family
        super().__init__(address, _Handler)
        self.set_app(answer)

    def server_bind(self) -> None:
        # Not the base's, which asks the name service what this host is called, and may wait long.
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away or take too long."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
