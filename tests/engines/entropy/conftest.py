"""Engines that all tests of a stop at an entropy share."""

import asyncio
from collections.abc import Iterator

import pytest

from server.loading import build
from server.settings import Settings
from tests.support.entropy_engines import Engines
from tests.support.large_vocabulary import LONGEST, make_large_vocabulary_models
from tests.support.reference import Reference


@pytest.fixture(scope="package")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    models = make_large_vocabulary_models(tmp_path_factory.mktemp("large"))
    engine = {"dtype": "float32", "max_model_len": LONGEST, "kv_cache_memory_bytes": 2**27, "enforce_eager": True}
    settings = Settings.model_validate(
        {
            "policy": {"model": str(models["policy"]), "engine": engine},
            "guides": {"weak": {"kind": "arm", "model": str(models["guide"])}},
            "guided_engine": {},
        }
    )
    with asyncio.Runner() as runner:
        loaded = build(settings)
        try:
            yield Engines(loaded, Reference(models["policy"], {"weak": models["guide"]}), runner)
        finally:
            runner.run(loaded.aclose())
            for one in loaded.engines.values():
                one.engine_core.resources.ctx.destroy(linger=0)  # vLLM leaves it open, which is a warning
