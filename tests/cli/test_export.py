"""`hvoinspect export` from the command line: printed, into a file, and to scrapes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hvoinspect.api import scan as api
from hvoinspect.cli.export import INTERVAL_SECONDS, LOOPBACK
from hvoinspect.cli.main import main
from hvoinspect.report.result import ScanResult
from tests.cli.conftest import PROJECT, Call, Run, command, environment
from tests.cli.test_main import told
from tests.report.exported import Key, key, samples
from tests.report.situations import situation


def answer(monkeypatch: pytest.MonkeyPatch, scan: Callable[[], ScanResult]) -> None:
    monkeypatch.setattr(api, "scan_target", lambda *_arguments, **_options: scan())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestPrinted:
    def test_the_metrics_of_a_dump(self, run: Run, core: Path) -> None:
        done = run("export", "-c", core)
        assert (done.returncode, done.stderr) == (0, "")
        exported = samples(done.stdout)
        scan = json.loads(run("scan", "-c", core, "--json").stdout)
        assert exported[key("struct_pages", **{"class": "head"})] == scan["pages"]["head"] == 1
        assert exported[key("scan_success")] == 1
        assert key("scans_total") not in exported

    def test_as_openmetrics(self, run: Run, core: Path) -> None:
        done = run("export", "-c", core, "--format", "openmetrics")
        assert samples(done.stdout, "openmetrics")[key("coverage_ratio")] == 1

    @pytest.mark.parametrize("name", ["error", "warning", "partial", "own view"])
    def test_what_a_scan_finds_is_no_failure(
        self, call: Call, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        answer(monkeypatch, lambda: situation(name))
        status, out, err = call("export")
        assert (status, err) == (0, "")
        assert samples(out)[key("scan_success")] == 1

    def test_a_scan_that_cannot_be_made_is_told_both_ways(self, run: Run, tmp_path: Path) -> None:
        done = run("export", "-c", tmp_path / "vmcore")
        assert done.returncode == 2
        assert told(done.stderr)[0] == f"there is no file {tmp_path}/vmcore"
        exported = samples(done.stdout)
        assert exported[key("scan_success")] == 0
        assert key("coverage_ratio") not in exported

    def test_a_bug_too(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        def bug() -> ScanResult:
            raise KeyError("oops")

        answer(monkeypatch, bug)
        status, out, err = call("export")
        assert status == 3
        assert "a bug of hvoinspect" in told(err)[0]
        assert samples(out)[key("scan_success")] == 0

    def test_options_of_the_scan(self, call: Call, core: Path) -> None:
        _, out, _ = call("export", "-c", core, "--ignore", "tails-read-only", "--exhaustive")
        exported = samples(out)
        assert exported[key("inferred_struct_pages")] == 0
        assert key("unstable", rule="tails-read-only") not in exported
        assert call("export", "-c", core, "--ignore", "nonsense")[0] == 2


class TestTextfile:
    def test_it_is_there_whole_and_readable_by_all(self, core: Path, tmp_path: Path) -> None:
        path = tmp_path / "hvo.prom"
        done = subprocess.run(
            [
                *("/bin/sh", "-c", 'umask 077; exec "$@"', "-"),
                *command("export", "-c", core, "--textfile", path),
            ],
            capture_output=True,
            text=True,
            check=True,
            cwd=PROJECT,
        )
        assert (done.stdout, done.stderr) == ("", "")
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert samples(path.read_text())[key("scan_success")] == 1
        assert names(tmp_path) == ["hvo.prom"]

    def test_one_that_is_there_is_replaced_and_its_permissions_mended(
        self, call: Call, core: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "hvo.prom"
        path.write_text("old")
        path.chmod(0o600)
        with path.open() as reader:  # who has it open reads on in the old one
            assert call("export", "-c", core, "--textfile", path) == (0, "", "")
            assert reader.read() == "old"
        assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def test_a_scan_that_fails_says_so_and_when_one_succeeded(
        self, call: Call, core: Path, tmp_path: Path
    ) -> None:
        """The old numbers do not stay, as if they were true now; the old time does."""
        path = tmp_path / "hvo.prom"
        call("export", "-c", core, "--textfile", path)
        last = samples(path.read_text())[key("scan_last_success_timestamp_seconds")]
        for _ in range(2):
            status, out, err = call("export", "-c", tmp_path / "gone", "--textfile", path)
            assert (status, out) == (2, "")
            assert "there is no file" in told(err)[0]
            exported = samples(path.read_text())
            assert exported[key("scan_success")] == 0
            assert exported[key("scan_last_success_timestamp_seconds")] == last
            assert exported[key("scan_timestamp_seconds")] >= last
            assert key("coverage_ratio") not in exported

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00" * 50, b"{" * 5000, None])
    def test_whatever_was_there_before_is_no_hindrance(
        self, call: Call, tmp_path: Path, content: bytes | None
    ) -> None:
        path = tmp_path / "hvo.prom"
        if content is not None:
            path.write_bytes(content)
        assert call("export", "-c", tmp_path / "gone", "--textfile", path)[0] == 2
        exported = samples(path.read_text())
        assert exported[key("scan_success")] == 0
        assert key("scan_last_success_timestamp_seconds") not in exported

    @pytest.mark.parametrize("name", ["hvo.txt", "hvo.prom.gz", "hvo", ".prom"])
    def test_node_exporter_reads_no_other_name(self, call: Call, tmp_path: Path, name: str) -> None:
        status, _, err = call("export", "--demo", "after", "--textfile", tmp_path / name)
        assert status == 2
        assert "does not end in .prom, and node_exporter reads no other files" in told(err)[0]
        assert names(tmp_path) == []

    def test_where_it_cannot_be_written_no_scan_is_made(
        self, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def scan() -> ScanResult:
            raise AssertionError("scanned")

        answer(monkeypatch, scan)
        status, _, err = call("export", "--textfile", tmp_path / "nowhere/hvo.prom")
        assert status == 2
        assert "there is no folder" in told(err)[0]

    def test_again_and_again(self, core: Path, tmp_path: Path) -> None:
        path = tmp_path / "hvo.prom"
        arguments = ("export", "-c", core, "--textfile", path, "--interval", "1")
        with started(*arguments) as process:
            count = key("scans_total")
            wait_for(lambda: path.exists() and samples(path.read_text())[count] >= 2)
            process.send_signal(signal.SIGTERM)
            assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
        assert names(tmp_path) == ["hvo.prom"]


class TestUsage:
    @pytest.mark.parametrize(
        "address", ["", ":", "localhost", "::1:80", "[::1]", "[::1", "1.2.3.4:", ":65536", "x:y"]
    )
    def test_what_is_no_address(self, call: Call, address: str) -> None:
        status, _, err = call("export", "--demo", "after", "--listen", address)
        assert status == 2
        assert "is no port, HOST:PORT or [IPV6]:PORT" in told(err)[0]

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["--textfile", "a.prom", "--listen", "1"], "exclude each other"),
            (["--interval", "5"], "--interval is for --listen and --textfile"),
            (["--format", "text", "--listen", "1"], "--format is for metrics that are printed"),
            (["--interval", "0.5", "--listen", "1"], "--interval"),
            (["--interval", "nan", "--listen", "1"], "--interval"),
        ],
    )
    def test_options_that_do_not_go_together(
        self, call: Call, arguments: list[str], why: str
    ) -> None:
        status, _, err = call("export", *arguments)
        assert status == 2
        assert why in told(err)[0]


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which is killed if it is still there in the end."""
    with subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=environment({}),
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_for(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.02)


