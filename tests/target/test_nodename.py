"""The host's name, where a kernel's memory has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvoinspect.api.scan import scan_target
from hvoinspect.target.choice import Target
from hvoinspect.target.memory import UnreadableMemoryError
from hvoinspect.target.nodename import boot_id, read_node_name
from hvoinspect.target.open import open_core
from tests.tiny_kernel import IMAGE, TinyKernel

INFO = {"SYMBOL(init_uts_ns)": f"{IMAGE + 0x5000:x}", "OFFSET(uts_namespace.name)": "4"}


class Bytes:
    """Physical memory in which the name's 65 bytes are where they belong, and nothing else."""

    forkable = False

    def __init__(self, name: bytes) -> None:
        self.name = name.ljust(65, b"\0")

    def read(self, address: int, size: int) -> bytes:
        if (address, size) != (0x5000 + 4 + 65, 65):
            raise UnreadableMemoryError(address, size)
        return self.name

    def read_frames(self, *_arguments: object) -> None:
        raise AssertionError("for a few bytes")


def name_of(name: bytes, info: dict[str, str] = INFO) -> str | None:
    return read_node_name(info, Bytes(name), -IMAGE)  # type: ignore[arg-type]


def test_a_name() -> None:
    assert name_of(b"db-7.example.org") == "db-7.example.org"
    assert name_of(b"x" * 64) == "x" * 64


def test_no_name_was_given() -> None:
    assert name_of(b"(none)") is None
    assert name_of(b"") is None


def test_what_is_no_name() -> None:
    assert name_of(b"x" * 65) is None, "it does not end"
    assert name_of(b"\x1b[2J\xff\n") == r"\x1b[2J\xff\n"


@pytest.mark.parametrize(
    "wrong",
    [
        {"SYMBOL(init_uts_ns)": "0"},
        {"SYMBOL(init_uts_ns)": "f" * 16},
        {"SYMBOL(init_uts_ns)": "here"},
        {"OFFSET(uts_namespace.name)": "9" * 30},
        {"OFFSET(uts_namespace.name)": "8"},
    ],
)
def test_a_place_that_is_wrong(wrong: dict[str, str]) -> None:
    assert name_of(b"db-7", INFO | wrong) is None


def test_a_kernel_that_does_not_tell() -> None:
    assert name_of(b"db-7", {}) is None


def test_a_scan_of_a_dump_has_its_hosts_name(tmp_path: Path) -> None:
    kernel = TinyKernel()
    kernel.compound(512, 9)
    place = kernel.variable("init_uts_ns", b"Linux".ljust(65, b"\0") + b"db-7".ljust(65, b"\0"))
    kernel.vmcoreinfo["SYMBOL(init_uts_ns)"] = f"{IMAGE + place:x}"
    kernel.vmcoreinfo["OFFSET(uts_namespace.name)"] = "0"
    path = tmp_path / "vmcore"
    path.write_bytes(kernel.core())
    assert open_core(path).node_name() == "db-7"
    assert scan_target(Target(core=path))["host"] == {"name": "db-7", "boot_id": None}


def test_a_capture_does_not_tell_it() -> None:
    assert scan_target(Target(demo="after"))["host"] == {"name": None, "boot_id": None}


def test_a_boot(tmp_path: Path) -> None:
    file = tmp_path / "sys/kernel/random/boot_id"
    assert boot_id(tmp_path) is None
    file.parent.mkdir(parents=True)
    file.write_text("1f0c0e8a-58a1-4f0b-9d4b-0a7a6b6f3c11\n")
    assert boot_id(tmp_path) == "1f0c0e8a-58a1-4f0b-9d4b-0a7a6b6f3c11"
    file.write_text("\x1b[2J")
    assert boot_id(tmp_path) is None
