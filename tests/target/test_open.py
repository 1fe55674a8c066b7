"""Opening what is to be inspected: dumps that are none, dumps that are damaged, and /proc/kcore."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

import pytest
from drgn import Program, ProgramFlags
from hypothesis import given, settings
from hypothesis import strategies as st

from hvoinspect.api.scan import scan_target
from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.target import open as open_module
from hvoinspect.target.choice import Target
from hvoinspect.target.denied import NoKcoreError
from hvoinspect.target.layout import Source
from hvoinspect.target.open import open_core, open_running, open_target
from hvoinspect.target.symbols import register_all
from hvoinspect.vmemmap.scan import scan
from tests.tiny_kernel import BTF, KALLSYMS, SIZE, TABLES, VARIABLES, TinyKernel


def tiny_core() -> bytes:
    kernel = TinyKernel()
    kernel.compound(512, 9)
    return kernel.core()


CORE = tiny_core()


def user_core() -> bytes:
    """The smallest core file of a process: an ELF header, and a note of which program it was."""
    note = struct.pack("<3I8s136s", 5, 136, 3, b"CORE", bytes(40) + b"sleep")
    core, x86_64 = 4, 62
    header = struct.pack(
        "<16s2HI3QI6H", b"\x7fELF\2\1\1", core, x86_64, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    return header + struct.pack("<2I6Q", 4, 0, 120, 0, 0, len(note), len(note), 0) + note


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "vmcore"
    path.write_bytes(CORE)
    return path


def refusal(path: Path, symbols: Path | None = None) -> HvoinspectError:
    with pytest.raises(HvoinspectError) as caught:
        open_core(path, symbols)
    assert caught.value.remedy
    return caught.value


class TestDumps:
    def test_a_kernels(self, core: Path) -> None:
        kernel = open_core(core)
        assert kernel.source.kind == "core"
        assert kernel.source.path == str(core)
        assert kernel.source.debug_info == ("vmcoreinfo", "btf")
        assert not kernel.live

    def test_a_scan_of_it(self, core: Path) -> None:
        assert scan_target(Target(core))["pages"] == {
            "total": 1 << 15,
            "head": 1,
            "fake_head": 0,
            "tail": 511,
            "single": (1 << 15) - 512,
            "unreadable": 0,
            "offline": 0,
        }

    def test_a_missing_one(self, tmp_path: Path) -> None:
        error = refusal(tmp_path / "vmcore")
        assert error.why == f"there is no file {tmp_path}/vmcore"
        assert error.status == ExitStatus.USAGE

    def test_a_directory(self, tmp_path: Path) -> None:
        assert refusal(tmp_path).why == f"{tmp_path} is no file"

    @pytest.mark.parametrize(
        "content",
        [b"", b"just a text\n" * 100, os.urandom(4096), CORE[:20], b"\x7fELF" * 50],
        ids=["empty", "text", "random", "header cut", "no ELF"],
    )
    def test_what_is_no_dump(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "vmcore").write_bytes(content)
        error = refusal(tmp_path / "vmcore")
        assert error.why.startswith(f"{tmp_path}/vmcore is ")
        assert error.status == ExitStatus.CANNOT_INSPECT

    def test_a_programs_core(self, tmp_path: Path) -> None:
        (tmp_path / "core").write_bytes(user_core())
        assert "is a core file, but not a Linux kernel's" in refusal(tmp_path / "core").why

    @pytest.mark.parametrize(
        "kept", [100, 500, 4096, TABLES, VARIABLES + 4096, KALLSYMS, BTF + 100]
    )
    def test_one_that_was_cut_off(self, tmp_path: Path, kept: int) -> None:
        (tmp_path / "vmcore").write_bytes(CORE[:kept])
        refusal(tmp_path / "vmcore")

    def test_one_whose_struct_pages_were_cut_off_is_seen_in_part(self, tmp_path: Path) -> None:
        (tmp_path / "vmcore").write_bytes(CORE[: -SIZE // 2 + (1 << 20)])
        result = scan_target(Target(tmp_path / "vmcore"))
        assert result["pages"]["unreadable"]
        assert 0.4 < result["coverage"]["fraction"] < 0.6

    def test_a_release_that_is_no_text(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """drgn would stumble over it in the middle of a complaint, and Python would show that."""
        (tmp_path / "vmcore").write_bytes(CORE.replace(b"OSRELEASE=6.12.0", b"OSRELEASE=6.12\xff0"))
        assert open_core(tmp_path / "vmcore").identity.release == r"6.12\xff0"
        assert capsys.readouterr() == ("", "")

    @settings(max_examples=60)
    @given(
        damages=st.lists(
            st.tuples(
                st.one_of(
                    st.integers(0, len(CORE) - SIZE - 1),
                    *(
                        st.integers(len(CORE) - SIZE + start, len(CORE) - SIZE + start + size)
                        for start, size in (
                            (TABLES, 8 << 12),
                            (VARIABLES, 0x6000),
                            (KALLSYMS, 0x2000),
                            (BTF, 0x2000),
                        )
                    ),
                ),
                st.one_of(st.binary(min_size=1, max_size=1), st.binary(min_size=8, max_size=8)),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def test_damage_is_an_error_or_a_result_and_never_a_bug(
        self, tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[int, bytes]]
    ) -> None:
        content = bytearray(CORE)
        for at, data in damages:
            content[at : at + len(data)] = data
        path = tmp_path_factory.mktemp("dump") / "vmcore"
        path.write_bytes(content)
        with contextlib.suppress(HvoinspectError):
            assert scan_target(Target(path))["pages"]["total"] is not None
        path.unlink()


class TestSymbols:
    def test_a_missing_file(self, core: Path, tmp_path: Path) -> None:
        error = refusal(core, tmp_path / "vmlinux")
        assert error.why == f"there is no file {tmp_path}/vmlinux"
        assert error.status == ExitStatus.USAGE

    def test_no_debug_information_at_all(self, core: Path, tmp_path: Path) -> None:
        (tmp_path / "vmlinux").write_text("no ELF file")
        error = refusal(core, tmp_path / "vmlinux")
        assert error.why.startswith(f"{tmp_path}/vmlinux ")
        assert "vmlinux" in error.remedy

    def test_that_of_something_else(self, core: Path) -> None:
        assert "is not the debug information of this kernel" in refusal(core, Path("/bin/sh")).why


class FakeProgram:
    """A drgn program whose /proc/kcore is what a test makes of it."""

    error: Exception = OSError()
    flags = ProgramFlags(0)

    def set_kernel(self) -> None:
        raise self.error


class TestRunning:
    @pytest.mark.parametrize(
        ("error", "uid", "why", "remedy"),
        [
            (PermissionError(), 1000, "only root may read /proc/kcore", "sudo"),
            (PermissionError(), 0, "does not let even root read /proc/kcore", "locked down"),
            (FileNotFoundError(), 0, "there is no /proc/kcore here", "on the host"),
            (ValueError("not an ELF core file"), 0, "not an ELF core file", "on the host"),
            (
                Exception("libelf error"),
                0,
                "/proc/kcore cannot be used: libelf error",
                "on the host",
            ),
            (OSError(5, "Input/output error"), 0, "used: Input/output error", "on the host"),
        ],
        ids=["not root", "locked down", "container", "masked", "damaged", "broken"],
    )
    def test_no_kcore(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception, uid: int, why: str, remedy: str
    ) -> None:
        monkeypatch.setattr(open_module, "Program", FakeProgram)
        monkeypatch.setattr(FakeProgram, "error", error)
        monkeypatch.setattr("os.geteuid", lambda: uid)
        with pytest.raises(NoKcoreError) as caught:
            open_running()
        assert why in caught.value.why
        assert remedy in caught.value.remedy


class TestSession:
    """A kernel that drgn has open already."""

    def test_a_dump_is_read_as_ever(self, core: Path) -> None:
        prog = Program()
        prog.set_core_dump(core)
        kernel, own = open_target(Target(program=prog)), open_core(core)
        assert kernel.source == own.source
        assert scan(kernel).classes == scan(own).classes
        with pytest.raises(LookupError):
            prog.type("struct page")

    def test_what_cannot_be_opened_again_is_read_through_it(self) -> None:
        """As a guest: its types are then the session's."""
        prog = TinyKernel().program()
        register_all(prog)
        finders = prog.enabled_type_finders(), prog.enabled_debug_info_finders()
        kernel = open_target(Target(program=prog))
        assert kernel.source == Source("core", "drgn's session", ("vmcoreinfo", "dwarf"))
        assert scan(kernel).total > 0
        assert (prog.enabled_type_finders(), prog.enabled_debug_info_finders()) == finders

    def test_without_types_of_its_own_it_is_told_to_get_some(self) -> None:
        prog = TinyKernel().program()
        with pytest.raises(HvoinspectError, match="no debug information") as caught:
            open_target(Target(program=prog))
        assert "-s VMLINUX" in caught.value.remedy
        with pytest.raises(LookupError):
            prog.type("struct page")

    def test_what_is_no_kernel_is_refused(self) -> None:
        prog = Program()
        prog.set_pid(os.getpid())
        with pytest.raises(HvoinspectError, match="no Linux kernel"):
            open_target(Target(program=prog))
