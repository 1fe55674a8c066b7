"""The server that answers scrapes: over real sockets, to whatever a client may ask."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.report import scrape
from hvoinspect.report.openmetrics import CONTENT_TYPES, Format, Snapshot, render
from hvoinspect.report.scrape import Scrapes, address_text, wanted
from tests.report.exported import samples
from tests.report.situations import TAKEN, situation

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""The header that Prometheus sends (scrape/scrape.go, 2.42)."""


def snapshot(name: str = "mask") -> Snapshot:
    now = TAKEN.at.timestamp()
    return Snapshot(situation(name), now, 1.0, now)


@pytest.fixture
def scrapes() -> Iterator[Scrapes]:
    server = Scrapes("127.0.0.1", 0)
    server.snapshot = snapshot()
    with server.answering():
        yield server


def ask(
    server: Scrapes, path: str = "/metrics", method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


class TestAnswers:
    @pytest.mark.parametrize(
        ("accept", "form"),
        [
            (PROMETHEUS, "openmetrics"),
            ("Application/OpenMetrics-Text ; version=1.0.0", "openmetrics"),
            ("text/plain;version=0.0.4", "text"),
            ("*/*", "text"),
            ("", "text"),
            ("application/openmetrics-texts;version=9.x, ;;=,", "text"),
        ],
    )
    def test_in_the_format_that_is_asked_for(
        self, scrapes: Scrapes, accept: str, form: Format
    ) -> None:
        response, body = ask(scrapes, Accept=accept)
        assert response.status == 200
        assert response.headers["Content-Type"] == CONTENT_TYPES[form]
        assert body == render(scrapes.snapshot, form)
        assert samples(body, form)

    def test_with_the_last_scan(self, scrapes: Scrapes) -> None:
        first = ask(scrapes)[1]
        assert ask(scrapes)[1] == first
        scrapes.snapshot = snapshot("error")
        assert ask(scrapes)[1] == render(scrapes.snapshot) != first

    def test_where_the_metrics_are(self, scrapes: Scrapes) -> None:
        assert "/metrics" in ask(scrapes, "/")[1]
        response, body = ask(scrapes, "/metric")
        assert response.status == 404
        assert "/metrics" in body
        assert ask(scrapes, "/metrics?name[]=x")[0].status == 200

    def test_head_has_no_body(self, scrapes: Scrapes) -> None:
        response, body = ask(scrapes, method="HEAD")
        assert (response.status, body) == (200, "")
        assert int(response.headers["Content-Length"]) > 1000

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_nothing_can_be_changed(self, scrapes: Scrapes, method: str) -> None:
        response, _ = ask(scrapes, method=method)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


class TestBadClients:
    @pytest.mark.parametrize(
        "request_line", [b"", b"\r\n", b"GET\r\n\r\n", b"\x00\xff" * 500 + b"\r\n", b"A" * 70000]
    )
    def test_nonsense_harms_nobody_else(
        self, scrapes: Scrapes, request_line: bytes, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with socket.create_connection(scrapes.address) as client:
            client.sendall(request_line)
        assert ask(scrapes)[0].status == 200
        assert "Traceback" not in capfd.readouterr().err

    def test_one_that_says_nothing_is_let_go(
        self,
        scrapes: Scrapes,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(scrape._Handler, "timeout", 0.05)
        with socket.create_connection(scrapes.address, timeout=60) as client:
            assert client.recv(1) == b""
        assert ask(scrapes)[0].status == 200
        assert capfd.readouterr().err == ""

    def test_many_who_wait_do_not_keep_others_from_their_answer(self, scrapes: Scrapes) -> None:
        waiting = [socket.create_connection(scrapes.address) for _ in range(20)]
        assert ask(scrapes)[0].status == 200
        for client in waiting:
            client.close()


class TestAddresses:
    @pytest.mark.parametrize(
        ("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)]
    )
    def test_which_are_of_this_host_alone(self, host: str, loopback: bool) -> None:
        server = Scrapes(host, 0)
        assert server.loopback == loopback
        with server.answering():
            pass

    def test_ipv6(self) -> None:
        try:
            server = Scrapes("::1", 0)
        except HvoinspectError as error:
            pytest.skip(f"no IPv6 here: {error}")
        assert server.loopback
        assert address_text(*server.address).startswith("[::1]:")
        with server.answering():
            assert ask(server)[0].status == 200

    def test_one_that_is_taken(self, scrapes: Scrapes) -> None:
        with pytest.raises(HvoinspectError, match=r"cannot listen at 127\.0\.0\.1:") as caught:
            Scrapes(*scrapes.address)
        assert caught.value.status == ExitStatus.USAGE

    @pytest.mark.parametrize("host", ["nowhere.invalid", "999.1.1.1", "a" * 70])
    def test_one_that_is_not_to_be_had(self, host: str) -> None:
        with pytest.raises(HvoinspectError, match="cannot listen at"):
            Scrapes(host, 1)


def test_an_empty_header_asks_for_text() -> None:
    assert wanted("") == "text"
