"""A running kernel is watched while its pool grows and HVO is switched off."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.guest import Guest
from tests.lab.test_scan import ON, PROJECT, PYTHON, SMALL

BOTH = [config for config in ON if config.kernel in ("7.0", "7.3")]
MORE = 16

MOVE = f"""
{PYTHON} -m hvoinspect watch --json --interval 1 --count 30 >watched &
watch=$!
scans() {{ while [ "$(wc -l <watched)" -lt "$1" ]; do sleep 0.2; done; }}
pool=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
before=$(cat $pool)
scans 1
echo $((before + {MORE})) >$pool
scans 3
echo 0 >/proc/sys/vm/hugetlb_optimize_vmemmap
echo $((before + {2 * MORE})) >$pool
scans 6
kill $watch
wait $watch
status=$?
echo 1 >/proc/sys/vm/hugetlb_optimize_vmemmap
echo $before >$pool
exit $status
"""


@pytest.mark.parametrize("guest", BOTH, indirect=True, ids=str)
def test_each_scan_shows_the_kernel_as_it_is_by_then(guest: Guest) -> None:
    script = f"cd {guest.work}; export PYTHONPATH={PROJECT}; {MOVE}"
    done = guest.run(["sh", "-c", script], check=False, timeout=600)
    lines = (guest.work / "watched").read_text().splitlines()
    scans: list[dict[str, Any]] = [json.loads(line) for line in lines]
    first, last = pool_of(scans[0]), pool_of(scans[-1])
    assert (done.returncode, done.stderr) == (0, "")
    grown = [scan for scan in scans if pool_of(scan)[0] == first[0] + MORE]
    assert grown, "seen between the two changes"
    assert pool_of(grown[-1]) == (first[0] + MORE, first[1] + MORE)
    each = 7 * 4096  # of the eight vmemmap pages of a hugepage of 2 MiB
    saved = [scan["vmemmap"]["saved_bytes"] for scan in (scans[0], grown[-1], scans[-1])]
    assert saved[1] - saved[0] == MORE * each
    assert grown[-1]["encoding"]["hvo_enabled"] is True
    # What is added while it is off is not optimized, and the others stay as they are.
    assert last == (first[0] + 2 * MORE, first[1] + MORE)
    assert saved[2] == saved[1]
    assert scans[-1]["encoding"]["hvo_enabled"] is False
    assert all(scan["findings_count"]["error"] == 0 for scan in scans)


def pool_of(scan: dict[str, Any]) -> tuple[int, int]:
    """How many hugepages of 2 MiB there are, and how many are optimized."""
    pools = [pool for pool in scan["hugetlb"] if pool["size_bytes"] == SMALL]
    return sum(p["total"] for p in pools), sum(p["optimized"] for p in pools)