@contextmanager
def listening(
    *arguments: object, address: str = "0"
) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """The command as a server: its process, host and port."""
    with started("export", "--listen", address, *arguments) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("hvoinspect: listening at http://"), line
        host, _, port = line.split("/")[2].rpartition(":")
        yield process, host.strip("[]"), int(port)


def scrape(host: str, port: int) -> dict[Key, float]:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return dict(samples(text))


class TestListen:
    def test_however_often_it_is_scraped_it_is_scanned_once(self, core: Path) -> None:
        with listening("-c", core) as (process, host, port):
            assert host == LOOPBACK
            wait_for(lambda: key("scan_success") in scrape(host, port))
            for _ in range(30):
                assert scrape(host, port)[key("scans_total")] == 1
            assert INTERVAL_SECONDS > 60
            process.terminate()
            assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_while_it_waits(self, core: Path, number: int) -> None:
        with listening("-c", core) as (process, host, port):
            wait_for(lambda: key("scan_success") in scrape(host, port))
            process.send_signal(number)
            assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_while_it_scans(self, tmp_path: Path, number: int) -> None:
        """And a scrape before the first scan is done does not wait for it."""
        script = (
            "import os, signal, sys, time\n"
            "from hvoinspect.api import scan as api\n"
            "from hvoinspect.cli.main import main\n"
            "def scan_target(*_, **_options):\n"
            "    print('scanning', flush=True)\n"
            "    time.sleep(600)\n"
            "api.scan_target = scan_target\n"
            "main(['export', '--listen', '0'])\n"
        )
        with subprocess.Popen(
            [*command()[:1], "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            port = int(process.stderr.readline().split(":")[-1].split("/")[0])
            assert process.stdout.readline() == "scanning\n"
            exported = scrape(LOOPBACK, port)
            assert [name for name, _ in exported] == ["hvoinspect_build_info"]
            process.send_signal(number)
            assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0

    def test_an_interrupt_that_gets_lost_in_a_scan_ends_it_after_that(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Foreign code that calls back may make another error of it."""

        def scan() -> ScanResult:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            except KeyboardInterrupt:
                raise ValueError("something went wrong") from None
            raise AssertionError("not interrupted")

        answer(monkeypatch, scan)
        status, out, err = call("export", "--listen", "0", "-q")
        assert (status, out, err) == (0, "", "")

    def test_one_that_gets_lost_in_a_finalizer_too(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Python would print it, and go on."""

        class Left:
            def __init__(self) -> None:
                self.itself = self

            def __del__(self) -> None:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)

        def scan() -> ScanResult:
            Left()
            return situation("mask")

        answer(monkeypatch, scan)
        status, out, err = call("export", "--listen", "0", "-q")
        assert (status, out, err) == (0, "", "")

    def test_it_outlives_scans_that_fail(self, tmp_path: Path, core: Path) -> None:
        """The dump is not there, then it is, then it is gone again."""
        dump = tmp_path / "vmcore"
        with listening("-c", dump, "--interval", "1") as (process, host, port):
            wait_for(lambda: scrape(host, port).get(key("scan_success")) == 0)
            dump.symlink_to(core)
            wait_for(lambda: scrape(host, port)[key("scan_success")] == 1)
            good = scrape(host, port)
            assert good[key("coverage_ratio")] == 1
            assert good[key("scan_failures_total")] >= 1
            dump.unlink()
            wait_for(lambda: scrape(host, port)[key("scan_success")] == 0)
            bad = scrape(host, port)
            last = key("scan_last_success_timestamp_seconds")
            assert bad[last] >= good[last]
            assert key("coverage_ratio") not in bad
            process.terminate()
            err = process.communicate(timeout=60)[1]
        assert process.returncode == 0
        assert err.startswith(f"hvoinspect: there is no file {dump}\nhvoinspect: give the path")

    def test_a_scrape_during_a_scan_gets_the_last_one_and_begins_none(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """The second scan scrapes the server that it is made for."""
        seen: list[dict[Key, float]] = []
        made: list[int] = []

        def scan() -> ScanResult:
            made.append(len(made))
            if len(made) == 2:
                port = int(capfd.readouterr().err.split(":")[-1].split("/")[0])
                seen.extend(scrape(LOOPBACK, port) for _ in range(5))
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            return situation("mask")

        answer(monkeypatch, scan)
        with pytest.raises(SystemExit) as caught:
            main(["export", "--listen", "0", "--interval", "1"])
        assert caught.value.code == 0
        assert made == [0, 1]
        assert [found[key("scans_total")] for found in seen] == [1] * 5

    def test_beyond_this_host_it_is_told(self, core: Path) -> None:
        with started("export", "--listen", "0.0.0.0:0", "-c", core) as process:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "0.0.0.0:" in line
            assert "is no loopback address: others can read the metrics" in line
            assert "listening" in process.stderr.readline()
            process.terminate()
            assert process.wait(60) == 0

    def test_a_port_that_is_taken(self, call: Call, core: Path) -> None:
        with listening("-c", core) as (_, _, port):
            status, _, err = call("export", "-c", core, "--listen", port)
        assert status == 2
        assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in told(err)[0]
