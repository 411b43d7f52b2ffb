"""Bodies that a real client sent to this server, as they were recorded; docs/clients.md has those that are run."""

from tests.support.serving import Api, events, ok, refused


def test_guidellm_0_8_1_asks_for_health_and_then_streams(api: Api) -> None:
    assert api.http.get("/health").status_code == 200
    assert ok(api.http.get("/v1/models"))["data"][0]["id"] == "toy"
    options = {"include_usage": True, "continuous_usage_stats": True}
    head = {"model": "toy", "stream": True, "stream_options": options}
    for path, body in (
        ("completions", {"max_tokens": 3, "prompt": "good bad"}),
        ("chat/completions", {"max_completion_tokens": 3, "messages": [{"role": "user", "content": [
            {"type": "text", "text": "good bad"}]}]}),
    ):  # fmt: skip
        chunks, _ = events(api.post(path, {**head, **body}).text)
        assert all(chunk["usage"] for chunk in chunks)
        assert chunks[-1]["usage"]["prompt_tokens"] == 2
        fixed = {**head, **body, "stop": None, "ignore_eos": True}  # a fixed length is the engine's to give
        assert refused(api.post(path, fixed), 400)["param"] == "ignore_eos"
