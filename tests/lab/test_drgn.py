"""The plugin in drgn that has a running kernel open, before Linux 7.1 and after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.guest import Guest
from tests.lab.test_scan import ON, PROJECT, PYTHON, SCAN

DRGN = Path(PYTHON).with_name("drgn")
BOTH = [config for config in ON if config.kernel in ("7.0", "7.3")]

SCRIPT = """
import json
from drgn.commands import run_command
from hvoinspect.plugin.helpers import *
run_command(prog, "hvo scan --json >of-command.json")
json.dump(hvo_scan(), open("of-helper.json", "w"))
print(hvo_page("pfn:0x40001")["pfn"])
"""


@pytest.mark.parametrize("guest", BOTH, indirect=True, ids=str)
def test_the_running_kernel_is_scanned_from_within_drgn(guest: Guest) -> None:
    """Without any debug information: drgn itself has none here."""
    drgn = ["env", f"PYTHONPATH={PROJECT}", "DRGN_DISABLE_PLUGINS=*"]
    drgn += ["DRGN_PLUGINS=hvo=hvoinspect.plugin", str(DRGN)]
    options = ["--log-level", "error", "--no-default-symbols", "-k", "-e", SCRIPT]
    done = guest.run([*drgn, *options], cwd=guest.work, timeout=600)
    assert done.stdout == f"{0x40001}\n"
    alone = json.loads(guest.run([*SCAN, "--json"], check=False, cwd=PROJECT).stdout)
    for name in ("of-command.json", "of-helper.json"):
        found = json.loads((guest.work / name).read_text())
        for part in ("kernel", "encoding", "hugetlb", "vmemmap", "source", "host", "findings"):
            assert found[part] == alone[part], part
        assert found["coverage"]["fraction"] == 1.0
