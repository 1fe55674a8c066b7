"""The command and the helpers in drgn itself: its program `drgn`, on the cores of the demos."""

from __future__ import annotations

import json
import lzma
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tmux import Terminal, needs_tmux

PROJECT = Path(__file__).resolve().parents[2]
DRGN = Path(sys.executable).with_name("drgn")
QUIET = ("--log-level", "error", "--no-default-symbols")
"""Without debug information, as most hosts are; drgn would say so."""
DEMOS = PROJECT / "hvoinspect/demos"
ANEW = ("taken_at", "elapsed_seconds")


@pytest.fixture(scope="module", params=["before", "after"])
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture as plain drgn opens it (docs/captures.md)."""
    core = tmp_path_factory.mktemp("core") / f"{request.param}.core"
    core.write_bytes(lzma.decompress((DEMOS / f"{request.param}.hvo").read_bytes()))
    core.chmod(0o600)
    return core


def environment() -> dict[str, str]:
    """Plugins as they are installed, and the one of this very source."""
    left = {k: v for k, v in os.environ.items() if not k.startswith(("DRGN_", "HVOINSPECT_"))}
    return left | {"DRGN_DISABLE_PLUGINS": "hvo", "DRGN_PLUGINS": "hvo=hvoinspect.plugin"}


def drgn(core: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in drgn, which has a core open."""
    return subprocess.run(
        [str(DRGN), *QUIET, "-c", str(core), "-e", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env=environment(),
        timeout=300,
    )


def typed(core: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    """Give commands to drgn as its prompt does."""
    first = (
        "from drgn.commands import DEFAULT_COMMAND_NAMESPACE as ns, _write_command_error as tell"
    )
    tellers = "import sys; told = lambda error: tell(sys.stderr, error)"
    runs = [f"ns.run(prog, {line!r}, globals=globals(), onerror=told)" for line in lines]
    return drgn(core, "\n".join([first, tellers, *runs]))


def scanned(core: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "hvoinspect", "scan", "--json", "-c", str(core), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    return of_memory(json.loads(done.stdout))


def of_memory(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in ANEW}


class TestCommand:
    def test_it_scans_what_drgn_has_open(self, core: Path) -> None:
        done = typed(core, "hvo scan --json --exhaustive")
        assert done.stderr == ""
        assert of_memory(json.loads(done.stdout)) == scanned(core, "--exhaustive")

    def test_alone_it_is_the_scan_for_people(self, core: Path) -> None:
        alone, scan = typed(core, "hvo"), typed(core, "hvo scan")
        assert "HVO is on" in alone.stdout
        assert (alone.stdout, alone.stderr) == (scan.stdout, "")

    def test_it_explains_pages_and_asks_for_memdescs(self, core: Path) -> None:
        done = typed(core, "hvo page pfn:0x40001 --json", "hvo memdesc --json")
        assert done.stderr == ""
        decoder = json.JSONDecoder()
        page, end = decoder.raw_decode(done.stdout)
        memdesc, _ = decoder.raw_decode(done.stdout[end:].lstrip())
        assert (page["head_pfn"], page["class"]) == (0x40000, "tail")
        assert memdesc["schema"].startswith("hvoinspect.memdesc/")

    def test_drgn_pipes_and_redirects_it(self, core: Path, tmp_path: Path) -> None:
        file = tmp_path / "scan.txt"
        done = typed(core, f"hvo scan >{file}", "hvo | grep -c 'HVO is on'", "hvo scan | true")
        assert (done.stdout, done.stderr) == ("1\n", "")
        assert file.read_text().startswith("Linux ")

    def test_its_options_write_files(self, core: Path, tmp_path: Path) -> None:
        file = tmp_path / "scan.json"
        done = typed(core, f"hvo scan -o {file}")
        assert (done.stdout, done.stderr) == ("", "")
        assert of_memory(json.loads(file.read_text())) == scanned(core)

    @pytest.mark.parametrize(
        ("line", "why", "remedy"),
        [
            ("hvo page", "missing argument 'ADDRESS'", "see %hvo page --help"),
            ("hvo page pfn:0xffffffff", "is beyond the memory", "its last section ends"),
            ("hvo page x", "'x' names no page", "give a struct page's address"),
            ("hvo scam", "no such command 'scam'", "see %hvo --help"),
            ("hvo scan -c vmcore", "no such option '-c'", "see %hvo scan --help"),
            ("hvo scan --ignore x", "no rule is named x", "give one of"),
        ],
    )
    def test_an_error_is_told_in_two_lines(
        self, core: Path, line: str, why: str, remedy: str
    ) -> None:
        done = typed(core, line)
        assert done.stdout == ""
        first, second = done.stderr.splitlines()
        assert why in first
        assert second.startswith(remedy)

    def test_help_is_of_what_there_is(self, core: Path) -> None:
        done = typed(core, "hvo --help", "hvo page --help", "hvo scan --help")
        assert done.stderr == ""
        assert "the kernel that drgn has open" in done.stdout
        assert "%hvo scan --exhaustive" in done.stdout
        assert "sudo" not in done.stdout, "there is no other kernel to choose here"
        assert "--core" not in done.stdout

    @needs_tmux
    def test_it_is_there_at_the_prompt(self, core: Path, tmp_path: Path) -> None:
        with Terminal(tmp_path, 80, 40, **environment()) as terminal:
            prompt = [DRGN, "--no-default-symbols", "-q", "-c", core]
            terminal.type(shlex.join(map(str, prompt)))
            terminal.wait(">>> ")
            terminal.type("%hvo page pfn:0x40000")
            screen = terminal.wait("follow_phys")
            assert "pfn 0x40000 is the head of a hugepage of 1 GiB" in screen


class TestProgram:
    def test_it_is_left_as_it_was(self, core: Path) -> None:
        script = """
from drgn.commands import run_command
import os
def state():
    kinds = ("type", "object", "symbol", "debug_info")
    found = [getattr(prog, f"{when}_{kind}_finders")()
             for when in ("registered", "enabled") for kind in kinds]
    try:
        return found, prog.type("struct page")
    except LookupError:
        return found, None, dict(os.environ)
before = state()
run_command(prog, "hvo scan -q")
print(state() == before)
"""
        done = drgn(core, script)
        assert (done.stdout, done.stderr) == ("True\n", "")

    def test_nothing_large_is_imported_for_a_program_that_does_not_ask(self, core: Path) -> None:
        script = """
import sys
large = {"numpy", "click", "rich", "hvoinspect.target.open"}
print("hvoinspect.plugin" in sys.modules, sorted(large & set(sys.modules)))
"""
        done = drgn(core, script)
        assert (done.stdout, done.stderr) == ("True []\n", "")

    def test_a_program_that_is_no_kernel_has_no_such_command(self) -> None:
        script = """
import drgn, os
from drgn.commands import CommandNotFoundError, run_command
prog = drgn.Program()
prog.set_pid(os.getpid())
try:
    run_command(prog, "hvo")
except CommandNotFoundError as error:
    print(error)
"""
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            cwd=PROJECT,
            env=environment(),
        )
        assert (done.stdout, done.stderr) == ("hvo: command not found\n", "")


WITH_TYPES = """
from hvoinspect.target.symbols import register_all
register_all(prog)
from hvoinspect.plugin.helpers import *
"""
"""As where drgn has debug information: types and symbols of the session's own."""


@pytest.fixture(scope="module")
def known(core: Path) -> dict[str, Any]:
    return scanned(core)


class TestHelpers:
    def test_a_scan_is_the_commands(self, core: Path, known: dict[str, Any]) -> None:
        helpers = "from hvoinspect.plugin.helpers import *; import json"
        done = drgn(core, f"{helpers}; print(json.dumps(hvo_scan(prog)))")
        assert done.stderr == ""
        assert of_memory(json.loads(done.stdout)) == known

    def test_hugetlb_pages_are_all_of_the_pools(self, core: Path, known: dict[str, Any]) -> None:
        script = f"""{WITH_TYPES}
from collections import Counter
from drgn.helpers.linux.mm import *
pages = list(for_each_hugetlb_page())
print(sorted(Counter((p.order, p.node, p.optimized, p.partly) for p in pages).items()))
print(all(PageHead(p.page) and compound_order(p.page) == p.order for p in pages))
print([int(p.page) for p in pages] == sorted(int(p.page) for p in pages))
"""
        done = drgn(core, script)
        assert done.stderr == ""
        pools = [
            ((pool["size_bytes"].bit_length() - 13, pool["node"], True, False), pool["total"])
            for pool in known["hugetlb"]
        ]
        assert done.stdout.splitlines() == [str(pools), "True", "True"]
        assert [count for _, count in pools] == [64, 1]

    def test_a_page_is_explained_by_its_struct_page(self, core: Path) -> None:
        script = f"""{WITH_TYPES}
from drgn.helpers.linux.mm import *
for pfn in (0x40000, 0x40001, 0x40000 + 64, 0x40000 + 65, 0x7ffff):
    page = pfn_to_page(pfn)
    told = hvo_page(page)
    print(told["pfn"] == pfn, told["head_pfn"] == page_to_pfn(compound_head(page)),
          told == hvo_page(prog, page) == hvo_page(f"pfn:{{pfn}}") == hvo_page(int(page)))
"""
        done = drgn(core, script)
        assert (done.stdout, done.stderr) == ("True True True\n" * 5, "")

    def test_the_kernel_is_learned_once(self, core: Path) -> None:
        script = """
from hvoinspect.plugin import helpers
hvo_page = helpers.hvo_page
hvo_page("pfn:1")
helpers.open_target = None
print(hvo_page("pfn:2")["pfn"])
"""
        done = drgn(core, script)
        assert (done.stdout, done.stderr) == ("2\n", "")
