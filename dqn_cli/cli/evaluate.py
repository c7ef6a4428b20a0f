"""``dqn eval``: the score of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dqn_cli.cli.options import EvaluationDevice, Json
from dqn_cli.cli.streams import stdout_kept_for_data


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT|RUN", help="A checkpoint file or a run folder.")],
    episodes: Annotated[
        int, typer.Option("--episodes", min=1, max=1_000_000, help="Episodes, a fixed set, all finished.")
    ] = 100,
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", min=0.0, max=1.0, help="Probability of a random action.  [default: the config's]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the set of episodes.")] = 0,
    device: EvaluationDevice = "auto",
    trust: Annotated[
        bool, typer.Option("--trust", help="Import the modules that the checkpoint's environment names.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Play seeded episodes with a trained agent and print its score.

    The episodes are others than those of the evaluations while training. The protocol belongs to the score: two
    scores can be compared if their stamps are equal.
    """
    from dqn_cli.evaluate import final_evaluation
    from dqn_cli.training.checkpoint import read_checkpoint

    read = read_checkpoint(checkpoint)
    with stdout_kept_for_data():
        evaluation = final_evaluation(read, episodes, epsilon, seed, device, trust)
    if as_json:
        typer.echo(json.dumps(evaluation.as_dict() | {"checkpoint": str(read.path), "checkpoint_step": read.step}))
    else:
        typer.echo(evaluation.text(str(read.path), read.step))
