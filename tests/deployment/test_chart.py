"""The Helm chart: helm lints and renders it, and what it renders fits Kubernetes' schemas and Decant."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.runtime import key_file
from server.runtime.metrics import Metrics
from server.settings.reading import read_settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docker" / "helm" / "decant"
TOOLS = ROOT / ".venv-tools" / "bin"
HELM = shutil.which("helm", path=os.pathsep.join((str(TOOLS), os.environ["PATH"])))
VALIDATE = TOOLS / "kubernetes-validate"
CASES = ("", *sorted(path.name for path in (CHART / "ci").iterdir()))
CUSTOM = {"ScaledObject", "ServiceMonitor"}  # operators' own kinds, of which Kubernetes has no schema
pytestmark = pytest.mark.skipif(HELM is None, reason="without `make tools` there is no helm")


def helm(command: str, *arguments: str, case: str = "") -> "subprocess.CompletedProcess[str]":
    values = ("--values", str(CHART / "ci" / case)) if case else ()
    words = [str(HELM), command, *arguments, str(CHART), *values]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def rendered(case: str = "", *sets: str) -> dict[str, Any]:
    """Return the chart's objects by their kind."""
    done = helm("template", "decant", "--namespace", "ai", *(f"--set-json={one}" for one in sets), case=case)
    assert done.returncode == 0, done.stderr
    objects = [one for one in yaml.safe_load_all(done.stdout) if one]
    found = {one["kind"]: one for one in objects}
    assert len(found) == len(objects)
    return found


def container(objects: dict[str, Any]) -> dict[str, Any]:
    (one,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(one, dict)
    return one


@pytest.mark.parametrize("case", CASES)
def test_the_chart_lints(case: str) -> None:
    done = helm("lint", "--strict", case=case)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("case", CASES)
def test_what_it_renders_fits_the_schemas_of_kubernetes(case: str, tmp_path: Path) -> None:
    objects = rendered(case)
    for kind, one in objects.items():
        if kind not in CUSTOM:
            (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(one))
    words = [str(VALIDATE), "--strict", *map(str, tmp_path.iterdir())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_field_that_kubernetes_does_not_know_is_found(tmp_path: Path) -> None:
    deployment = rendered()["Deployment"]
    deployment["spec"]["template"]["spec"]["terminationGrace"] = 1
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(deployment))
    done = subprocess.run([str(VALIDATE), "--strict", str(tmp_path / "one.yaml")], capture_output=True, check=False)
    assert done.returncode != 0


def test_the_settings_are_the_image_s_and_are_read(tmp_path: Path) -> None:
    text = rendered()["ConfigMap"]["data"]["decant.yaml"]
    assert yaml.safe_load(text) == yaml.safe_load((ROOT / "docker" / "gpu.yaml").read_text())
    (tmp_path / "decant.yaml").write_text(text)
    assert read_settings(tmp_path / "decant.yaml").server.drain_timeout_s == 30
    assert container(rendered())["args"] == ["serve", "--config", "/etc/decant/decant.yaml"]
    cpu = rendered("cpu-values.yaml")
    assert "ConfigMap" not in cpu
    assert container(cpu)["args"] == ["serve"]
    assert "nvidia.com/gpu" not in json.dumps(cpu)


def test_changed_settings_start_new_pods() -> None:
    def checksum(*sets: str) -> str:
        metadata = rendered("", *sets)["Deployment"]["spec"]["template"]["metadata"]
        return str(metadata["annotations"]["checksum/settings"])

    assert checksum() == checksum() != checksum("settings.server.max_queue=7")


def test_the_probes_ask_what_decant_answers() -> None:
    one = container(rendered())
    paths = {name: one[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}
    assert one["startupProbe"]["periodSeconds"] * one["startupProbe"]["failureThreshold"] == 30 * 60


@pytest.mark.parametrize(("case", "drain"), [("", 30), ("fleet-values.yaml", 91)])
def test_a_pod_has_time_to_drain(case: str, drain: int) -> None:
    objects = rendered(case)
    seconds = objects["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert container(objects)["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    assert seconds == 5 + drain + 25


def test_replicas_follow_a_metric_that_decant_has() -> None:
    scaler = rendered("fleet-values.yaml")
    (metric,) = scaler["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in {family.name for family in Metrics().registry.collect()}
    assert "replicas" not in scaler["Deployment"]["spec"], "helm would undo what the autoscaler does"
    keda = rendered("keda-values.yaml")
    assert "HorizontalPodAutoscaler" not in keda
    (trigger,) = keda["ScaledObject"]["spec"]["triggers"]
    assert trigger["metadata"]["query"] == f'sum({name}{{namespace="ai", service="decant"}})'


def test_keys_are_a_secret_that_decant_reads(tmp_path: Path) -> None:
    objects = rendered("claim-values.yaml")
    (tmp_path / "keys.txt").write_text(objects["Secret"]["stringData"]["keys.txt"])
    key_file.read(tmp_path / "keys.txt")
    variables = {one["name"]: one.get("value") for one in container(objects)["env"]}
    mounts = {one["name"]: one["mountPath"] for one in container(objects)["volumeMounts"]}
    assert variables["DECANT_SERVER__API_KEYS_FILE"] == f"{mounts['keys']}/keys.txt"
    assert "DECANT_SERVER__API_KEYS_FILE" not in {one["name"] for one in container(rendered())["env"]}


@pytest.mark.parametrize("case", CASES)
def test_a_pod_has_no_rights(case: str) -> None:
    objects = rendered(case)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["automountServiceAccountToken"] is False
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"PodDisruptionBudget", "NetworkPolicy", "Service"} <= set(objects)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ('cache={"type": "claim"}|replicas=2', "a claim is one pod's"),
        ('autoscaling={"enabled": true, "minReplicas": 9}', "minReplicas: is over maxReplicas"),
        ('keys={"lines": ["no key"]}', "/keys/lines/0"),
        ("replica=2", "additional properties 'replica' not allowed"),
    ],
)
def test_values_that_cannot_work_are_refused(values: str, said: str) -> None:
    done = helm("template", "decant", *(f"--set-json={one}" for one in values.split("|")))
    assert done.returncode != 0
    assert said in done.stderr, done.stderr
