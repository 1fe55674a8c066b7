"""What an export needs of a real kernel: its rights, in a container too, and the units of contrib/.

Under systemd, which runs in a PID namespace of the guest, with the units as they are but for paths.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lab.guest import Completed, Guest
from lab.machine import Config
from tests.lab.conftest import cannot
from tests.lab.test_scan import PROJECT, PYTHON, SCAN
from tests.report.exported import key, samples

pytestmark = [
    pytest.mark.lab,
    pytest.mark.parametrize(
        "guest", [Config("7.3", hvo=True, append="hugepages=64")], indirect=True, ids=str
    ),
]

FREED = 64 * 7 * 4096
"""Seven of the eight vmemmap pages of each hugepage."""
NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")
SYSTEMD = Path("/lib/systemd/systemd")
UNITS = PROJECT / "contrib/systemd"
OUT = "/run/hvoinspect-out"
URL = "http://127.0.0.1:9751/metrics"
SYS_RAWIO = 17
"""include/uapi/linux/capability.h."""


def with_rights(*capabilities: str, user: Sequence[str] = ()) -> list[str]:
    """What runs a command with just these capabilities, and no way to get others."""
    only = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    ambient = [f"--inh-caps={only}", f"--ambient-caps={only}"] if user else ["--inh-caps=-all"]
    return ["setpriv", *user, *ambient, f"--bounding-set={only}", "--no-new-privs"]


def scan(guest: Guest, rights: Sequence[str], *options: str) -> Completed:
    return guest.run([*rights, *SCAN, "--json", *options], check=False, cwd=PROJECT)


@pytest.fixture
def hidden_addresses(guest: Guest) -> Iterator[None]:
    """kallsyms shows no addresses, not even to root."""
    path = "/proc/sys/kernel/kptr_restrict"
    old = guest.read_file(path).decode().strip()
    guest.run(f"echo 2 > {path}")
    yield
    guest.run(f"echo {old} > {path}")


@pytest.mark.usefixtures("hidden_addresses")
@pytest.mark.parametrize(
    ("rights", "source"),
    [
        (with_rights("sys_rawio"), "kcore"),
        (with_rights(), "kpageflags"),
        (with_rights("sys_rawio", "dac_read_search", user=NOBODY), "kcore"),
        (with_rights("sys_rawio", user=NOBODY), None),
    ],
    ids=["root, rawio", "root, none", "nobody, rawio, read", "nobody, rawio"],
)
def test_what_may_be_done_with_which_rights(
    guest: Guest, rights: Sequence[str], source: str | None
) -> None:
    done = scan(guest, rights)
    if source is None:
        assert done.returncode == 3
        return
    found = json.loads(done.stdout)
    assert (found["source"]["kind"], done.returncode) == (source, 0 if source == "kcore" else 4)
    assert found["vmemmap"]["saved_bytes"] == (FREED if source == "kcore" else None)


def test_in_a_container_the_nodes_files_are_enough(guest: Guest) -> None:
    """As in contrib/kubernetes: its own /proc/kcore masked, two files mounted, one capability."""
    files = " ".join(
        f"touch {OUT}/{name}; mount --bind /proc/{name} {OUT}/{name}; "
        f"mount -o remount,bind,ro {OUT}/{name};"
        for name in ("kcore", "kpageflags")
    )
    masked = "mount --bind /dev/null /proc/kcore; mount --bind /dev/null /proc/kpageflags;"
    inside = ["unshare", "--mount", "sh", "-ec", f'mkdir -p {OUT}; {files} {masked} exec "$@"', "-"]
    core = f"{OUT}/kcore"
    done = scan(guest, [*inside, *with_rights("sys_rawio")], "-c", core)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["source"] == {"kind": "kcore", "path": core, "debug_info": ["vmcoreinfo", "btf"]}
    assert found["vmemmap"]["saved_bytes"] == FREED
    assert found["coverage"]["fraction"] == 1.0
    assert scan(guest, [*inside, *with_rights()], "-c", core).returncode == 3


Inside = Callable[[str], Completed]


@pytest.fixture
def inside(guest: Guest) -> Iterator[Inside]:
    """Run commands beside a systemd that knows our units, and has nothing else to do."""
    if not SYSTEMD.exists() or shutil.which("nsenter") is None:
        cannot("systemd is not installed")
    units = "/run/systemd/system"
    for name, arguments, more in (
        ("textfile", f"--textfile {OUT}/hvo.prom", f"ReadWritePaths=\nReadWritePaths={OUT}"),
        ("export", "--listen 127.0.0.1:9751 --interval 300", ""),
    ):
        unit = f"hvoinspect-{name}.service"
        assert f"bin/hvoinspect export {arguments.split()[0]} " in (UNITS / unit).read_text()
        drop_in = f"""[Unit]
