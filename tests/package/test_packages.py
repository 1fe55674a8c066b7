"""What scripts/package builds, installed elsewhere: a wheel on its own, a Debian package."""

from __future__ import annotations

import json
import lzma
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from hvoinspect.version import __version__
from tests.cli.conftest import PROJECT

pytestmark = pytest.mark.xdist_group("packages")  # which are built once

NO_COPY = 77  # of installed.sh
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(["scripts/package", "--deb", "-o", folder], check=True, cwd=PROJECT)
    return folder


def test_there_are_three(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {
        f"hvoinspect-{__version__}-py3-none-any.whl",
        f"hvoinspect-{__version__}.tar.gz",
        f"hvoinspect_{__version__}_amd64.deb",
    }


class Installed:
    """An environment with the wheel and nothing of this project or of the system's Python."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        subprocess.run(["/usr/bin/python3", "-m", "venv", folder], check=True)
        pip = [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*map(str, pip), "--no-compile", f"{wheel}[fleet,report]"], check=True)

    def run(self, command: str, folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a line as it is typed, in `folder`."""
        environment = CLEAN | {"PATH": f"{self.folder / 'bin'}:{CLEAN['PATH']}"}
        done = subprocess.run(
            command,
            shell=True,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=environment,
        )
        assert done.returncode == status, done
        return done


@pytest.fixture(scope="session")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    (wheel,) = built.glob("*.whl")
    return Installed(tmp_path_factory.mktemp("environment") / "venv", wheel)


class TestWheel:
    def test_a_first_time_user_is_led_to_a_scan(self, installed: Installed, tmp_path: Path) -> None:
        """What no command at all prints has the command that scans a demo, anywhere."""
        start = installed.run("hvoinspect", tmp_path, status=2).stderr
        (line,) = [line for line in start.splitlines() if "--demo" in line]
        command = line.split("  a kernel")[0].strip()
        assert command == "hvoinspect scan --demo after"
        assert "HVO is on" in installed.run(command, tmp_path).stdout

    def test_what_is_printed_leads_on(self, installed: Installed, tmp_path: Path) -> None:
        """A capture tells how to look at it, a finding where it is, an error what to do."""
        taken = installed.run("hvoinspect capture --demo before -o host.hvo", tmp_path).stdout
        (command,) = [line.partition(": ")[2] for line in taken.splitlines() if "Look at" in line]
        scan = installed.run(command, tmp_path).stdout
        (finding,) = [line for line in scan.splitlines() if line.startswith("warning: ")]
        pfn = finding.split(" at pfn ")[1].split()[0]
        page = installed.run(f"hvoinspect page pfn:{pfn} -c host.hvo", tmp_path).stdout
        assert "hugepage of 1 GiB" in page
        error = installed.run("hvoinspect scna", tmp_path, status=2).stderr
        helped = installed.run(error.rpartition("see ")[2].strip(), tmp_path).stdout
        assert "scan" in helped

    def test_every_command_works(self, installed: Installed, tmp_path: Path) -> None:
        for line in (
            "hvoinspect scan --demo before -o before.json",
            "hvoinspect scan --demo after -o after.json",
            "hvoinspect diff before.json after.json",
            "hvoinspect report before.json after.json -o report.html",
            "hvoinspect fleet before.json after.json --json >fleet.json",
            "hvoinspect capture --demo before -o host.hvo",
            "hvoinspect fleet scan host.hvo -o scans",
            "hvoinspect export --demo after --textfile hvoinspect.prom",
            "hvoinspect memdesc --demo after --json >memdesc.json",
            "hvoinspect watch --demo after --count 1",
            "hvoinspect completion bash >completion.bash",
            "hvoinspect hotpath --help",
            "python3 -m hvoinspect --version",
        ):
            assert installed.run(line, tmp_path).stderr == "", line
        assert "<html" in (tmp_path / "report.html").read_text()
        assert json.loads((tmp_path / "fleet.json").read_text())["schema"].startswith("hvoinspect.")
        assert "hvoinspect_scan_success 1" in (tmp_path / "hvoinspect.prom").read_text()
        assert [path.name for path in (tmp_path / "scans").iterdir()] == ["host.json"]
        assert "complete" in (tmp_path / "completion.bash").read_text()

    def test_a_program_can_ask(self, installed: Installed, tmp_path: Path) -> None:
        (tmp_path / "ask.py").write_text(
            "import hvoinspect\n"
            'print(hvoinspect.scan(hvoinspect.Target(demo="after"))["pages"]["total"])\n'
        )
        assert installed.run("python3 ask.py", tmp_path).stdout == "589824\n"
        (package,) = (installed.folder / "lib").glob("python3.*/site-packages/hvoinspect")
        assert (package / "py.typed").exists()

    def test_drgn_finds_the_plugin(self, installed: Installed, tmp_path: Path) -> None:
        demo = PROJECT / "hvoinspect/demos/after.hvo"
        (tmp_path / "after.core").write_bytes(lzma.decompress(demo.read_bytes()))
        code = "from drgn.commands import run_command; run_command(prog, 'hvo')"
        line = f"drgn --no-default-symbols -q -c after.core -e {shlex.quote(code)}"
        done = installed.run(line, tmp_path)
        assert "HVO is on" in done.stdout
        assert done.stderr == ""

    @pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
    def test_man_finds_the_manual_pages(self, installed: Installed, tmp_path: Path) -> None:
        manual = installed.folder / "share/man"
        done = installed.run(f"man -M {manual} hvoinspect-hotpath-record | cat", tmp_path)
        assert "hvoinspect hotpath record" in done.stdout


ON_DEBIAN = r"""
cd /mnt
hvoinspect --version >version
nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'
(cd / && $nobody hvoinspect scan --demo after --json) >scan.json
hvoinspect fleet scan.json --json >fleet.json
/usr/lib/hvoinspect/bin/python3 -c 'import bcc; print(bcc.__file__)' >bcc
dpkg --listfiles hvoinspect >files
dpkg-query --show --showformat '${Depends}' hvoinspect >depends
units=$(grep '/system/.*[.]' files)
systemd-analyze verify $units >verified 2>&1
cat $units >units
systemctl is-enabled hvoinspect-export.service hvoinspect-textfile.timer >enabled 2>&1 || true
dpkg --purge hvoinspect >/dev/null
find / -xdev -path /mnt -prune -o -name '*hvoinspect*' -newer version -print >left
"""


@pytest.fixture(scope="session")
def debian(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where a Debian with the package wrote down how it is there."""
    folder = tmp_path_factory.mktemp("debian")
    folder.chmod(0o755)
    (deb,) = built.glob("*.deb")
    script = PROJECT / "tests/package/installed.sh"
    unshare = ["unshare", "--mount", "sh", *map(str, (script, deb, folder))]
    unshare += ["sh", "-euc", ON_DEBIAN]
    done = subprocess.run(unshare, capture_output=True, text=True, check=False)
    if done.returncode == NO_COPY or "unshare failed" in done.stderr:
        pytest.skip(f"this system cannot be copied by mounts: {done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dpkg") is None or shutil.which("systemd-analyze") is None,
    reason="needs root, Debian and systemd-analyze",
)
class TestDebian:
    def test_anyone_can_run_it(self, debian: Path) -> None:
        assert (debian / "version").read_text() == f"hvoinspect, version {__version__}\n"
        assert json.loads((debian / "scan.json").read_text())["pages"]["total"] == 589824
        assert json.loads((debian / "fleet.json").read_text())["schema"].startswith("hvoinspect.")

    def test_its_bcc_is_debians(self, debian: Path) -> None:
        assert "python3-bpfcc" in (debian / "depends").read_text()
        assert (debian / "bcc").read_text() == "/usr/lib/python3/dist-packages/bcc/__init__.py\n"

    def test_its_python_is_the_one_it_was_built_for(self, debian: Path) -> None:
        assert "python3 (>= 3." in (debian / "depends").read_text()
        assert "python3 (<< 3." in (debian / "depends").read_text()

    def test_the_units_are_in_place_and_not_started(self, debian: Path) -> None:
        files = (debian / "files").read_text().split()
        names = {path.rpartition("/")[2] for path in files if "/systemd/system/" in path}
        contrib = {path.name for path in (PROJECT / "contrib/systemd").iterdir()}
        assert names == contrib
        assert (debian / "verified").read_text() == ""
        assert "/usr/bin/hvoinspect" in (debian / "units").read_text()
        assert "/usr/local" not in (debian / "units").read_text()
        assert (debian / "enabled").read_text().split() == ["disabled"] * 2

    @pytest.mark.parametrize(
        "path",
        [
            "/usr/share/man/man1/hvoinspect-scan.1.gz",
            "/usr/share/bash-completion/completions/hvoinspect",
            "/usr/share/zsh/vendor-completions/_hvoinspect",
            "/usr/share/fish/vendor_completions.d/hvoinspect.fish",
            "/usr/share/doc/hvoinspect/examples/prometheus/hvoinspect.rules.yml",
            "/usr/share/doc/hvoinspect/copyright",
        ],
    )
    def test_all_else_is_where_debian_looks(self, debian: Path, path: str) -> None:
        assert path in (debian / "files").read_text().split()

    def test_nothing_is_left_of_it(self, debian: Path) -> None:
        assert (debian / "left").read_text() == ""
