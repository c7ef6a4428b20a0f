"""Plays the episode again in which an environment ended a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dqn_cli.compose import make_environments
from dqn_cli.config.load import load_config
from dqn_cli.core.errors import BrokenEnvironmentError, UsageError
from dqn_cli.schema import RunOptions
from dqn_cli.training.run_folder import FAILURE

_SHOWN = 10


class OneLineage:
    """Seeds the first episode and lets the others follow; implements ``SeedPolicy``."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def next_seed(self, env_index: int, episode: int, lineage_steps: int) -> int | None:  # noqa: ARG002
        """Returns the seed at the first episode, None at those that follow."""
        return self._seed if episode == 0 else None


@dataclass(frozen=True, slots=True)
class PlayedAgain:
    """How a failed episode came out the second time.

    Attributes:
        told: What the run said.
        found: What happened now; None if nothing failed.
        steps: Steps of the lineage that could be taken, of how many.
        of_steps: Steps of the lineage, the failed one included.
        latest: The latest steps: number, action, reward.
    """

    told: str
    found: str | None
    steps: int
    of_steps: int
    latest: list[tuple[int, int, float]]

    def text(self) -> str:
        """Returns it for people."""
        lines = [f"the run said: {self.told}", ""]
        lines += [f"  step {step:>7,}  action {action:>3}  reward {reward:g}" for step, action, reward in self.latest]
        if self.found is not None:
            verdict = f"failed again after {self.steps:,} of {self.of_steps:,} steps: {self.found}"
        else:
            verdict = (
                f"all {self.of_steps:,} steps went well this time: the environment does not depend on its seed and "
                "actions alone, or the failure came from outside, such as a process that was killed"
            )
        return "\n".join([*lines, "", verdict])


def play_again(run: Path, presets: Path) -> PlayedAgain:
    """Plays the failed episode of a run again, from the seed of its lineage on.

    Args:
        run: The run folder.
        presets: Folder of the presets.

    Raises:
        UsageError: No environment failed in this run, or its files are damaged.
    """
    failure = _read(run / FAILURE)
    options: RunOptions = load_config(str(run / "config.yaml"), [], RunOptions, presets).options
    alone = options.model_copy(update={"env": options.env.model_copy(update={"num_envs": 1})})
    environments = make_environments(alone, OneLineage(failure["seed"]))
    latest: list[tuple[int, int, float]] = []
    taken, found = 0, None
    try:
        environments.reset()
        for action in failure["actions"]:
            environments.send(np.array([action]))
            reward = float(environments.recv().reward[0])
            latest = [*latest[1 - _SHOWN :], (taken, action, reward)]
            taken += 1
    except BrokenEnvironmentError as again:
        found = str(again)
    finally:
        environments.close()
    return PlayedAgain(failure["message"], found, taken, len(failure["actions"]), latest)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"there is no {path}: no environment failed in this run") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    actions = content.get("actions") if isinstance(content, dict) else None
    whole = isinstance(actions, list) and all(type(action) is int and action >= 0 for action in actions)
    if not whole or type(content.get("seed")) is not int or not isinstance(content.get("message"), str):
        raise UsageError(f"{path} is damaged: it does not hold a message, a seed and actions")
    return dict(content)
