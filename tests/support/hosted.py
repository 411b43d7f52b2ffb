"""`vllm serve` on tiny models, once with Decant in it and once without."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from evaluation.support.servers import vllm_by_shell, vllm_serve
from evaluation.support.tiny_models import make_tiny_models
from tests.docs.blocks import blocks
from tests.support.engine import ENGINE
from tests.support.guided import make_guided_models
from tests.support.serving import Json

KEY = "swordfish"
PARSED = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]


@dataclass
class Hosted:
    client: httpx.Client
    bare: httpx.Client
    """Of the same server without the plug-in."""
    models: dict[str, Path]

    def post(self, path: str, body: Json, **more: Any) -> httpx.Response:
        return self.client.post(f"/v1/{path}", json=body, **more)


def settings(models: dict[str, Path]) -> Json:
    engine = {**ENGINE, "max_num_seqs": 32}
    return {
        "policy": {"model": str(models["policy"]), "name": "tiny", "engine": engine},
        "guides": {
            "weak": {"kind": "arm", "model": str(models["llama"])},
            "values": {"kind": "q_head", "head": str(models["head"])},
        },
        "rewards": {
            "default": {"kind": "classifier", "model": str(models["classifier"]), "engine": ENGINE},
            "likely": {"kind": "guide", "guide": "weak"},
        },
        "presets": {"careful": {"strategy": "best_of_n", "n": 3}},
    }


@contextmanager
def hosting(folder: Path) -> Iterator[Hosted]:
    """Run the two servers on tiny models in `folder`: Decant's is started by the line of the README."""
    models = make_tiny_models(folder / "tiny")
    models |= make_guided_models(folder / "guided", models["policy"])
    config = folder / "decant.yaml"
    config.write_text(yaml.safe_dump(settings(models)))
    [block] = [block for block in blocks() if block.name == "README.md#Add it to your vLLM:sh"]
    _, line = block.text.splitlines()
    headers = {"Authorization": f"Bearer {KEY}"}
    log = Path(os.environ.get("HOSTED_LOG", folder / "log"))
    with vllm_by_shell(line, [*PARSED, "--api-key", KEY], folder, log) as url:
        # vLLM reads no endpoint plug-in that VLLM_PLUGINS does not name.
        plain = [str(models["policy"]), "--served-model-name", "tiny", *flags(), *PARSED, "--api-key", KEY]
        with (
            vllm_serve(plain) as bare,
            httpx.Client(base_url=url, headers=headers, timeout=300) as client,
            httpx.Client(base_url=bare, headers=headers, timeout=300) as other,
        ):
            yield Hosted(client, other, models)


def flags() -> list[str]:
    """The flags of the same engine without guides."""
    return [
        *("--dtype", "float32", "--max-model-len", "1024", "--kv-cache-memory-bytes", str(2**28), "--enforce-eager"),
        *("--max-num-seqs", "32", "--block-size", "32", "--no-enable-chunked-prefill"),
    ]
