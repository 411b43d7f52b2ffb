"""The entry point in vLLM's group `vllm.endpoint_plugins`, loaded where VLLM_PLUGINS names it."""

import asyncio
import logging
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State

from server.engines.vllm_host import host_problems, keyed
from server.http.app import create_app
from server.loading import Host, Loaded, attach
from server.runtime.presets import offered_by
from server.settings import LogSettings, Settings, SettingsError
from server.telemetry.log_setup import ACCESS, filters, show_access
from server.telemetry.private_logs import ShowsId
from server.vllm_plugin.dispatch import Dispatch, Target
from server.vllm_plugin.hosted_settings import hosted_settings
from server.vllm_plugin.metrics_page import shown_on_page
from server.warmup import warm_up

log = logging.getLogger("decant")


class DecantPlugin:
    """Adds Decant to vLLM's app: a middleware that picks requests, and the models behind it.

    vLLM owns the policy's engine, the port, the keys and the process; rewards and their engines are Decant's.
    """

    name = "decant"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._target = Target()
        self._loaded: Loaded | None = None

    def attach_router(self, app: FastAPI) -> None:
        """Put the middleware inside vLLM's own, which check keys before it, and close the rewards when the app ends."""
        app.add_middleware(Dispatch, target=self._target)
        vllms = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
            async with vllms(app) as state:
                try:
                    yield state
                finally:
                    await self._close()

        app.router.lifespan_context = lifespan

    async def init_state(self, engine_client: Any, state: State, args: Namespace) -> None:
        """Load what the settings name beside the policy that vLLM has loaded. Exit with status 2 if they are wrong."""
        _log_as_vllm_does(LogSettings())
        try:
            settings = hosted_settings(args, host_problems(args, engine_client.vllm_config))
            _log_as_vllm_does(settings.logs)
            host = Host(engine_client, state.online_renderer)
            self._loaded = await asyncio.to_thread(attach, host, settings, log.info)
            await self._serve(self._loaded, settings, args)
        except SettingsError as error:
            for problem in error.problems:
                log.error("decant: %s", problem)
            await self._close()
            raise SystemExit(2) from error
        except BaseException:
            await self._close()
            raise

    async def _serve(self, loaded: Loaded, settings: Settings, args: Namespace) -> None:
        presets = offered_by(settings, loaded.models)
        await warm_up(loaded)
        app = create_app(loaded, settings.server, presets, answers_ids=not args.enable_request_id_headers)
        shown_on_page(app.state.server.metrics.registry)
        self._target.serve(app, keyed=keyed(args))
        rewards = ", ".join(loaded.kinds) or "none"
        guides = ", ".join(loaded.models.policy.guides) or "none"
        log.info("Decant answers requests that ask for a strategy (guides: %s; rewards: %s)", guides, rewards)

    async def _close(self) -> None:
        if self._target.app is not None:
            await self._target.state.aclose()
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            await loaded.aclose()


def _log_as_vllm_does(settings: LogSettings) -> None:
    """Write Decant's log where vLLM writes its own: nothing else configures it in vLLM's process."""
    log.handlers = logging.getLogger("vllm").handlers
    for logger in (log, logging.getLogger(ACCESS)):  # a logger's filters are not those of the loggers below it
        logger.filters = [*filters(settings), ShowsId()]
    show_access(settings)
    log.setLevel(logging.INFO)
    log.propagate = False
