"""The manifest: of Kubernetes' schema, and no more rights than what a scan needs."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hvoinspect.cli.main import hvoinspect
from tests.contrib.conftest import CONTRIB

MANIFEST = CONTRIB / "kubernetes/hvoinspect.yaml"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFEST.read_text()))
POD = OBJECTS[1]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]


@pytest.mark.parametrize("version", ["1.28", "1.37"])
@pytest.mark.parametrize("number", range(len(OBJECTS)))
def test_it_is_of_the_published_schema(version: str, number: int) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kubernetes_validate.validate(OBJECTS[number], version, strict=True)


def test_a_mistake_would_be_found() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    wrong = yaml.safe_load(MANIFEST.read_text().replace("hostPath:", "hostpath:").split("---")[1])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_it_may_do_what_a_scan_needs_and_no_more() -> None:
    """tests/lab/test_export.py tries just this in a real kernel."""
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_RAWIO"]},
    }
    assert not {"hostPID", "hostNetwork", "hostIPC", "serviceAccountName"} & set(POD)
    assert POD["automountServiceAccountToken"] is False
    assert [volume["hostPath"] for volume in POD["volumes"]] == [
        {"path": "/proc/kcore", "type": "File"},
        {"path": "/proc/kpageflags", "type": "File"},
    ]
    assert all(mount["readOnly"] for mount in CONTAINER["volumeMounts"])


def test_its_command_is_one() -> None:
    with hvoinspect.make_context("hvoinspect", list(CONTAINER["args"])) as context:
        name, command, arguments = hvoinspect.resolve_command(context, CONTAINER["args"])
        assert (name, command) == ("export", hvoinspect.commands["export"])
        assert command is not None
        with command.make_context("export", arguments, parent=context) as own:
            assert own.params["listen"] == ("0.0.0.0", CONTAINER["ports"][0]["containerPort"])
            mounted = {mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
            core = own.params["core"]
            assert {str(core), str(core.with_name("kpageflags"))} == mounted
