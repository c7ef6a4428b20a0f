"""``dqn atari``: train on an Atari game."""

from __future__ import annotations

from typing import Annotated

import typer

from dqn_cli.cli.options import Device, Init, Overrides, Quiet, Resume, RunDir, Seed, with_shortcuts
from dqn_cli.cli.train import start


def atari(
    game: Annotated[str, typer.Option("--game", help="The game: Pong, ms_pacman, ALE/Breakout-v5, ...")],
    overrides: Overrides = None,
    preset: Annotated[
        str, typer.Option("--preset", help="A preset of configs/atari: default, nature, ...")
    ] = "default",
    run_dir: RunDir = None,
    seed: Seed = None,
    device: Device = None,
    init: Init = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train an agent on an Atari game.

    The same as: dqn train atari/PRESET env.game=GAME
    """
    from dqn_cli.envs.atari import canonical_game

    rom, display_name = canonical_game(game)
    name = rom if preset == "default" else f"{rom}-{preset.replace('/', '-')}"
    changes = with_shortcuts([f"env.game={display_name}", *(overrides or [])], seed, device)
    start(f"atari/{preset}", changes, run_dir, init, resume, quiet, name)
