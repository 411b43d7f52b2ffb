"""Bearer keys: made, stored as hashes, required, and compared in constant time."""

import hashlib
import hmac
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from typer.testing import CliRunner

from server import cli
from server.http.app import create_app
from server.loading import toy
from server.runtime import key_file
from server.runtime.client import Client
from server.runtime.request_runner import RequestRunner, Writer
from server.settings import ServerSettings, SettingsError
from tests.support.serving import MINIMAL, Api, ok, refused, serving

BODY = {"prompt": "good"}
ROOT = Path(__file__).parents[2]


def add(file: Path, name: str = "ann") -> str:
    """A new key, by the command line."""
    result = CliRunner().invoke(cli.app, ["keys", "add", name, "--file", str(file)])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys"


@pytest.fixture(scope="module")
def keys(file: Path) -> list[str]:
    return [add(file, "ann"), add(file, "bob")]


@pytest.fixture(scope="module")
def api(file: Path, keys: list[str]) -> Iterator[Api]:
    assert keys
    with serving(toy(), api_keys_file=file) as api:
        yield api


def bearer(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {key}"}


def test_a_key_is_shown_once_and_kept_as_a_hash_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    before = os.umask(0)
    try:
        first, second = add(file, "ann"), add(file, "bob.smith-2")
    finally:
        os.umask(before)
    assert first != second
    assert first.startswith("dk-")
    assert len(first) > 40
    assert file.stat().st_mode & 0o777 == 0o600
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in (first, second)]
    assert file.read_text() == f"ann:{digests[0]}\nbob.smith-2:{digests[1]}\n"
    assert [key.digest for key in key_file.read(file)] == digests


def test_a_key_file_without_a_last_newline_keeps_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = hashlib.sha256(add(file).encode()).hexdigest()
    file.write_text(file.read_text().rstrip("\n"))
    second = hashlib.sha256(add(file).encode()).hexdigest()
    assert [key.digest for key in key_file.read(file)] == [first, second]


@pytest.mark.parametrize("name", ["", "a:b", "a b", "a\nb", "x" * 65])
def test_a_name_that_could_not_be_read_back_is_refused(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(cli.app, ["keys", "add", name, "--file", str(tmp_path / "keys")])
    assert result.exit_code == 2
    assert "name" in result.stderr
    assert not (tmp_path / "keys").exists()


def test_a_file_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["keys", "add", "ann", "--file", str(tmp_path / "no" / "keys")])
    assert result.exit_code == 2
    assert "No such file" in result.stderr


def test_every_key_of_the_file_opens(api: Api, keys: list[str]) -> None:
    for key in keys:
        ok(api.post("completions", BODY, headers=bearer(key)))
        ok(api.post("completions", BODY, headers=bearer(key, "bearer")))
        client = openai.OpenAI(base_url=f"{api.url}/v1", api_key=key)
        assert [model.id for model in client.models.list()] == ["toy"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("dk-wrong"),
        {"Authorization": "Bearer"},
        {"Authorization": ""},
        {"Authorization": "Bearer \xff\xfe"},
        {"X-Api-Key": "dk-wrong"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", ["completions", "chat/completions", "rewards", "zip"])
def test_without_a_known_key_nothing_under_v1_answers(api: Api, headers: dict[str, str], path: str) -> None:
    response = api.post(path, BODY, headers={k: v.encode("latin-1") for k, v in headers.items()})
    error = refused(response, 401)
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_known_key_in_another_scheme_or_as_its_hash_does_not_open(api: Api, keys: list[str]) -> None:
    digest = hashlib.sha256(keys[0].encode()).hexdigest()
    for headers in (bearer(keys[0], "Basic"), {"Authorization": keys[0]}, bearer(digest), bearer(keys[0][:-1])):
        refused(api.post("completions", BODY, headers=headers), 401)
    refused(api.http.get("/v1/models"), 401)
    refused(api.http.get("/v1/strategies"), 401)


def test_the_operators_pages_are_open_and_refusals_are_counted(api: Api) -> None:
    before = api.metric("decant_refused_total", reason="unauthorized")
    refused(api.post("completions", BODY), 401)
    assert api.metric("decant_refused_total", reason="unauthorized") == before + 1
    for path in ("/metrics", "/healthz", "/readyz"):
        assert api.http.get(path).status_code == 200


def test_every_digest_is_compared_in_constant_time(api: Api, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(a: str, b: str) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", compare)
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in keys]
    for key in (*keys, "dk-wrong"):
        api.post("completions", BODY, headers=bearer(key))
        assert compared == [(hashlib.sha256(key.encode()).hexdigest(), digest) for digest in digests]
        compared.clear()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no key. Add one: decant keys add"),
        ("# ann left\n\n", "has no key"),
        ("dk-a-key-and-not-a-hash\n", "line 1 is not NAME:SHA256"),
        (f"ann:{'a' * 64}\nbob:{'a' * 63}\n", "line 2 is not NAME:SHA256"),
        (None, "No such file"),
    ],
)
def test_a_key_file_that_cannot_be_used_does_not_open_the_server(
    tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=words) as caught:
        create_app(toy(), ServerSettings(api_keys_file=file))
    assert str(caught.value).startswith("server.api_keys_file: ")


def test_serve_exits_over_an_empty_key_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DECANT_SERVER__API_KEYS_FILE": str(file)}
    command = [sys.executable, "-m", "server.cli", "serve", "--toy", "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "has no key" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", ["completions", "chat/completions", "rewards", "score"])
def test_the_holder_of_the_key_reaches_the_work(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Client] = []
    run = RequestRunner.run

    async def watched(self: RequestRunner, writer: Writer) -> None:
        seen.append(self._job.client)
        await run(self, writer)

    monkeypatch.setattr(RequestRunner, "run", watched)
    body = {"text_1": "good", "text_2": "bad"} if path == "score" else MINIMAL[path]
    key = add(tmp_path / "keys", "ann")
    (tmp_path / "keys").write_text((tmp_path / "keys").read_text().rstrip() + " weight=3\n")
    with serving(toy(), api_keys_file=tmp_path / "keys") as keyed, serving(toy()) as bare:
        ok(keyed.post(path, body, headers=bearer(key)))
        ok(bare.post(path, body))
    assert seen == [Client("ann", 3.0), Client("", 1.0)]
