"""`-o FILE`: whole or not at all, never over what is there unless asked to, and refused early."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvoinspect.api import scan as api
from hvoinspect.cli.output import check_output, destination, write_output
from hvoinspect.errors import ExitStatus, HvoinspectError
from tests.cli.conftest import PROJECT, Call, command, environment
from tests.cli.test_main import told


def refusal(path: Path, *, force: bool) -> str:
    """Why `path` is refused: the same before the work, and after it if it came to that."""
    with pytest.raises(HvoinspectError) as early:
        check_output(path, force=force)
    with pytest.raises(HvoinspectError) as late:
        write_output(path, "new", force=force)
    assert (early.value.why, early.value.remedy) == (late.value.why, late.value.remedy)
    assert early.value.status == ExitStatus.USAGE
    return early.value.why


def names(folder: Path) -> list[str]:
    """What is in a folder, nothing hidden."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users than root can reach, and none may write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        yield Path(name)
        Path(name).chmod(0o755)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may do all; so as root, be somebody else for a while."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    yield
    os.seteuid(own)


class TestWriting:
    def test_a_new_file(self, tmp_path: Path) -> None:
        write_output(tmp_path / "out", "text\n", force=False)
        assert (tmp_path / "out").read_text() == "text\n"
        assert names(tmp_path) == ["out"]

    def test_its_permissions_are_the_users_choice(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            write_output(tmp_path / "out", "text\n", force=False)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640

    def test_force_takes_the_place_and_the_permissions_of_the_old(self, tmp_path: Path) -> None:
        old = tmp_path / "out"
        old.write_text("old")
        old.chmod(0o600)
        with old.open() as reader:
            write_output(old, "new", force=True)
            assert reader.read() == "old", "who has it open still reads it whole"
        assert old.read_text() == "new"
        assert stat.S_IMODE(old.stat().st_mode) == 0o600
        assert names(tmp_path) == ["out"]

    def test_force_needs_nothing_to_be_there(self, tmp_path: Path) -> None:
        write_output(tmp_path / "out", "new", force=True)
        assert (tmp_path / "out").read_text() == "new"

    def test_a_relative_path_and_a_long_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        name = "n" * 255
        write_output(Path(name), "new", force=False)
        assert names(tmp_path) == [name]

    def test_where_there_are_no_hard_links(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on vfat."""

        def hardlink_to(*_arguments: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", hardlink_to)
        write_output(tmp_path / "out", "new", force=False)
        assert (tmp_path / "out").read_text() == "new"
        assert names(tmp_path) == ["out"]

    @pytest.mark.parametrize("links", [True, False])
    def test_what_appears_meanwhile_is_not_overwritten(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
    ) -> None:
        path = tmp_path / "out"
        hardlink_to = Path.hardlink_to

        def race(goal: Path, target: Path) -> None:
            path.write_text("another's")
            if not links:
                raise OSError(errno.EOPNOTSUPP, "Operation not supported")
            hardlink_to(goal, target)

        monkeypatch.setattr(Path, "hardlink_to", race)
        with pytest.raises(HvoinspectError, match="exists already"):
            write_output(path, "new", force=False)
        assert path.read_text() == "another's"
        assert names(tmp_path) == ["out"]


class TestRefused:
    def test_what_exists_without_force(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("old")
        assert refusal(tmp_path / "out", force=False) == f"{tmp_path}/out exists already"
        assert (tmp_path / "out").read_text() == "old"

    def test_a_link_to_nothing_without_force(self, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to(tmp_path / "nothing")
        assert refusal(tmp_path / "out", force=False) == f"{tmp_path}/out exists already"

    @pytest.mark.parametrize("force", [True, False])
    def test_a_missing_folder(self, tmp_path: Path, force: bool) -> None:
        why = refusal(tmp_path / "no" / "out", force=force)
        assert why == f"{tmp_path}/no/out cannot be written: there is no folder {tmp_path}/no"

    @pytest.mark.parametrize("force", [True, False])
    def test_a_file_for_a_folder(self, tmp_path: Path, force: bool) -> None:
        (tmp_path / "file").write_text("old")
        assert "file/out cannot be written: " in refusal(tmp_path / "file" / "out", force=force)

    def test_a_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, force=True) == f"{tmp_path} cannot be written: it is no file"
        assert refusal(tmp_path, force=False) == f"{tmp_path} exists already"

    def test_a_folder_without_permission(self, folder: Path, nobody: None) -> None:
        assert "this user may not write to the folder" in refusal(folder / "out", force=False)
        assert names(folder) == []

    def test_a_loop_of_links(self, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to(tmp_path / "out")
        assert "out cannot be written: " in refusal(tmp_path / "out", force=True)

    def test_a_name_that_is_too_long(self, tmp_path: Path) -> None:
        assert "File name too long" in refusal(tmp_path / ("n" * 256), force=False)

    def test_a_full_disk_leaves_nothing_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fsync(_file: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        (tmp_path / "out").write_text("old")
        monkeypatch.setattr(os, "fsync", fsync)
        for name, force in (("out", True), ("other", False)):
            with pytest.raises(HvoinspectError, match="No space left on device"):
                write_output(tmp_path / name, "new", force=force)
        assert names(tmp_path) == ["out"]
        assert (tmp_path / "out").read_text() == "old"

    def test_no_path_is_nothing_to_check(self) -> None:
        check_output(None, force=False)


class TestLinksAndDevices:
    def test_through_a_link_with_force(self, tmp_path: Path) -> None:
        (tmp_path / "real").write_text("old")
        (tmp_path / "link").symlink_to("real")
        write_output(tmp_path / "link", "new", force=True)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_text() == "new"
        assert names(tmp_path) == ["link", "real"]

    def test_a_device_stays_a_device(self) -> None:
        """Renaming a file over it, as root, would be the end of /dev/null."""
        write_output(Path("/dev/null"), "new", force=True)
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
        assert refusal(Path("/dev/null"), force=False) == "/dev/null exists already"

    def test_what_must_be_a_file_is_no_device(self) -> None:
        with pytest.raises(HvoinspectError, match="/dev/null cannot be written: it is no file"):
            destination(Path("/dev/null"), force=True, streams=False)

    def test_a_full_device(self) -> None:
        with pytest.raises(HvoinspectError) as caught:
            write_output(Path("/dev/full"), "new", force=True)
        assert caught.value.why == "/dev/full cannot be written: No space left on device"

    def test_a_pipe_is_written_to(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        write_output(path, "new", force=True)
        assert os.read(reader, 100) == b"new"
        os.close(reader)
        assert stat.S_ISFIFO(path.stat().st_mode)


class TestFromTheCommandLine:
    def test_json_into_a_file_and_nothing_printed(
        self, call: Call, core: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "out.json"
        assert call("scan", "-c", core, "-o", path) == (0, "", "")
        assert json.loads(path.read_text())["schema"] == "hvoinspect.scan/1"
        assert call("scan", "-c", core, "--json", "-f", "-o", path) == (0, "", "")
        assert names(tmp_path) == ["out.json"]

    def test_findings_are_written_and_are_the_exit_status(
        self, call: Call, damaged_core: Path, tmp_path: Path
    ) -> None:
        assert call("scan", "-c", damaged_core, "-o", tmp_path / "out") == (1, "", "")
        assert len(json.loads((tmp_path / "out").read_text())["findings"]) == 1

    def test_standard_output_by_its_name(self, core: Path) -> None:
        done = subprocess.run(
            command("scan", "-c", core, "-f", "-o", "/dev/stdout"),
            capture_output=True,
            check=True,
            cwd=PROJECT,
            env=environment({}),
        )
        assert json.loads(done.stdout)["schema"] == "hvoinspect.scan/1"

    @pytest.mark.parametrize("arguments", [("-c", "vmcore"), ()])
    def test_it_is_refused_before_the_scan(
        self,
        call: Call,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: tuple[str, ...],
    ) -> None:
        def scan(*_arguments: object) -> None:
            raise AssertionError("scanned")

        monkeypatch.setattr(api, "scan_target", scan)
        (tmp_path / "out").write_text("old")
        status, out, err = call("scan", *arguments, "-o", tmp_path / "out")
        assert (status, out) == (2, "")
        assert told(err) == (
            f"{tmp_path}/out exists already",
            "give another name, or -f to overwrite it",
        )
        assert call("scan", *arguments, "-f", "-o", tmp_path / "no" / "out")[0] == 2

    def test_a_scan_that_fails_leaves_no_file(self, call: Call, tmp_path: Path) -> None:
        status, _, _ = call("scan", "-c", tmp_path / "vmcore", "-o", tmp_path / "out")
        assert status == 2
        assert names(tmp_path) == []

    def test_a_capture_takes_the_same_care(self, call: Call, core: Path, tmp_path: Path) -> None:
        """It is renamed into place, so a device or a link must not be what is replaced."""
        (tmp_path / "real").write_text("old")
        (tmp_path / "link").symlink_to("real")
        assert call("capture", "-c", core, "-o", tmp_path / "link")[0] == 2
        status, _, err = call("capture", "-c", core, "-f", "-o", "/dev/null")
        assert (status, told(err)[0]) == (2, "/dev/null cannot be written: it is no file")
        assert call("capture", "-c", core, "-f", "-q", "-o", tmp_path / "link") == (0, "", "")
        assert (tmp_path / "link").is_symlink()
        assert call("scan", "-q", "-c", tmp_path / "real") == (0, "", "")
        assert names(tmp_path) == ["link", "real"]

    def test_a_capture_tells_its_size_as_json(self, call: Call, core: Path, tmp_path: Path) -> None:
        output = tmp_path / "host.hvo"
        status, out, _ = call("capture", "--json", "-c", core, "-o", output)
        assert status == 0
        assert json.loads(out) == {
            "schema": "hvoinspect.capture/1",
            "path": str(output),
            "bytes": output.stat().st_size,
        }
