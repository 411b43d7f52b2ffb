"""The Host of requests: a web page whose name points to this machine is refused where no key would stop it."""

import hashlib
from pathlib import Path

import pytest

from server.http.auth import new_key
from server.http.host_gate import allowed_hosts
from server.loading import toy
from server.settings import ServerSettings
from tests.support.serving import MINIMAL, Api, ok, refused, serving

OURS = ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:8000", "10.0.0.7", "[::1]:8000", "[fe80::1]", ""]
THEIRS = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[evil]:1", "decant"]


@pytest.mark.parametrize("host", OURS)
def test_this_machine_and_addresses_are_answered(api: Api, host: str) -> None:
    ok(api.post("completions", MINIMAL["completions"], headers={"Host": host}))


@pytest.mark.parametrize("host", THEIRS)
def test_another_name_is_refused_on_every_path(api: Api, host: str) -> None:
    answers = [
        api.post("completions", MINIMAL["completions"], headers={"Host": host}),
        *(api.http.get(path, headers={"Host": host}) for path in ("/v1/models", "/metrics", "/healthz", "/zip")),
    ]
    for answer in answers:
        error = refused(answer, 421)
        assert error["code"] == "host_not_allowed"
        assert "server.allowed_hosts" in error["message"]


def test_the_settings_name_others() -> None:
    with serving(toy(), allowed_hosts=["Decant", "decant.example"]) as api:
        for host in ("decant:8000", "DECANT.example", "localhost", "127.0.0.1"):
            ok(api.post("completions", MINIMAL["completions"], headers={"Host": host}))
        refused(api.post("completions", MINIMAL["completions"], headers={"Host": "evil.example"}), 421)


@pytest.mark.parametrize(
    ("host", "all_allowed"), [("::1", False), ("localhost", False), ("0.0.0.0", True), ("::", True)]
)
def test_a_server_that_others_reach_has_names_of_its_own(host: str, all_allowed: bool) -> None:
    assert (allowed_hosts(ServerSettings(host=host)) is None) == all_allowed


def test_keys_stop_a_page_too(tmp_path: Path) -> None:
    file, key = tmp_path / "keys", new_key()
    file.write_text(f"alice:{hashlib.sha256(key.encode()).hexdigest()}\n")
    with serving(toy(), api_keys_file=file) as api:
        named = {"Host": "decant", "Authorization": f"Bearer {key}"}
        ok(api.post("completions", MINIMAL["completions"], headers=named))
