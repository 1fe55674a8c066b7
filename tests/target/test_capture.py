"""A capture holds what was read, byte for byte, and nothing else; and reads like the original."""

from __future__ import annotations

import datetime as dt
import lzma
import resource
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import drgn
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvoinspect.api.capture import capture_target
from hvoinspect.errors import ExitStatus, HvoinspectError
from hvoinspect.report.result import Taken, result_of
from hvoinspect.target.capture import write_capture
from hvoinspect.target.choice import Target
from hvoinspect.target.layout import Kernel
from hvoinspect.target.open import open_core
from hvoinspect.target.recorder import Recorder
from hvoinspect.target.unpack import is_capture, unpacked
from hvoinspect.vmemmap.scan import scan
from tests.tiny_kernel import DIRECT, IMAGE, PAGES, TinyKernel

SECRET = b"a secret that no capture may hold"
UNREAD = 6 << 20
"""Memory that no analysis has reason to read, as a process's pages would be."""


def tiny() -> TinyKernel:
    kernel = TinyKernel()
    kernel.compound(8, 3)
    kernel.memory[UNREAD : UNREAD + len(SECRET)] = SECRET
    # Right behind a variable that is read: byte ranges, not pages.
    place = kernel.object(len(SECRET), SECRET)
    assert place % 4096
    return kernel


def capture(kernel: TinyKernel, output: Path) -> None:
    def analyse(found: Kernel) -> tuple[int, ...]:
        scan(found)
        return (8,)

    write_capture(kernel.program(), output, analyse, live=False)


def figures(kernel: Kernel) -> dict[str, object]:
    result = dict(result_of(scan(kernel), Taken(dt.datetime.now(dt.UTC), 0)))
    return {key: result[key] for key in result if key not in ("source", "taken_at")}


@pytest.fixture
def captured(tmp_path: Path) -> Path:
    output = tmp_path / "host.hvo"
    capture(tiny(), output)
    return output


def test_a_capture_scans_like_the_kernel_it_was_taken_of(captured: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.hvo"
    original: list[dict[str, object]] = []

    def analyse(found: Kernel) -> tuple[()]:
        original.append(figures(found))
        return ()

    write_capture(tiny().program(), again, analyse, live=False)
    assert figures(open_core(captured)) == original[0]
    assert original[0]["pages"]["total"] == 1 << 15  # type: ignore[index]
    assert original[0]["pages"]["head"] == 1  # type: ignore[index]


def test_a_capture_of_a_capture_is_the_same(captured: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.hvo"
    capture_target(Target(captured), again)
    assert figures(open_core(again)) == figures(open_core(captured))
    assert again.stat().st_size <= captured.stat().st_size


def test_what_was_not_read_is_not_in_it(captured: Path) -> None:
    kernel = tiny()
    assert bytes(kernel.memory).count(SECRET) == 2
    assert SECRET not in lzma.decompress(captured.read_bytes())


def test_only_its_owner_may_read_it(captured: Path) -> None:
    assert stat.S_IMODE(captured.stat().st_mode) == 0o600


def test_plain_drgn_opens_the_unpacked_core(captured: Path, tmp_path: Path) -> None:
    core = tmp_path / "host.core"
    core.write_bytes(lzma.decompress(captured.read_bytes()))
    prog = drgn.Program()
    prog.set_core_dump(str(core))
    assert prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    memory = tiny().memory
    page = bytes(memory[PAGES : PAGES + 64])
    assert prog.read(PAGES, 64, physical=True) == page
    with pytest.raises(drgn.FaultError):
        prog.read(UNREAD, 8, physical=True)


def test_addresses_of_image_and_direct_map_can_be_read(captured: Path, tmp_path: Path) -> None:
    core = tmp_path / "host.core"
    core.write_bytes(lzma.decompress(captured.read_bytes()))
    prog = drgn.Program()
    prog.set_core_dump(str(core))
    assert prog.read(DIRECT + PAGES, 64) == prog.read(IMAGE + PAGES, 64)


def test_a_capture_cut_anywhere_is_refused(captured: Path, tmp_path: Path) -> None:
    whole = captured.read_bytes()
    cut = tmp_path / "cut.hvo"
    for length in range(6, len(whole), max(1, len(whole) // 200)):
        cut.write_bytes(whole[:length])
        assert is_capture(cut)
        with pytest.raises(HvoinspectError) as error, unpacked(cut):
            pass
        assert error.value.status == ExitStatus.CANNOT_INSPECT
        assert "cut short" in error.value.why


@given(where=st.integers(6, 100_000), bit=st.integers(0, 7))
def test_a_damaged_capture_is_refused(where: int, bit: int) -> None:
    whole = bytearray(lzma.compress(bytes(range(256)) * 50))
    whole[6 + where % (len(whole) - 6)] ^= 1 << bit
    with tempfile.NamedTemporaryFile() as file:
        file.write(whole)
        file.flush()
        with pytest.raises(HvoinspectError), unpacked(Path(file.name)):
            pass


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing fails with EFBIG."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from tests.target.test_capture import capture, tiny\n"
        "from hvoinspect.errors import HvoinspectError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try: capture(tiny(), Path(sys.argv[1]))\n"
        "except HvoinspectError as error: sys.exit(f'{error.why}|{error.remedy}')\n"
    )
    output = tmp_path / "host.hvo"
    for limit in (1 << 10, 1 << 16):
        done = subprocess.run(
            [sys.executable, "-c", code, str(output), str(limit)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "cannot be written" in done.stderr
        assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60), st.integers(0, 255)), max_size=30)
)
def test_ranges_are_the_union_of_what_was_read_and_the_last_reading_counts(
    reads: list[tuple[int, int, int]],
) -> None:
    expected: dict[int, int] = {}
    with Recorder(drgn.Program(), Path(tempfile.gettempdir()) / "host.hvo") as recorder:
        for address, size, value in reads:
            recorder.keep(address, bytes([value]) * size)
            expected |= dict.fromkeys(range(address, address + size), value)
        found = list(recorder.ranges())
    assert {a + i: v for a, content in found for i, v in enumerate(content)} == expected
    ends = [address + len(content) for address, content in found]
    assert all(end <= address for end, (address, _) in zip(ends, found[1:], strict=False))
