"""`hvoinspect doctor` from the command line, on a made-up host and on this one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hvoinspect.target import host as host_module
from hvoinspect.target.host import Host
from tests.cli.conftest import Call, Run
from tests.madeup_host import RELEASE, MadeUpHost


@pytest.fixture
def madeup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUpHost:
    """The host that the command looks at."""
    made = MadeUpHost(tmp_path / "host")
    monkeypatch.setattr(host_module, "Host", lambda: Host(made.root, RELEASE, "x86_64"))
    return made


@pytest.mark.parametrize("how", ["", "--json", "-q"])
@pytest.mark.parametrize(
    ("gone", "status"),
    [([], 0), (["proc/kcore"], 4), (["proc/kcore", "proc/kpageflags"], 3)],
    ids=["full", "own view", "none"],
)
def test_the_exit_status_is_the_same_however_it_is_shown(
    call: Call, madeup: MadeUpHost, gone: list[str], status: int, how: str
) -> None:
    madeup.take(*gone)
    assert call("doctor", *[how] if how else [])[0] == status


def test_a_page_and_json_say_the_same(call: Call, madeup: MadeUpHost) -> None:
    madeup.take("proc/kcore")
    _, page, _ = call("doctor", "--width", "400")
    _, text, _ = call("doctor", "--json")
    for check in json.loads(text)["checks"]:
        word = "ok    " if check["ok"] else "not ok"
        assert f"  {word}  {check['name']:<16}{check['found']}" in page
        assert check["enables"] in page
        assert check["fix"] is None or f"fix: {check['fix']}\n" in page


def test_into_a_file(call: Call, madeup: MadeUpHost, tmp_path: Path) -> None:
    assert call("doctor", "-o", tmp_path / "out.json") == (0, "", "")
    assert json.loads((tmp_path / "out.json").read_text())["scan"] == "full"


def test_this_host_too(run: Run) -> None:
    done = run("doctor")
    assert done.returncode in (0, 3, 4)
    assert done.stderr == ""
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_it_foretells_the_exit_status_of_a_scan_of_this_host(run: Run) -> None:
    foretold, scan = run("doctor", "-q").returncode, run("scan", "-q").returncode
    assert scan == foretold or (foretold == 0 and scan in (0, 1, 4))


def test_it_opens_all_files_to_read_only_and_loads_neither_drgn_nor_bcc() -> None:
    script = (
        "import os, sys\n"
        "written = []\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):\n"
        "        written.append(arguments[0])\n"
        "from hvoinspect.cli.main import main\n"
        "sys.dont_write_bytecode = True\n"
        "sys.addaudithook(hook)\n"
        "try: main(['doctor', '-q'])\n"
        "except SystemExit: pass\n"
        "print(written, *sorted({'drgn', '_drgn', 'bcc', 'capstone'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
