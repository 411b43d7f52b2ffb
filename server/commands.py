"""What commands do once their settings are checked: serve, and fill the calibration store."""

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from decoders.errors import DecantError
from server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from server.http.request_file import Bodies
    from server.loading import Loaded

log = logging.getLogger("decant")


async def serve(settings: Settings, *, toy: bool) -> bool:
    """Load the models and serve them; return whether the engines were alive until the end."""
    from server.http.uvicorn_server import serve as run
    from server.runtime.presets import offered_by
    from server.telemetry.exporting import start_tracing
    from server.warmup import warm_up

    end_tracing = start_tracing(os.environ)
    loaded = _load(settings, toy=toy)
    try:
        presets = offered_by(settings, loaded.models)
        await warm_up(loaded)
    except BaseException:
        await loaded.aclose()
        raise
    policy = loaded.models.policy
    guides, rewards = (", ".join(names) or "none" for names in (policy.guides, loaded.kinds))

    def started(url: str) -> None:
        what = f"'{policy.name}' (guides: {guides}; rewards: {rewards})"
        _announce(settings, f"Decant serves {what} at {url}", fg="green")

    try:
        return await run(loaded, settings.server, started, presets)
    finally:
        await asyncio.to_thread(end_tracing)


def vllm_args(settings: Settings) -> list[str]:
    """Return the words behind `vllm serve` for a server that Decant works in. Raises `SettingsError`."""
    from server.engines.chat_rendering import rendering_arguments
    from server.engines.vllm_flags import serve_flags
    from server.loading import policy_arguments

    if settings.guided_engine is not None:
        raise SettingsError("guided_engine: inside `vllm serve` guides run in its own engine; leave it out")
    policy = settings.policy
    if policy.url is not None:
        raise SettingsError("policy.url: inside `vllm serve` the policy runs in its own engine; leave it out")
    arguments, _ = policy_arguments(policy, settings.guides)
    return serve_flags(policy.model, policy.served_name, arguments, rendering_arguments(policy))


async def fill_store(
    settings: Settings, bodies: "Bodies", names: Sequence[str] | None, rollouts: int | None, *, toy: bool
) -> int:
    """Fill the calibration store, with a progress bar; return the process's exit status.

    Args:
        bodies: The requests, as `read_bodies` returns them.
        names: Rewards to calibrate; all by default.
        rollouts: For each prompt; by default as the settings say.

    Raises `SettingsError`.
    """
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from server.calibration.filling import calibrate
    from server.http.request_file import policy_prompts
    from server.warmup import warm_up

    loaded = _load(settings, toy=toy)
    try:
        await warm_up(loaded)
        models = loaded.models
        rewards = list(models.resolve_rewards(dict.fromkeys(names or models.rewards, 1.0)))
        if not rewards:
            raise SettingsError("there is no reward to calibrate: name some under rewards")
        count = rollouts or settings.calibration.rollouts
        work = await policy_prompts(bodies, loaded.text)
        width = max(1, settings.server.max_sequences // count)
        with Progress(*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task("Calibrating prompts", total=len(work))
            failures = await calibrate(models, work, rewards, count, width, lambda: bar.advance(task))
    except DecantError as error:
        raise SettingsError(str(error)) from error
    finally:
        await loaded.aclose()
    for failure in failures:
        typer.secho(f"line {failure.line}: {failure.why}", err=True, fg="red")
    typer.echo(f"{len(work) - len(failures)} of {len(work)} prompts have {count} rollouts of {', '.join(rewards)}")
    return 1 if failures else 0


def _load(settings: Settings, *, toy: bool) -> "Loaded":
    from server import loading

    return (
        loading.toy(settings) if toy else loading.build(settings, lambda what: _announce(settings, f"loading {what}"))
    )


def _announce(settings: Settings, what: str, fg: str | None = None) -> None:
    """Say something to whoever started the command; as a line of the log where that is JSON, and no line of text."""
    if settings.logs.format == "json":
        log.info("%s", what)
    else:
        typer.secho(what, err=True, fg=fg)
