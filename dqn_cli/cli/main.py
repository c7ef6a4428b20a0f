"""The ``dqn`` command."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import typer

from dqn_cli import __version__
from dqn_cli.cli import atari, config, evaluate, plan, train
from dqn_cli.core.errors import DqnError

app = typer.Typer(
    name="dqn",
    help="Train, evaluate and study deep Q-networks.",
    epilog="Start with: dqn train cartpole",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("atari")(atari.atari)
app.command("eval")(evaluate.evaluate)
app.command("plan")(plan.plan)
app.add_typer(config.app, name="config")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"dqn {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Train, evaluate and study deep Q-networks."""


def main() -> None:
    """Runs the command line; every failure is one line and an exit code."""
    try:
        app()
    except DqnError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail("out of memory; a smaller replay.capacity or fewer environments need less", 1)
    except Exception as error:
        _fail(f"internal error: {type(error).__name__}: {error}; {_keep_traceback()}", 1)


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(code)


def _keep_traceback() -> str:
    """Writes the traceback to a file, which a report can hold, and returns what to say of it."""
    if os.environ.get("DQN_DEBUG"):
        traceback.print_exc()
    try:
        descriptor, name = tempfile.mkstemp(prefix="dqn-error-", suffix=".txt")
        with os.fdopen(descriptor, "w") as file:
            traceback.print_exc(file=file)
    except OSError:
        return "this is a defect of dqn: run again with DQN_DEBUG=1 and report what it prints"
    return f"this is a defect of dqn: please report it with {Path(name)}"
