"""Copies are found where a kernel's source has them, with the code that a disassembler sees."""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.hotpath import libdw, sites
from hvoinspect.hotpath.sites import sites_of
from hvoinspect.hotpath.sitesfile import Sites, read_sites, sites_json
from hvoinspect.hotpath.vmlinux import Vmlinux, find_vmlinux
from tests.madeup_kernel import EXPECTED, compile_kernel


@pytest.fixture(scope="module")
def found(vmlinux: Path) -> Sites:
    return sites_of(vmlinux)


def loops(of: Sites) -> dict[tuple[str, str], list[bool]]:
    """Return what EXPECTED is for the kernel's source."""
    groups = defaultdict(list)
    for copy in of.copies:
        groups[copy.helper, copy.function].append(copy.in_loop)
    return {key: sorted(in_loop) for key, in_loop in groups.items()}


def test_each_copy_is_found_and_its_loop(found: Sites) -> None:
    assert loops(found) == EXPECTED


@pytest.mark.parametrize("flag", ["-gdwarf-4", "-gdwarf-5", "-gz=zlib", "-O3", "-Os"])
def test_whatever_the_compiler_was_told(tmp_path: Path, flag: str) -> None:
    # At -Os what is rare stays where it is; what is in a loop is so all the same.
    unrolled = ["-fno-unroll-loops", "-fno-peel-loops", "-fno-split-loops"]
    assert loops(sites_of(compile_kernel(tmp_path, flag, *unrolled))) == EXPECTED


def objdump(vmlinux: Path) -> dict[int, tuple[int, str]]:
    """Return each instruction's size and function, as another disassembler has them."""
    text = subprocess.run(
        ["objdump", "-d", "-w", vmlinux], check=True, capture_output=True, text=True
    ).stdout
    instructions, function = {}, ""
    for line in text.splitlines():
        if label := re.fullmatch(r"[0-9a-f]+ <(.+)>:", line):
            function = label[1]
        elif code := re.match(r"([0-9a-f]+):\t((?:[0-9a-f]{2} )+)", line.strip()):
            instructions[int(code[1], 16)] = (len(code[2].split()), function)
    return instructions


def test_code_is_what_objdump_sees(vmlinux: Path, found: Sites) -> None:
    seen = objdump(vmlinux)
    for copy in found.copies:
        inside = [at for at in seen if any(a <= at < a + size for a, size in copy.ranges)]
        assert len(inside) == copy.instructions
        assert sum(seen[at][0] for at in inside) == copy.bytes
        assert seen[copy.address][1] in (copy.function, f"{copy.function}.cold")


def test_some_copies_are_in_cold_pieces(vmlinux: Path, found: Sites) -> None:
    """Or else the tests above would not show that these count for their functions."""
    seen = objdump(vmlinux)
    cold = {copy.function for copy in found.copies if seen[copy.address][1].endswith(".cold")}
    assert cold == {"rejected", "retried"}


def test_what_the_kernel_is(vmlinux: Path, found: Sites) -> None:
    notes = subprocess.run(["readelf", "-n", vmlinux], check=True, capture_output=True, text=True)
    assert f"Build ID: {found.build_id}\n" in notes.stdout
    assert found.release == "6.0.0-made-up"
    symbols = subprocess.run(["nm", vmlinux], check=True, capture_output=True, text=True).stdout
    assert f"{found.stext:x} T _stext\n" in symbols


def test_only_helpers_that_are_asked_for(vmlinux: Path) -> None:
    some = sites_of(vmlinux, helpers={"twice", "folio_try_get"})
    assert [(copy.helper, copy.function) for copy in some.copies] == [
        ("twice", "twice"),
        ("folio_try_get", "referenced"),
    ]


def refused(path: Path) -> str:
    with pytest.raises(HvoinspectError) as caught:
        sites_of(path)
    assert caught.value.status == ExitStatus.CANNOT_INSPECT
    assert caught.value.remedy
    return caught.value.why


def changed(vmlinux: Path, folder: Path, *command: str) -> Path:
    out = folder / "changed"
    subprocess.run([*command, vmlinux, out], check=True)
    return out


