"""What reading the running kernel takes, on made-up hosts that lack one thing or another."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvoinspect.target.denied import no_addresses, no_kcore, no_kpageflags
from hvoinspect.target.host import CAP_SYS_RAWIO, CAP_SYSLOG, Check, Host, examine_kernel, reach
from tests.madeup_host import ALL, BUILD_ID, NOBODY, NONE, ROOT, MadeUpHost, kcore, named


@pytest.fixture
def madeup(tmp_path: Path) -> MadeUpHost:
    return MadeUpHost(tmp_path)


def checks_of(madeup: MadeUpHost, *, has_dwarf: bool = False) -> tuple[Check, ...]:
    # A host of its own: one remembers what it has read.
    host = Host(madeup.root, madeup.host.release, madeup.host.machine)
    return tuple(examine_kernel(host, has_dwarf=has_dwarf))


def failed(checks: tuple[Check, ...]) -> set[str]:
    return {name for name, check in named(checks).items() if not check.ok}


def test_where_nothing_is_missing_all_is_ok_and_nothing_is_to_be_mended(
    madeup: MadeUpHost,
) -> None:
    checks = checks_of(madeup)
    assert failed(checks) == set()
    assert reach(checks) == "full"
    assert all(check.fix is None and check.enables and check.found for check in checks)


class TestReach:
    """What a scan shows; `tests/api/test_scan.py` has what it falls back to."""

    @pytest.mark.parametrize(
        ("gone", "what"),
        [
            (["proc/kcore"], "own view"),
            (["proc/kcore", "proc/kpageflags"], "none"),
            (["proc/kcore", "sys/kernel/btf/vmlinux"], "none"),
            (["proc/kpageflags"], "full"),
            (["sys/kernel/btf/vmlinux"], "none"),
            (["sys/kernel/vmcoreinfo"], "full"),
            (["sys/kernel/security/lockdown"], "full"),
            (["proc/kallsyms"], "full"),
            (["sys/kernel/notes", "proc/sys/vm/hugetlb_optimize_vmemmap"], "full"),
        ],
    )
    def test_without_files(self, madeup: MadeUpHost, gone: list[str], what: str) -> None:
        madeup.take(*gone)
        assert reach(checks_of(madeup)) == what

    def test_memory_that_is_open_has_no_own_view_in_its_place(self, madeup: MadeUpHost) -> None:
        """A scan falls back where the memory cannot be opened, and nowhere else."""
        madeup.put("proc/kcore", kcore(b"OSRELEASE=5.15.0\n"))
        madeup.put("proc/kallsyms", b"0000000000000000 T _stext\n")
        checks = checks_of(madeup)
        assert failed(checks) == {"kallsyms"}
        assert reach(checks) == "none"

    def test_another_machine(self, madeup: MadeUpHost) -> None:
        arm = tuple(examine_kernel(Host(madeup.root, "6.12.0", "aarch64"), has_dwarf=False))
        assert reach(arm) == "none"
        assert "aarch64" in named(arm)["x86_64"].found
        madeup.take("proc/kcore")
        arm = tuple(examine_kernel(Host(madeup.root, "6.12.0", "aarch64"), has_dwarf=False))
        assert reach(arm) == "own view"

    def test_dwarf_stands_for_types_and_symbols(self, madeup: MadeUpHost) -> None:
        madeup.put("proc/kcore", kcore(b"OSRELEASE=5.15.0\n"))
        madeup.take("sys/kernel/btf/vmlinux", "proc/kallsyms")
        assert reach(checks_of(madeup, has_dwarf=False)) == "none"
        assert reach(checks_of(madeup, has_dwarf=True)) == "full"


class TestKcore:
    """The words are those of the error that a scan ends with."""

    def test_missing(self, madeup: MadeUpHost) -> None:
        madeup.take("proc/kcore")
        error = no_kcore(FileNotFoundError(), root=True)
        check = named(checks_of(madeup))["kcore"]
        assert (check.found, check.fix) == (error.why, error.remedy)

    def test_masked(self, madeup: MadeUpHost) -> None:
        madeup.put("proc/kcore", b"")
        error = no_kcore(ValueError("not an ELF core file"), root=True)
        check = named(checks_of(madeup))["kcore"]
        assert (check.found, check.fix) == (error.why, error.remedy)

    @pytest.mark.parametrize("uid", [ROOT, NOBODY])
    def test_forbidden(self, madeup: MadeUpHost, monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
        def refuse(_path: Path) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("hvoinspect.target.host.read_vmcoreinfo", refuse)
        madeup.be(uid, ALL)
        error = no_kcore(PermissionError(), root=uid == ROOT)
        check = named(checks_of(madeup))["kcore"]
        assert (check.found, check.fix) == (error.why, error.remedy)

    def test_without_vmcoreinfo(self, madeup: MadeUpHost) -> None:
        """drgn takes it from the notes, and otherwise from where sysfs says that it is."""
        madeup.put("proc/kcore", kcore().replace(b"VMCOREINFO\0", b"OTHERINFO_\0"))
        assert "vmcoreinfo" not in failed(checks_of(madeup))
        madeup.take("sys/kernel/vmcoreinfo")
        checks = checks_of(madeup)
        assert failed(checks) == {"vmcoreinfo"}
        assert reach(checks) == "own view"


class TestUser:
    def test_nobody(self, madeup: MadeUpHost) -> None:
        madeup.be(NOBODY, NONE)
        madeup.take("proc/kcore")
        checks = named(checks_of(madeup))
        for name in ("root", "cap_sys_rawio", "cap_syslog"):
            assert (checks[name].ok, checks[name].fix) == (False, "run it again with sudo")
        assert checks["root"].needed_for == ("scan", "hotpath")

    def test_who_can_read_the_memory_needs_not_be_root_for_it(self, madeup: MadeUpHost) -> None:
        madeup.be(NOBODY, NONE)
        checks = checks_of(madeup)
        assert named(checks)["root"].needed_for == ("hotpath",)
        assert reach(checks) == "full"

    @pytest.mark.parametrize(
        ("bit", "name"), [(CAP_SYS_RAWIO, "cap_sys_rawio"), (CAP_SYSLOG, "cap_syslog")]
    )
    def test_root_in_a_container_lacks_capabilities(
        self, madeup: MadeUpHost, bit: int, name: str
    ) -> None:
        madeup.be(ROOT, ALL & ~(1 << bit))
        checks = checks_of(madeup)
        assert failed(checks) == {name}
        assert "container" in (named(checks)[name].fix or "")

    def test_a_status_that_cannot_be_read_is_nobodys(self, madeup: MadeUpHost) -> None:
        madeup.take("proc/self/status")
        assert {"root", "cap_sys_rawio"} <= failed(checks_of(madeup))


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        (b"[none] integrity confidentiality\n", True),
        (b"none [integrity] confidentiality\n", True),
        (b"none integrity [confidentiality]\n", False),
    ],
)
def test_only_lockdown_for_confidentiality_is_in_the_way(
    madeup: MadeUpHost, text: bytes, ok: bool
) -> None:
    madeup.put("sys/kernel/security/lockdown", text)
    check = named(checks_of(madeup))["lockdown"]
    assert (check.ok, check.fix is None) == (ok, ok)
    assert check.found in text.decode()


class TestSymbols:
    def test_hidden_addresses_are_in_memory_too(self, madeup: MadeUpHost) -> None:
        """Since 6.0, whose VMCOREINFO says where."""
        madeup.put("proc/kallsyms", b"0000000000000000 T _stext\n")
        madeup.put("proc/sys/kernel/kptr_restrict", b"2\n")
        checks = checks_of(madeup)
        found = named(checks)
        assert failed(checks) == {"kptr_restrict", "kallsyms"}
        assert found["kptr_restrict"].fix == "sudo sysctl kernel.kptr_restrict=1"
        assert found["kallsyms"].fix == no_addresses(Path("kallsyms")).remedy
        assert found["kallsyms"].found.endswith("; a scan takes them from memory")
        assert reach(checks) == "full"

    @pytest.mark.parametrize("text", [b"", b"ffffffff81000000 T _start\n", b"nonsense\n" * 9])
    def test_symbols_without_stext_are_none(self, madeup: MadeUpHost, text: bytes) -> None:
        madeup.put("proc/kallsyms", text)
        assert "kallsyms" in failed(checks_of(madeup))


def test_damaged_types(madeup: MadeUpHost) -> None:
    madeup.put("sys/kernel/btf/vmlinux", b"no BTF")
    check = named(checks_of(madeup))["btf"]
    assert check.found.startswith("the kernel's BTF cannot be used: ")
    assert "--symbols" in (check.fix or "")


def test_page_flags_that_cannot_be_read(madeup: MadeUpHost) -> None:
    madeup.break_("proc/kpageflags")
    path = madeup.root / "proc/kpageflags"
    error = no_kpageflags(path, IsADirectoryError(21, "Is a directory"))
    check = named(checks_of(madeup))["kpageflags"]
    assert (check.found, check.fix) == (error.why.replace(" either", ""), error.remedy)


@pytest.mark.parametrize(
    ("text", "ok", "found"),
    [
        (b"1\n", True, "built in, on"),
        (b"0\n", True, "built in, off for new hugepages"),
        (None, False, "not built in"),
    ],
)
def test_hvo(madeup: MadeUpHost, text: bytes | None, ok: bool, found: str) -> None:
    if text is None:
        madeup.take("proc/sys/vm/hugetlb_optimize_vmemmap")
    else:
        madeup.put("proc/sys/vm/hugetlb_optimize_vmemmap", text)
    check = named(checks_of(madeup))["hvo"]
    assert (check.ok, check.found) == (ok, found)


def test_build_id(madeup: MadeUpHost) -> None:
    assert madeup.host.build_id == BUILD_ID


def test_an_empty_folder_is_a_host_where_nothing_works(tmp_path: Path) -> None:
    checks = tuple(examine_kernel(Host(tmp_path, "6.12.0", "x86_64"), has_dwarf=False))
    assert reach(checks) == "none"
    # What is restricted by a setting is not, where there is no such setting.
    assert {check.name for check in checks if check.ok} == {"x86_64", "lockdown", "kptr_restrict"}
