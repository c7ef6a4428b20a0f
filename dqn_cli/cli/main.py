"""The ``dqn`` command."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from dqn_cli import __version__
from dqn_cli.cli import atari, audit, bench, config, evaluate, plan, resume, train
from dqn_cli.core.errors import DqnError, is_out_of_memory

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
app.command("resume")(resume.resume)
app.command("eval")(evaluate.evaluate)
app.command("plan")(plan.plan)
app.command("audit")(audit.audit)
app.command("bench")(bench.bench)
app.add_typer(config.app, name="config")

# What the parser of the command line raises; Typer gives it no public name, and its base class changed place.
_ParserError: type[Exception] = typer.BadParameter.__bases__[0]


_MOST_CHARACTERS = 2_000
_STOPPED_BY_A_SIGNAL = (129, 130, 143)


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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits; every failure is one line and an exit code.

    Args:
        arguments: What follows ``dqn``; None: the arguments of this process.
    """
    try:
        code = app(arguments, prog_name="dqn", standalone_mode=False)
    except DqnError as error:
        _fail(str(error), error.exit_code)
    except _ParserError as error:
        _refuse(error)
    except typer.Abort:
        sys.exit(130)
    except MemoryError:
        _fail("out of memory; a smaller replay.capacity or fewer environments need less", 1)
    except Exception as error:
        if is_out_of_memory(error):
            _fail(f"out of memory: {_one_line(error)}; a smaller network or learning.batch_size needs less", 1)
        _fail(f"internal error: {type(error).__name__}: {_one_line(error)}; {_keep_traceback()}", 1)
    sys.exit(code or 0)


def script() -> NoReturn:
    """The ``dqn`` command: as `main`, and after a signal gone at once.

    Python and its libraries take seconds to tear down a training on a busy machine. Everything is saved and closed by
    then, and who sent the signal may not wait.
    """
    _catch_early_signals()
    try:
        main()
    except SystemExit as end:
        if end.code not in _STOPPED_BY_A_SIGNAL:
            raise
        if "multiprocessing.util" in sys.modules:  # else its tracker of resources complains of what is left
            sys.modules["multiprocessing.util"]._run_finalizers()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # its reader is gone
                stream.flush()
        os._exit(end.code)


def _catch_early_signals() -> None:
    """Gives signals their exit codes from the first moment: a run listens only once torch has been imported.

    SIGINT is Python's ``KeyboardInterrupt`` all along; a signal that was ignored before stays so.
    """
    handlers = {signal.SIGTERM: _leave, signal.SIGHUP: _leave, signal.SIGUSR1: _nothing_to_save}
    for number, handler in handlers.items():
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 a handler is called so
    # Not through sys.stderr: its lock may be held by what this interrupts.
    with contextlib.suppress(OSError):
        os.write(2, b"stopped at once\n")
    os._exit(128 + number)


def _nothing_to_save(number: int, frame: FrameType | None) -> None:
    """Is the handler of SIGUSR1 where there is no run: it saves a run, and does not end a process."""


def _refuse(error: Any) -> NoReturn:
    """Says what is wrong with a command line."""
    message = error.format_message()
    if "\n" in message:  # nothing was asked for: the message is the help
        typer.echo(message, err=True)
        sys.exit(2)
    command = error.ctx.command_path if error.ctx is not None else "dqn"
    _fail(f"{message}{'' if message.endswith(('.', '?')) else '.'} See '{command} --help'", 2)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"error: {_printable(message)}", err=True)
    sys.exit(code)


def _printable(message: str) -> str:
    """Returns a message without what a terminal would obey: parts of it may be a stranger's words."""
    lines = []
    for line in message.split("\n"):
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        # Both ends: what is wrong stands at one, what to do at the other.
        half = _MOST_CHARACTERS // 2
        lines.append(shown if len(shown) <= _MOST_CHARACTERS else f"{shown[:half]} ... {shown[-half:]}")
    return "\n".join(lines)


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
    return f"this is a defect of dqn: please report it with {name}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
