"""The lab itself, on each kernel the project is tested on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import CommandFailed, CommandTimeout, GuestDied
from lab.guest import Guest
from lab.kernels import KNOWN
from lab.machine import Config

CONFIGS = [Config(name, hvo=True, append="hugepages=16") for name in KNOWN]
every_kernel = pytest.mark.parametrize("guest", CONFIGS, indirect=True, ids=str)
newest = pytest.mark.parametrize("guest", CONFIGS[-1:], indirect=True, ids=str)


@every_kernel
def test_runs_the_kernel_that_was_asked_for(guest: Guest) -> None:
    assert guest.run(["uname", "-r"]).stdout.strip() == guest.kernel.release
    assert guest.kernel.release.startswith(guest.config.kernel + ".")


@every_kernel
def test_streams_and_status_stay_apart(guest: Guest) -> None:
    done = guest.run("echo out; echo err >&2; exit 7", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


@every_kernel
def test_hvo_is_on_and_btf_is_there(guest: Guest) -> None:
    assert guest.read_file("/proc/sys/vm/hugetlb_optimize_vmemmap") == b"1\n"
    assert guest.read_file("/proc/sys/vm/nr_hugepages") == b"16\n"
    assert guest.run(["test", "-s", "/sys/kernel/btf/vmlinux"]).returncode == 0


@every_kernel
def test_only_the_work_folder_can_be_written(guest: Guest) -> None:
    with pytest.raises(CommandFailed, match="Read-only file system"):
        guest.run("echo > /etc/hvoinspect-lab-was-here")
    assert not Path("/etc/hvoinspect-lab-was-here").exists()
    guest.run(["cp", "/proc/version", str(guest.work / "version")])
    assert guest.kernel.release in (guest.work / "version").read_text()
    (guest.work / "version").unlink()


@pytest.mark.parametrize(
    "guest", [Config("7.3", nodes=2, cpus=2, hvo=False, memory="1G")], indirect=True, ids=str
)
def test_two_nodes_and_hvo_off(guest: Guest) -> None:
    assert guest.read_file("/sys/devices/system/node/online") == b"0-1\n"
    assert guest.read_file("/sys/devices/system/node/node1/cpulist") == b"1\n"
    assert guest.read_file("/proc/sys/vm/hugetlb_optimize_vmemmap") == b"0\n"


@newest
def test_large_output_and_input_arrive_whole(guest: Guest) -> None:
    data = bytes(range(256)) * 4096
    done = guest.run("cat > $OUT; yes | head -c 300000", input=data, env={"OUT": f"{guest.work}/x"})
    assert len(done.stdout) == 300_000
    assert (guest.work / "x").read_bytes() == data


@newest
def test_another_user(guest: Guest) -> None:
    done = guest.run("id -un; cat /proc/kcore", user="nobody", check=False, cwd="/")
    assert done.stdout == "nobody\n"
    assert "Permission denied" in done.stderr


@newest
def test_what_cannot_be_run_says_so(guest: Guest) -> None:
    done = guest.run(["/nonexistent"], check=False)
    assert done.returncode == 127
    assert done.stderr == "lab: /nonexistent: No such file or directory\n"
    with pytest.raises(FileNotFoundError):
        guest.read_file("/nonexistent")


@newest
def test_a_slow_command_is_killed_and_the_guest_goes_on(guest: Guest) -> None:
    with pytest.raises(CommandTimeout):
        guest.run("echo before; sleep 1000", timeout=1)
    assert guest.run("echo after").stdout == "after\n"


@newest
def test_commands_can_overlap(guest: Guest) -> None:
    first = guest.start("sleep 1; echo first")
    assert guest.run("echo second").stdout == "second\n"
    assert first.wait().stdout == "first\n"
    assert first.wait().returncode == 0


# Last: it ends the guest.
@newest
def test_a_panic_is_told_with_the_console(guest: Guest) -> None:
    with pytest.raises(GuestDied) as caught:
        guest.run("echo c > /proc/sysrq-trigger")
    assert "sysrq triggered crash" in caught.value.console
    assert "sysrq triggered crash" in str(caught.value)
