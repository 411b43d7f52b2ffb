"""The command line: options and exit statuses; `server.commands` has the work."""

import os
import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvloop

from decoders.errors import DecantError
from server import commands, starting
from server.installed import NO_ENGINE, describe, engine
from server.key_commands import keys
from server.settings import LogSettings, Settings, SettingsError
from server.starting import make_demo
from server.telemetry.log_setup import set_up

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Inference-time alignment, served.",
)
app.add_typer(keys, name="keys")


def _version(given: bool) -> None:
    if given:
        typer.echo(describe())
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print versions, and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="A YAML settings file; the demo models without one.")] = None,
    toy: Annotated[bool, typer.Option("--toy", help="Serve the exact toy: no engine, no weights.")] = False,
    host: Annotated[str | None, typer.Option(help="Overrides server.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Overrides server.port; 0 is a free one.")] = None,
) -> None:
    """Serve a policy and its rewards behind the OpenAI API."""
    signal.signal(signal.SIGTERM, _leave)
    set_up(LogSettings())  # until the settings are read
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        settings = _settings(config, toy=toy, host=host, port=port)
        set_up(settings.logs)
        if config is None and not toy:
            typer.secho("No --config: serving the demo models (SmolLM2-135M-Instruct, a sentiment reward).", err=True)
            make_demo()
        alive = uvloop.run(commands.serve(settings, toy=toy))
        raise typer.Exit(0 if alive else 1)
    except SettingsError as error:
        raise _refused(error) from error
    except DecantError as error:
        typer.secho(
            f"decant: the models are loaded, but do not work: {error} The log above says why.", err=True, fg="red"
        )
        raise typer.Exit(1) from error


@app.command()
def check(
    config: Annotated[Path | None, typer.Option(help="A YAML settings file; the demo models without one.")] = None,
    toy: Annotated[bool, typer.Option("--toy", help="Check what `serve --toy` would use.")] = False,
    host: Annotated[str | None, typer.Option(help="Overrides server.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Overrides server.port; 0 is a free one.")] = None,
) -> None:
    """Print what `serve` would refuse to start with, a line each, and start nothing."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        settings = _settings(config, toy=toy, host=host, port=port)
        if config is not None and not toy:
            from server.loading import prepare

            prepare(settings)
    except SettingsError as error:
        raise _refused(error) from error
    typer.echo("nothing wrong was found")


@app.command("vllm-args")
def vllm_args(
    config: Annotated[Path, typer.Option(help="A YAML settings file.")],
) -> None:
    """Print the model and the flags for `vllm serve`, so that Decant works in it, guides included.

    DECANT_CONFIG=decant.yaml VLLM_PLUGINS=decant vllm serve $(decant vllm-args --config decant.yaml)
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        typer.echo(" ".join(commands.vllm_args(_settings(config, toy=False, serving=False))))
    except SettingsError as error:
        raise _refused(error) from error


@app.command()
def calibrate(
    prompts: Annotated[Path, typer.Argument(help="Request bodies, one a line, as they would be POSTed.")],
    config: Annotated[Path | None, typer.Option(help="A YAML settings file; the demo models without one.")] = None,
    toy: Annotated[bool, typer.Option("--toy", help="Use the exact toy: no engine, no weights.")] = False,
    reward: Annotated[list[str] | None, typer.Option(help="A reward to calibrate; all by default.")] = None,
    rollouts: Annotated[int | None, typer.Option(min=1, help="Overrides calibration.rollouts.")] = None,
) -> None:
    """Draw and store the policy samples behind calibrated rewards, ahead of the requests that ask for them."""
    from server.http.request_file import RequestFileError, read_bodies

    signal.signal(signal.SIGTERM, _leave)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        settings = _settings(config, toy=toy, serving=False)
        bodies = read_bodies(prompts, settings.server.body_limits)
        if settings.calibration.store is None:
            raise SettingsError("say where to keep rollouts: calibration.store, or DECANT_CALIBRATION__STORE")
        if config is None and not toy:
            make_demo()
        raise typer.Exit(uvloop.run(commands.fill_store(settings, bodies, reward, rollouts, toy=toy)))
    except SettingsError as error:
        raise _refused(error) from error
    except RequestFileError as error:
        typer.secho(f"decant: {error}", err=True, fg="red")
        raise typer.Exit(2) from error


@app.command()
def demo() -> None:
    """Start a server on the demo models, ask it six prompts in many ways, and show what came back."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if engine() is None:
        raise _refused(SettingsError(NO_ENGINE))
    from server.demo.show import show
    from server.demo.world import DemoUnavailable

    try:
        raise typer.Exit(show())
    except DemoUnavailable as error:
        typer.secho(f"decant: {error}", err=True, fg="red")
        raise typer.Exit(2) from error


def _settings(
    config: Path | None, *, toy: bool, serving: bool = True, host: str | None = None, port: int | None = None
) -> Settings:
    server = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    return starting.settings(config, toy=toy, serving=serving, server=server)


def _refused(error: SettingsError) -> typer.Exit:
    for problem in error.problems:
        typer.secho(f"decant: {problem}", err=True, fg="red")
    return typer.Exit(2)


def _leave(number: int, frame: object) -> NoReturn:  # noqa: ARG001
    """Exit at a signal that comes while the engines start, by an exception, so that their processes end too."""
    raise SystemExit(128 + number)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
