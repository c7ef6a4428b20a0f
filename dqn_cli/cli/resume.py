"""``dqn resume``: go on with a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqn_cli.cli.ending import show, tell, told_where
from dqn_cli.cli.options import Device, Quiet
from dqn_cli.cli.streams import stdout_kept_for_data


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Go on with a run that was stopped or killed, or that has failed.

    It ends with the same bytes as one that was never stopped: networks, optimiser, replay, random numbers, episodes
    and logs go on where the newest whole checkpoint stands; what was logged behind it is done again.
    """
    from dqn_cli.resume import resume as go_on

    with stdout_kept_for_data(), told_where(run):
        outcome = go_on(run, tell, quiet, device)
    show(outcome, quiet)
