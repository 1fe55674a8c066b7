"""The command line as a whole: help, errors as two lines, exit statuses, and what ends it early."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import hvoinspect
from hvoinspect.api import scan as api
from hvoinspect.cli.main import BROKEN_PIPE, INTERRUPTED, main
from hvoinspect.cli.main import hvoinspect as group
from tests.cli.conftest import PROJECT, Call, Run, command, environment

HEAVY = {
    *("numpy", "drgn", "_drgn", "rich", "scipy", "capstone", "prometheus_client"),
    *("duckdb", "distributed", "dask", "bokeh", "jinja2"),
}
WORDS = {"COMP_WORDS": "hvoinspect scan --de", "COMP_CWORD": "2"}


def told(stderr: str) -> tuple[str, str]:
    """The two lines of an error: why, and what to do."""
    why, remedy = stderr.splitlines()
    assert why.startswith("hvoinspect: ")
    assert remedy.startswith("hvoinspect: ")
    return why.removeprefix("hvoinspect: "), remedy.removeprefix("hvoinspect: ")


def imported(arguments: list[str], variables: dict[str, str]) -> set[str]:
    """The modules that a command imports."""
    script = (
        "import sys\n"
        "from hvoinspect.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print(*sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


class TestHelp:
    @pytest.mark.parametrize("option", ["-h", "--help"])
    @pytest.mark.parametrize("path", [(), *((name,) for name in group.commands)])
    def test_each_level_has_examples_and_exit_statuses(
        self, path: tuple[str, ...], option: str
    ) -> None:
        result = CliRunner().invoke(group, [*path, option], prog_name="hvoinspect")
        assert result.exit_code == 0
        assert result.output.startswith(" ".join(("Usage: hvoinspect", *path)))
        assert "\n  Examples:\n    " in result.output
        assert f"hvoinspect {path[0] if path else 'scan'}" in result.output.split("Examples:")[1]
        assert re.search(r"Exit status: 0 [a-z ]+, .*2 usage, 3 cannot\s+inspect", result.output)
        assert all(len(line) <= 80 for line in result.output.splitlines())

    def test_every_option_is_explained(self) -> None:
        for name, sub in group.commands.items():
            for parameter in sub.params:
                if isinstance(parameter, click.Argument):
                    assert parameter.make_metavar(click.Context(sub)) in (sub.epilog or "")
                    continue
                assert isinstance(parameter, click.Option)
                assert parameter.help, f"{name} {parameter.name}"

    def test_no_command_shows_where_to_start_and_is_a_usage_error(self, call: Call) -> None:
        """To a script, 0 would say that all is well."""
        status, out, err = call()
        assert (status, out) == (2, "")
        assert err.startswith("Usage: hvoinspect [OPTIONS] COMMAND [ARGS]...")
        assert "Examples:" in err

    def test_version(self, run: Run) -> None:
        done = run("--version")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"hvoinspect, version {hvoinspect.__version__}\n"

    @pytest.mark.parametrize(
        ("arguments", "variables"),
        [
            (["--help"], {}),
            (["--version"], {}),
            (["scan", "--help"], {}),
            (["export", "--help"], {}),
            (["hotpath", "compare", "--help"], {}),
            (["fleet", "--help"], {}),
            ([], {"_HVOINSPECT_COMPLETE": "bash_source"}),
            ([], {"_HVOINSPECT_COMPLETE": "bash_complete", **WORDS}),
        ],
        ids=[
            "help",
            "version",
            "a command's",
            "export's",
            "a deep command's",
            "a group's",
            "completion",
            "words",
        ],
    )
    def test_what_needs_no_kernel_waits_for_no_import(
        self, arguments: list[str], variables: dict[str, str]
    ) -> None:
        loaded = imported(arguments, variables)
        assert "click" in loaded
        assert loaded.isdisjoint(HEAVY)

    def test_a_scan_waits_for_no_import_that_it_has_no_use_for(self) -> None:
        """These come with a call that has another way: np.unique(), or text with a colon in it."""
        loaded = imported(["scan", "--demo", "after"], {})
        assert "rich.table" in loaded
        assert loaded.isdisjoint({"numpy.ma", "rich._emoji_codes"})

    def test_words_for_the_shell(self, run: Run) -> None:
        done = run(_HVOINSPECT_COMPLETE="bash_complete", COMP_WORDS="hvoinspect sc", COMP_CWORD="1")
        assert (done.returncode, done.stdout) == (0, "plain,scan\n")


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "why", "remedy"),
        [
            (["--nonsense"], "no such option '--nonsense'", "see hvoinspect --help"),
            (["scna"], "no such command 'scna'", "see hvoinspect --help"),
            (["scan", "--jsno"], "no such option '--jsno'", "see hvoinspect scan --help"),
            (["scan", "-c"], "requires an argument", "see hvoinspect scan --help"),
            (["scan", "more"], "unexpected extra argument", "see hvoinspect scan --help"),
            (["scan", "--width", "39"], "'--width': 39", "see hvoinspect scan --help"),
            (["scan", "-k", "-c", "vmcore"], "exclude each other", "scan --help"),
        ],
    )
    def test_it_is_told_as_all_errors_are(
        self, call: Call, arguments: list[str], why: str, remedy: str
    ) -> None:
        status, out, err = call(*arguments)
        assert (status, out) == (2, "")
        # Up to 8.1 click says "No such option: --nonsense".
        assert why.replace("'", "") in told(err)[0].replace("'", "").replace("option: ", "option ")
        assert remedy in told(err)[1]

    def test_in_a_process_too(self, run: Run) -> None:
        done = run("scan", "--jsno")
        assert (done.returncode, done.stdout) == (2, "")
        assert told(done.stderr)[1] == "see hvoinspect scan --help"

    def test_hostile_arguments_steer_no_terminal(self, call: Call) -> None:
        status, _, err = call("scan\x1b[31m\nsecond line")
        assert status == 2
        assert "\x1b" not in err
        assert "x1b[31m" in told(err)[0]


class TestBug:
    @pytest.fixture(autouse=True)
    def a_bug(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def scan_target(*_arguments: object, **_options: object) -> None:
            raise KeyError("hostile\x1b[31m\nname")

        monkeypatch.setattr(api, "scan_target", scan_target)
        monkeypatch.delenv("HVOINSPECT_DEBUG", raising=False)

    def test_it_is_one_line_why_and_one_line_what_to_do(self, call: Call) -> None:
        status, out, err = call("scan", "-c", "vmcore")
        assert (status, out) == (3, "")
        why, remedy = told(err)
        assert why.startswith(f"a bug of hvoinspect {hvoinspect.__version__}, at test_main.py:")
        assert "KeyError: 'hostile" in why
        assert "\x1b" not in why
        assert remedy == "report it, with what the same command prints with -v"

    @pytest.mark.parametrize("how", ["-v", "--verbose", "HVOINSPECT_DEBUG"])
    def test_the_traceback_is_shown_to_who_asks(
        self, call: Call, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        if how == "HVOINSPECT_DEBUG":
            monkeypatch.setenv(how, "1")
        status, _, err = call("scan", "-c", "vmcore", *([how] if how.startswith("-") else []))
        assert status == 3
        assert err.startswith("Traceback (most recent call last):\n")
        assert "in scan_target\n" in err
        assert "\x1b" not in err
        assert told("\n".join(err.splitlines()[-2:]))[1] == "report it, with the lines above"

    def test_expected_errors_have_no_traceback(
        self, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.undo()
        status, _, err = call("scan", "-v", "-c", tmp_path / "vmcore")
        assert status == 2
        assert told(err) == (f"there is no file {tmp_path}/vmcore", "give the path of a dump")


class TestEarlyEnd:
    def test_who_reads_only_the_start_leaves_no_traceback(self, core: Path) -> None:
        """The status is what a shell shows of a program that SIGPIPE ended, not 1, for findings."""
        read, write = os.pipe()
        process = subprocess.Popen(
            command("scan", "-c", core, "--json"),
            stdout=write,
            stderr=subprocess.PIPE,
            cwd=PROJECT,
            env=environment({}),
        )
        os.close(write)
        os.close(read)
        assert process.communicate(timeout=60)[1] == b""
        assert process.returncode == BROKEN_PIPE == 128 + signal.SIGPIPE

    @pytest.mark.parametrize("arguments", [["--json"], []], ids=["json", "page"])
    def test_head(self, core: Path, arguments: list[str]) -> None:
        words = " ".join([*command("scan", "-c", core), *arguments])
        done = subprocess.run(
            ["/bin/sh", "-c", f"{words} | head -c 1"],
            capture_output=True,
            check=True,
            cwd=PROJECT,
            env=environment({}),
        )
        assert done.stdout == (b"{" if arguments else b"L")
        assert done.stderr == b""

    def test_ctrl_c_is_one_line(self, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        def scan_target(*_arguments: object, **_options: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(api, "scan_target", scan_target)
        status, out, err = call("scan", "-c", "vmcore")
        assert (status, out, err) == (INTERRUPTED, "", "hvoinspect: interrupted\n")
        assert INTERRUPTED == 128 + signal.SIGINT

    def test_sigint_while_it_works(self, tmp_path: Path) -> None:
        """No file is left of what was to be written."""
        script = (
            "import signal, sys, time\n"
            "from hvoinspect.api import scan as api\n"
            "from hvoinspect.cli.main import main\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "def scan_target(*_, **_options):\n"
            "    print('ready', flush=True)\n"
            "    time.sleep(60)\n"
            "api.scan_target = scan_target\n"
            "main(['scan', '-c', 'vmcore', '-o', 'out.json'])\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=60) == ("", "hvoinspect: interrupted\n")
        assert process.returncode == 130
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("arguments", [["--json"], []], ids=["json", "page"])
    def test_a_full_disk(self, core: Path, arguments: list[str]) -> None:
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                command("scan", "-c", core, *arguments),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                cwd=PROJECT,
                env=environment({}),
            )
        assert done.returncode == 2
        assert told(done.stderr)[0] == (
            "standard output cannot be written: No space left on device"
        )

    def test_stderr_that_cannot_be_written_changes_no_status(self, tmp_path: Path) -> None:
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                command("scan", "-c", tmp_path / "vmcore"),
                stdout=subprocess.PIPE,
                stderr=full,
                check=False,
                cwd=PROJECT,
            )
        assert (done.returncode, done.stdout) == (2, b"")


def test_main_takes_the_processs_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hvoinspect", "--version"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert hvoinspect.__version__ in capsys.readouterr().out


def test_the_command_and_the_module_are_one(run: Run, core: Path) -> None:
    """The installed command, as `python -m hvoinspect`, up to what differs in each scan."""
    installed = subprocess.run(
        [Path(sys.executable).with_name("hvoinspect"), "scan", "-c", core, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    results = [
        json.loads(text) for text in (installed.stdout, run("scan", "-c", core, "--json").stdout)
    ]
    for result in results:
        del result["taken_at"], result["elapsed_seconds"]
    assert results[0] == results[1]
