"""What the commands that train say while a run begins and when it ends."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:  # importing it imports torch
    from dqn_cli.run import Outcome


def tell(note: str) -> None:
    """Prints a note for people on stderr."""
    typer.echo(f"{'note':>12}  {note}", err=True)


@contextmanager
def told_where(run_dir: Path) -> Iterator[None]:
    """Says what is left of a run when a second Ctrl-C ends it in the block."""
    try:
        yield
    except KeyboardInterrupt:  # main() knows its exit code
        if (run_dir / "checkpoints").is_dir():
            left = f"what was saved before is in {run_dir}; go on: dqn resume {shlex.quote(str(run_dir))}"
        else:
            left = "nothing had begun"
        typer.echo(f"stopped at once; {left}", err=True)
        raise


def show(outcome: Outcome, quiet: bool) -> None:
    """Prints how a run ended for people, and its folder for programs; exits where a signal ended it."""
    if not quiet:
        typer.echo(outcome.text(), err=True)
    typer.echo(str(outcome.run_dir))
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)
