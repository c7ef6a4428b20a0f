"""Plays the episode again in which an environment ended a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dqn_cli.compose import make_environments
from dqn_cli.config.load import load_config
from dqn_cli.core.errors import BrokenEnvironmentError, UsageError, one_line, told
from dqn_cli.schema import RunOptions
from dqn_cli.training.run_folder import FAILURE

_SHOWN = 10
_MOST_CHARACTERS = 1_000
_MOST_BYTES = 100 << 20
_SEEDS = 1 << 31


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
        latest: The latest steps: number, action, reward; none where the first reset failed.
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
            what = f"all {self.of_steps:,} steps" if self.of_steps else "the reset"
            verdict = (
                f"{what} went well this time: the environment does not depend on its seed and actions alone, or the "
                "failure came from outside, such as a process that was killed"
            )
        return "\n".join([*lines, *([""] if self.latest else []), verdict])


def play_again(run: Path, presets: Path) -> PlayedAgain:
    """Plays the failed episode of a run again, from the seed of its lineage on.

    Args:
        run: The run folder.
        presets: Folder of the presets.

    Raises:
        UsageError: No environment failed in this run, or its files are missing or damaged.
    """
    if not run.is_dir():
        raise UsageError(f"there is no run folder {run}")
    failure = _read(run / FAILURE)
    config = run / "config.yaml"
    if not config.is_file():
        raise UsageError(f"there is no {config}: {run} is no whole run folder")
    options: RunOptions = load_config(str(config), [], RunOptions, presets).options
    alone = options.model_copy(update={"env": options.env.model_copy(update={"num_envs": 1})})
    environments = make_environments(alone, OneLineage(failure.seed))
    latest: list[tuple[int, int, float]] = []
    taken, found = 0, None
    try:
        most = environments.spec.num_actions
        foreign = next((action for action in failure.actions if action >= most), None)
        if foreign is not None:
            raise UsageError(f"{run / FAILURE} is damaged: action {_brief(foreign)} is not in 0 to {most - 1}")
        environments.reset()
        for action in failure.actions:
            environments.send(np.array([action]))
            reward = float(environments.recv().reward[0])
            latest = [*latest[1 - _SHOWN :], (taken, action, reward)]
            taken += 1
    except BrokenEnvironmentError as again:
        found = one_line(str(again), _MOST_CHARACTERS)
    finally:
        environments.close()
    return PlayedAgain(one_line(failure.message, _MOST_CHARACTERS), found, taken, len(failure.actions), latest)


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a run left: its message, the seed of the lineage, and all actions since."""

    message: str
    seed: int
    actions: list[int]


def _read(path: Path) -> _Failure:
    if not path.is_file():
        raise UsageError(f"there is no {path}: no environment failed in this run")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} is larger than {_MOST_BYTES >> 20} MB: no run wrote that")
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {path}: {told(error)}") from error
    found = content if isinstance(content, dict) else {}
    message, seed, actions = found.get("message"), found.get("seed"), found.get("actions")
    if not isinstance(message, str):
        problem = "it holds no message"
    elif type(seed) is not int or not 0 <= seed < _SEEDS:
        problem = f"its seed is {_brief(seed)}, not in 0 to {_SEEDS - 1}"
    elif not isinstance(actions, list) or any(type(action) is not int or action < 0 for action in actions):
        problem = "its actions are no list of numbers from 0"
    else:
        return _Failure(message, seed, actions)
    raise UsageError(f"{path} is damaged: {problem}")


def _brief(value: Any) -> str:
    return one_line(str(value), 40)
