"""The running kernel's own view, of a made-up /proc and /sys."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.errors import HvoinspectError
from hvoinspect.target import kernelview
from hvoinspect.target.kernelview import (
    COMPOUND_HEAD,
    COMPOUND_TAIL,
    HUGE,
    NO_PAGE,
    KernelView,
    Pool,
    look,
    read_kpageflags,
)
from tests.tiny_kernel import kernel_btf

HEAD, TAIL, HOLE, SINGLE = COMPOUND_HEAD, COMPOUND_TAIL, NO_PAGE, 0
OTHER_FLAGS = 1 << 5 | 1 << 10 | HUGE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with one node, HVO built in and off, a head, two tails and three single pages."""
    kpageflags(tmp_path, [HEAD, TAIL, TAIL, SINGLE, SINGLE, HOLE, SINGLE])
    put(tmp_path / "sys/kernel/btf/vmlinux", kernel_btf())
    put(tmp_path / "proc/sys/vm/hugetlb_optimize_vmemmap", b"0\n")
    put(tmp_path / "proc/zoneinfo", ZONEINFO)
    return tmp_path


ZONEINFO = b"""\
Node 0, zone      DMA
        spanned  4
        start_pfn:           1
Node 0, zone   Normal
        spanned  2
        start_pfn:           5
Node 0, zone  Movable
        spanned  0
        start_pfn:           0
"""


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def kpageflags(root: Path, flags: list[int], rest: bytes = b"") -> None:
    put(root / "proc/kpageflags", struct.pack(f"<{len(flags)}Q", *flags) + rest)


def pool(folder: Path, kib: int, total: str, free: str) -> None:
    put(folder / f"hugepages-{kib}kB/nr_hugepages", total.encode())
    put(folder / f"hugepages-{kib}kB/free_hugepages", free.encode())


def build_id_note(build_id: bytes) -> bytes:
    return struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id


def counts(view: KernelView) -> tuple[int, int, int]:
    return view.head, view.tail, view.single


class TestCounts:
    def test_holes_are_left_out(self, root: Path) -> None:
        assert counts(look(root)) == (1, 2, 3)

    @given(
        flags=st.lists(
            st.tuples(
                st.sampled_from([HEAD, TAIL, HOLE, SINGLE]), st.sampled_from([0, OTHER_FLAGS])
            ),
            max_size=200,
        ),
        rest=st.binary(max_size=7),
        words=st.sampled_from([1, 3, 64, 1 << 17]),
    )
    def test_they_are_exact_whatever_the_length_and_the_other_flags(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        flags: list[tuple[int, int]],
        rest: bytes,
        words: int,
    ) -> None:
        """A word that is not whole is none; it is read a piece at a time."""
        root = tmp_path_factory.mktemp("root")
        kpageflags(root, [kind | other for kind, other in flags], rest)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernelview, "READ_WORDS", words)
            found = kernelview._count(root / "proc/kpageflags", 1, lambda _done, _total: None)
        kinds = [kind for kind, _ in flags]
        assert found == tuple(kinds.count(kind) for kind in (HEAD, TAIL, SINGLE))

    def test_a_head_that_is_marked_a_tail_too_counts_once(self, root: Path) -> None:
        kpageflags(root, [HEAD | TAIL, HOLE | HEAD])
        assert counts(look(root)) == (1, 0, 0)

    def test_an_empty_file_has_no_pages(self, root: Path) -> None:
        kpageflags(root, [])
        assert counts(look(root)) == (0, 0, 0)

    def test_progress_reaches_the_end_of_the_last_zone_and_no_further(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kernelview, "READ_WORDS", 3)
        kpageflags(root, [SINGLE] * 10)
        calls: list[tuple[int, int]] = []
        look(root, lambda done, total: calls.append((done, total)))
        assert calls == [(3, 7), (6, 7), (7, 7), (7, 7)]


class TestHvo:
    @pytest.mark.parametrize(
        ("text", "enabled"), [(b"0\n", False), (b"1\n", True), (b"2\n", None), (b"", None)]
    )
    def test_the_sysctl_says_whether_it_is_on(
        self, root: Path, text: bytes, enabled: bool | None
    ) -> None:
        put(root / "proc/sys/vm/hugetlb_optimize_vmemmap", text)
        view = look(root)
        assert view.kernel.hvo_enabled is enabled
        assert view.kernel.hvo_supported is True

    def test_sysctls_without_it_are_of_a_kernel_without_hvo(self, root: Path) -> None:
        (root / "proc/sys/vm/hugetlb_optimize_vmemmap").unlink()
        view = look(root)
        assert (view.kernel.hvo_supported, view.kernel.hvo_enabled) == (False, None)

    def test_no_sysctls_at_all_say_nothing(self, root: Path) -> None:
        (root / "proc/sys/vm/hugetlb_optimize_vmemmap").unlink()
        (root / "proc/sys/vm").rmdir()
        view = look(root)
        assert (view.kernel.hvo_supported, view.kernel.hvo_enabled) == (None, None)

    def test_zones_with_shared_tails_have_it_whatever_the_sysctls(self, root: Path) -> None:
        (root / "proc/sys/vm/hugetlb_optimize_vmemmap").unlink()
        put(root / "sys/kernel/btf/vmlinux", kernel_btf(shared_tails=True))
        view = look(root)
        assert (view.kernel.hvo_supported, view.kernel.has_shared_tails) == (True, True)