class TestBadInput:
    """What is no vmlinux with DWARF is refused, and it is said why."""

    @pytest.mark.parametrize(
        ("command", "why"),
        [
            (["objcopy", "--strip-debug"], "has no debug data (DWARF)"),
            (["objcopy", "--strip-all"], "has lost its symbols: there is no _stext"),
            (["objcopy", "--strip-symbol=linux_banner"], "there is no linux_banner"),
            (["objcopy", "--remove-section=.note.gnu.build-id"], "has no build-id"),
            (["objcopy", "--only-keep-debug"], "linux_banner names none"),
            (["objcopy", "--strip-symbol=once"], "is in no function"),
        ],
    )
    def test_a_part_is_missing(
        self, vmlinux: Path, tmp_path: Path, command: list[str], why: str
    ) -> None:
        if "--strip-all" in command:
            why = "has no symbols"
        assert why in refused(changed(vmlinux, tmp_path, *command))

    @pytest.mark.parametrize(
        ("at", "value", "why"),
        [
            (0, b"\x7fELK", "is no ELF file"),
            (4, b"\x01", "is of another architecture"),
            (5, b"\x02", "is of another architecture"),
            (18, b"\xb7\x00", "is of another architecture"),  # EM_AARCH64
            (0x28, bytes(8), "has no sections"),
            (0x28, b"\xff" * 8, "cut off"),
        ],
    )
    def test_another_header(
        self, vmlinux: Path, tmp_path: Path, at: int, value: bytes, why: str
    ) -> None:
        content = bytearray(vmlinux.read_bytes())
        content[at : at + len(value)] = value
        path = tmp_path / "changed"
        path.write_bytes(content)
        assert why in refused(path)

    @pytest.mark.parametrize("kept", [0, 3, 63, 64, 1000, -1])
    def test_cut_off(self, vmlinux: Path, tmp_path: Path, kept: int) -> None:
        path = tmp_path / "cut"
        path.write_bytes(vmlinux.read_bytes()[:kept])
        assert "no ELF file" in refused(path) or "cut off" in refused(path)

    def test_no_file(self, tmp_path: Path) -> None:
        assert "No such file" in refused(tmp_path / "none")
        assert "is no ELF file" in refused(tmp_path)
        os.mkfifo(tmp_path / "pipe")
        assert "is no ELF file" in refused(tmp_path / "pipe")
        assert "is no ELF file" in refused(Path("/dev/null"))
        assert "null" in refused(Path("a\0b"))

    def test_no_permission(self, vmlinux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def closed(*_: object) -> None:  # root may read whatever it wants
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", closed)
        assert "cannot be read: Permission denied" in refused(vmlinux)

    def test_no_libdw(self, vmlinux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(libdw, "LIBRARY", "libdw-that-is-not-here.so.1")
        with pytest.raises(HvoinspectError, match="cannot be loaded") as caught:
            sites_of(vmlinux)
        assert "libdw1" in caught.value.remedy

    def test_too_many_copies(self, vmlinux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sites, "MAX_COPIES", 12)
        assert "too many copies" in refused(vmlinux)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
    @given(st.data())
    def test_any_damage_is_found_or_does_no_harm(
        self, vmlinux: Path, tmp_path: Path, data: st.DataObject
    ) -> None:
        content = bytearray(vmlinux.read_bytes())
        for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[at] = data.draw(st.integers(0, 255))
        path = tmp_path / "damaged"
        path.write_bytes(content)
        try:
            some = sites_of(path)
        except HvoinspectError:
            return
        file = tmp_path / "file"
        file.write_text(sites_json(some))
        assert read_sites(file) == some


def test_ctrl_c_is_not_lost_in_libdw(vmlinux: Path) -> None:
    with Vmlinux(vmlinux) as kernel, libdw.Dwarf(kernel.descriptor, "it", "-") as dwarf:
        unit = next(dwarf.units())

        class Interrupting(frozenset[bytes]):
            def __contains__(self, _: object) -> bool:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            dwarf.functions(unit, Interrupting())


class TestFindVmlinux:
    """The running kernel's vmlinux is where debug packages put it, if it is of the same build."""

    PLACES = (".build-id/{0}/{1}.debug", "boot/vmlinux-6.0", "lib/modules/6.0/vmlinux")

    @pytest.mark.parametrize("place", PLACES)
    def test_it_is_in_any_of_the_places(
        self, vmlinux: Path, found: Sites, tmp_path: Path, place: str
    ) -> None:
        path = tmp_path / place.format(found.build_id[:2], found.build_id[2:])
        path.parent.mkdir(parents=True)
        path.symlink_to(vmlinux)
        assert find_vmlinux(found.build_id, "6.0", tmp_path) == path

    def test_one_of_another_build_is_refused(self, vmlinux: Path, tmp_path: Path) -> None:
        path = tmp_path / "boot/vmlinux-6.0"
        path.parent.mkdir()
        path.symlink_to(vmlinux)
        with pytest.raises(HvoinspectError, match=r"vmlinux-6\.0 is of another build"):
            find_vmlinux("ab" * 20, "6.0", tmp_path)

    @pytest.mark.parametrize("build_id", ["ab" * 20, None])
    def test_there_is_none(self, tmp_path: Path, build_id: str | None) -> None:
        with pytest.raises(HvoinspectError) as caught:
            find_vmlinux(build_id, "6.0", tmp_path)
        assert "--vmlinux" in caught.value.remedy
