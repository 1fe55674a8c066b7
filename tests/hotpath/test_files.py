"""What is read of a kernel's own files, and why an address could not be probed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvoinspect.errors import HvoinspectError
from hvoinspect.hotpath.files import Forbidden, read_functions
from tests.hotpath.kernel import BASE, make_kernel, put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_kernel(tmp_path)


class TestFunctions:
    def test_a_name_leads_to_all_functions_that_have_it_in_the_source(self, root: Path) -> None:
        """Those the compiler changed among them, but not their cold parts, nor a module's."""
        functions = read_functions(root)
        assert functions.named("first") == [BASE + 0x10]
        assert functions.named("twice") == [BASE + 0x100, BASE + 0x200]
        assert functions.named("split") == [BASE + 0x300]
        assert functions.named("some_data") == functions.named("__pfx_first") == []

    def test_an_address_lies_in_the_function_before_it(self, root: Path) -> None:
        functions = read_functions(root)
        assert functions.at(BASE + 0x100) == functions.at(BASE + 0x1FF) == "twice"
        assert functions.at(BASE + 0xFF) == "first"
        assert functions.at(BASE - 1) is None

    def test_a_function_extends_to_the_next_one(self, root: Path) -> None:
        assert read_functions(root).extent(BASE + 0x300) == 0x80

    @pytest.mark.parametrize("text", ["", "0000000000000000 T _stext\n", "ffffffff81 T other\n"])
    def test_hidden_addresses_are_an_error_that_says_so(self, root: Path, text: str) -> None:
        put(root / "proc/kallsyms", text)
        with pytest.raises(HvoinspectError, match=r"no addresses.*kptr_restrict"):
            read_functions(root)


class TestForbidden:
    @pytest.mark.parametrize(
        ("offset", "reason"),
        [
            (0x420, "the function is notrace"),
            (0x53F, "the kernel forbids probes there (kprobes/blacklist)"),
            (0x540, "what it said"),
            (0x1000010, "its code is freed after boot"),
            (0x150, "what it said"),
        ],
    )
    def test_the_reason_is_the_kernels_own(self, root: Path, offset: int, reason: str) -> None:
        forbidden = Forbidden(root, read_functions(root), lambda _address: b"\x55\x48\x89\xe5\x53")
        assert forbidden.why(BASE + offset, "what it said") == reason

    @pytest.mark.parametrize("code", [b"\x0f\x1f\x44\x00\x00", b"\x66\x90\x55", b"\xe9\x01\x02"])
    def test_a_static_branch_is_told_by_its_code(self, root: Path, code: bytes) -> None:
        forbidden = Forbidden(root, read_functions(root), lambda _address: code)
        assert "static branch" in forbidden.why(BASE + 0x150, "what it said")

    def test_what_cannot_be_read_leaves_what_the_kernel_said(self, tmp_path: Path) -> None:
        root = make_kernel(tmp_path)
        (root / "sys/kernel/debug/kprobes/blacklist").unlink()
        (root / "sys/kernel/tracing/available_filter_functions").unlink()
        forbidden = Forbidden(root, read_functions(root), lambda _address: b"")
        assert forbidden.why(BASE + 0x510, "Invalid argument (EINVAL)") == (
            "Invalid argument (EINVAL)"
        )
