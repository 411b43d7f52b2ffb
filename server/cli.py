"""The command line: thin."""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvloop

from server.settings import ServerSettings, Settings, SettingsError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Inference-time alignment, served.",
)
keys = typer.Typer(no_args_is_help=True, help="Bearer keys for server.api_keys_file.")
app.add_typer(keys, name="keys")


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="A YAML settings file; the demo models without one.")] = None,
    toy: Annotated[bool, typer.Option("--toy", help="Serve the exact toy: no engine, no weights.")] = False,
    host: Annotated[str | None, typer.Option(help="Overrides server.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Overrides server.port; 0 is a free one.")] = None,
) -> None:
    """Serve a policy and its rewards behind the OpenAI API."""
    signal.signal(signal.SIGTERM, _leave)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        settings = _settings(config, toy=toy)
        override = {k: v for k, v in {"host": host, "port": port}.items() if v is not None}
        server = settings.server.model_copy(update=override)
        server = server.model_validate(server.model_dump())
        alive = uvloop.run(_serve(settings, server, toy=toy))
        raise typer.Exit(0 if alive else 1)
    except SettingsError as error:
        typer.secho(f"decant: {error}", err=True, fg="red")
        raise typer.Exit(2) from error


@app.command()
def demo() -> None:
    """Start a server on the demo models, ask it six prompts in many ways, and show what came back."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from server.demo.show import show
    from server.demo.world import DemoUnavailable

    try:
        raise typer.Exit(show())
    except DemoUnavailable as error:
        typer.secho(f"decant: {error}", err=True, fg="red")
        raise typer.Exit(2) from error


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    file: Annotated[Path, typer.Option(help="The key file; made if need be, readable by you alone.")],
) -> None:
    """Make a key, keep its hash in FILE, and print it this once."""
    from server import auth

    key = auth.new_key()
    try:
        entry = auth.line(name, key)
        handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    except (ValueError, OSError) as error:
        typer.secho(f"decant: {error}", err=True, fg="red")
        raise typer.Exit(2) from error
    with os.fdopen(handle, "a+b") as out:
        size = out.seek(0, os.SEEK_END)
        if size > 0:  # an editor may have left the last line open
            out.seek(size - 1)
            entry = entry if out.read(1) == b"\n" else f"\n{entry}"
        out.write(f"{entry}\n".encode())
    typer.echo(key)


def _settings(config: Path | None, *, toy: bool) -> Settings:
    if toy:
        return Settings.read(config, policy={"model": "toy"})
    if config is not None:
        return Settings.read(config)
    from server.demo.defaults import settings
    from server.demo.world import DemoUnavailable

    typer.secho("No --config: serving the demo models (SmolLM2-135M-Instruct, a sentiment reward).", err=True)
    try:
        return Settings.read(**settings())
    except DemoUnavailable as error:
        raise SettingsError(str(error)) from error


async def _serve(settings: Settings, server: ServerSettings, *, toy: bool) -> bool:
    from server.engines import build
    from server.run import serve as run

    loaded = build.toy() if toy else build.build(settings, lambda what: typer.echo(f"loading {what}", err=True))
    await build.warm(loaded)
    policy = loaded.models.policy
    guides, rewards = (", ".join(names) or "none" for names in (policy.guides, loaded.kinds))

    def started(url: str) -> None:
        what = f"'{policy.name}' (guides: {guides}; rewards: {rewards})"
        typer.secho(f"Decant serves {what} at {url}", err=True, fg="green")

    return await run(loaded, server, started)


def _leave(number: int, frame: object) -> NoReturn:  # noqa: ARG001
    """Told to stop while the engines start: leave in the ordinary way, so that their processes end too."""
    raise SystemExit(128 + number)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