DefaultDependencies=no
ConditionPathIsDirectory=

[Service]
WorkingDirectory={PROJECT}
ExecStart=
ExecStart={PYTHON} -m hvoinspect export {arguments}
Nice=0
ProtectHome=no
PrivateTmp=no
StandardError=append:{OUT}/{name}.err
{more}
"""
        guest.run(f"mkdir -p {OUT} {units}/{unit}.d && cp {UNITS}/{unit} {units}/")
        guest.run(f"cat > {units}/{unit}.d/lab.conf <<'END'\n{drop_in}END")
    guest.run(f"printf '[Unit]\\nDefaultDependencies=no\\n' > {units}/lab.target")
    guest.start(
        [
            *("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"),
            *("env", "container=other", SYSTEMD, "--system", "--unit=lab.target"),
            *("--log-target=console", "--show-status=no"),
        ]
    )
    find = f"pgrep -o -x -f '{SYSTEMD} --system .*'"
    enter = f"nsenter --target $({find}) --mount --pid --"
    guest.run(f"until {enter} systemctl show-environment; do sleep 1; done", timeout=600)

    def run(command: str) -> Completed:
        return guest.run(f"{enter} {command}", check=False, timeout=600)

    yield run
    guest.run(f"kill -KILL $({find})", check=False)


def test_systemd_runs_both_units(guest: Guest, inside: Inside) -> None:
    started = inside("systemctl start hvoinspect-textfile.service")
    errors = guest.run(f"cat {OUT}/textfile.err").stdout
    assert (started.returncode, errors) == (0, ""), started.stderr
    exported = samples(guest.read_file(f"{OUT}/hvo.prom").decode())
    assert exported[key("source_info", kind="kcore")] == 1
    assert exported[key("vmemmap_saved_bytes")] == FREED
    assert exported[key("coverage_ratio")] == 1
    assert guest.run(f"stat -c %a {OUT}/hvo.prom").stdout == "644\n"

    assert inside("systemctl start hvoinspect-export.service").returncode == 0
    process = inside("systemctl show --value -p MainPID hvoinspect-export.service").stdout.strip()
    status = inside(f"cat /proc/{process}/status").stdout
    rights = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(rights["CapEff"], 16) == int(rights["CapBnd"], 16) == 1 << SYS_RAWIO
    assert (rights["NoNewPrivs"], rights["Seccomp"]) == ("1", "2")
    ask = f"import urllib.request as u; print(u.urlopen('{URL}').read().decode())"
    scraped = guest.run(
        f'until {PYTHON} -c "{ask}" > /run/scraped && grep -q ^hvoinspect_scan_success '
        "/run/scraped; do sleep 10; done; cat /run/scraped",
        timeout=600,
    )
    exported = samples(scraped.stdout)
    assert exported[key("vmemmap_saved_bytes")] == FREED
    assert exported[key("scans_total")] == 1
    assert inside("systemctl stop hvoinspect-export.service").returncode == 0
    ended = inside("systemctl show -p Result -p ExecMainStatus hvoinspect-export.service").stdout
    assert set(ended.split()) == {"Result=success", "ExecMainStatus=0"}
