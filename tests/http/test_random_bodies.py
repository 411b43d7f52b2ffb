"""Random bodies: none is a failure of the server."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.loading import toy
from tests.support.serving import MINIMAL, Api, refused, serving


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy(), max_prompts=4) as api:
        yield api


scalars = st.none() | st.booleans() | st.integers(-3, 6) | st.text(max_size=4) | st.floats(
    allow_nan=False, allow_infinity=False
)  # fmt: skip
junk = st.recursive(
    scalars, lambda some: st.lists(some, max_size=2) | st.dictionaries(st.text(), some, max_size=2), max_leaves=4
)
words = st.text("god ba", max_size=12)
weights = st.dictionaries(st.sampled_from(["default", "brevity"]), scalars)
reward = junk | st.sampled_from(["default", "brevity", "zip"]) | weights
select = st.fixed_dictionaries(
    {"by": st.sampled_from(["argmax", "argmin", "softmax", "pessimistic", "zip"])},
    optional={"beta": junk | st.floats(min_value=0, allow_infinity=False)},
)
decoding = st.fixed_dictionaries(
    {"strategy": st.sampled_from(["sample", "best_of_n", "zip"])},
    optional={"n": junk | st.integers(1, 6), "select": junk | select, "reward": reward}
    | dict.fromkeys(["poisson", "batch", "stop_at", "calibrated", "rollouts", "return_kl", "zip"], junk),
)
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "x"]), "content": junk | words})
fields = st.fixed_dictionaries(
    {},
    optional={
        "prompt": junk | words | st.lists(words | st.integers(0, 5), max_size=3),
        "messages": junk | st.lists(message, max_size=3),
        "completions": junk | st.lists(words),
        "reward": reward,
        "decoding": junk | decoding,
        "n": junk | st.integers(1, 3),
        "temperature": junk | st.floats(0, 2),
        "logit_bias": junk | st.dictionaries(st.sampled_from("0123456"), st.floats(-100, 100)),
    }
    | dict.fromkeys(["top_k", "logprobs", "echo", "max_tokens", "seed", "stream", "stream_options", "stop"], junk),
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(list(MINIMAL)), body=junk | fields, started=st.booleans())
def test_no_body_is_a_failure_of_the_server(api: Api, path: str, body: object, started: bool) -> None:
    sent = {**MINIMAL[path], **body} if started and isinstance(body, dict) else body
    response = api.post(path, sent)
    if response.status_code != 200:
        error = refused(response, 400)
        assert error["param"] is not None or not isinstance(sent, dict)
    elif response.headers["content-type"] == "application/json":
        assert response.json()["object"]
    else:
        assert "error" not in response.text