class TestPools:
    def test_a_pool_for_each_size_on_each_node(self, root: Path) -> None:
        for node, total in ((0, 3), (10, 5), (2, 7)):
            folder = root / f"sys/devices/system/node/node{node}/hugepages"
            pool(folder, 2048, f"{total}\n", "1\n")
            pool(folder, 1048576, f"{node}\n", "0\n")
        pool(root / "sys/kernel/mm/hugepages", 2048, "15\n", "3\n")
        assert sorted(look(root).pools, key=lambda pool: (pool.node, pool.size_bytes)) == [
            Pool(2 << 20, 0, 3, 1),
            Pool(2 << 20, 2, 7, 1),
            Pool(1 << 30, 2, 2, 0),
            Pool(2 << 20, 10, 5, 1),
            Pool(1 << 30, 10, 10, 0),
        ]

    def test_without_nodes_the_machines_are_node_0s(self, root: Path) -> None:
        pool(root / "sys/kernel/mm/hugepages", 2048, "15\n", "3\n")
        assert look(root).pools == (Pool(2 << 20, 0, 15, 3),)

    @pytest.mark.parametrize("total", ["", "many\n", "-1\n", "0\n"])
    def test_what_is_empty_or_no_number_is_left_out(self, root: Path, total: str) -> None:
        pool(root / "sys/kernel/mm/hugepages", 2048, total, "0\n")
        assert look(root).pools == ()

    def test_none(self, root: Path) -> None:
        assert look(root).pools == ()


class TestIdentity:
    def test_it_is_the_running_kernels(self, root: Path) -> None:
        identity = look(root).kernel.identity
        assert (identity.release, identity.arch) == (os.uname().release, os.uname().machine)
        assert identity.build_id is None

    def test_its_build_id_is_in_its_elf_notes(self, root: Path) -> None:
        """After others, whose names and contents are padded to 4 bytes each."""
        linux = struct.pack("<III", 6, 5, 0x101) + b"Linux\0\0\0" + b"abcde\0\0\0"
        xen = struct.pack("<III", 4, 0, 3) + b"Xen\0"
        put(root / "sys/kernel/notes", linux + xen + build_id_note(bytes(range(20))))
        assert look(root).kernel.identity.build_id == bytes(range(20)).hex()

    @pytest.mark.parametrize("cut", range(0, 36, 5))
    def test_notes_that_are_cut_short_name_no_wrong_build(self, root: Path, cut: int) -> None:
        put(root / "sys/kernel/notes", build_id_note(b"\x77" * 20)[:cut])
        assert look(root).kernel.identity.build_id is None

    def test_struct_page_is_read_off_its_types(self, root: Path) -> None:
        page = look(root).kernel.page
        assert (page.size, page.compound_field) == (64, "compound_head")


class TestMissing:
    @pytest.mark.parametrize(
        ("path", "why"),
        [
            ("proc/kpageflags", "proc/kpageflags cannot be read either"),
            ("sys/kernel/btf/vmlinux", "BTF"),
        ],
    )
    def test_what_it_cannot_do_without(self, root: Path, path: str, why: str) -> None:
        (root / path).unlink()
        with pytest.raises(HvoinspectError, match=why) as caught:
            look(root)
        assert caught.value.remedy

    def test_a_kernel_whose_flags_cannot_be_read(self, root: Path) -> None:
        """As where the file is there, but is no file one may read."""
        (root / "proc/kpageflags").unlink()
        (root / "proc/kpageflags").mkdir()
        with pytest.raises(HvoinspectError, match="Is a directory") as caught:
            look(root)
        assert "-c" in caught.value.remedy

    def test_damaged_types(self, root: Path) -> None:
        put(root / "sys/kernel/btf/vmlinux", b"no BTF")
        with pytest.raises(HvoinspectError):
            look(root)

    def test_types_without_struct_page(self, root: Path) -> None:
        put(root / "sys/kernel/btf/vmlinux", kernel_btf().replace(b"\0page\0", b"\0pagx\0"))
        with pytest.raises(HvoinspectError, match="struct page"):
            look(root)

    def test_what_it_can_do_without(self, root: Path) -> None:
        (root / "proc/zoneinfo").unlink()
        assert counts(look(root)) == (1, 2, 3)


class TestOnePage:
    def test_its_flags(self, root: Path) -> None:
        path = root / "proc/kpageflags"
        assert read_kpageflags(0, path) == HEAD
        assert read_kpageflags(1, path) == TAIL

    def test_beyond_the_end_or_without_the_file_there_are_none(self, root: Path) -> None:
        kpageflags(root, [HEAD], rest=b"1234567")
        assert read_kpageflags(1, root / "proc/kpageflags") is None
        assert read_kpageflags(9, root / "proc/kpageflags") is None
        assert read_kpageflags(0, root / "nothing") is None
