"""Small runs that several tests look at."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from dqn_cli.cli.options import presets_folder
from dqn_cli.config.load import load_config
from dqn_cli.plan import Plan, make_plan
from dqn_cli.run import train
from dqn_cli.schema import RunOptions

SMALL = (
    "device=cpu",
    "threads=1",
    "total_steps=800",
    "network.torso.hidden=[16]",
    "replay={capacity: 500, warmup_steps: 100}",
    "learning.batch_size=16",
    "learning.update_every_steps=16",
    "learning.updates=8",
    "exploration.decay_steps=400",
    "evaluation={every_steps: 400, episodes: 3}",
    "checkpoint={every_steps: 200, keep: 2}",
)
"""Overrides that make CartPole a run of less than a second."""

PONG = (
    "device=cpu",
    "threads=1",
    "precision=float32",
    "total_steps=300",
    "env.num_envs=2",
    "env.screen=32",
    "network.torso={kind: cnn, channels: [4], kernels: [8], strides: [4], hidden: [8]}",
    "network.head={kind: scalar, dueling: false}",
    "replay.capacity=400",
    "replay.warmup_steps=100",
    "learning.batch_size=8",
    "evaluation.every_steps=null",
    "checkpoint.every_steps=1000",
)
"""Overrides that make an Atari preset a run of a second or two."""


def small_plan(*overrides: str, config: str = "cartpole") -> Plan:
    """Returns the plan of a preset with overrides."""
    return make_plan(load_config(config, overrides, RunOptions, presets_folder()).options)


@cache
def cartpole_run() -> Path:
    """Returns the folder of a whole small run of CartPole, which no test may change."""
    folder = Path(os.environ["DQN_RUNS_DIR"]) / "small-cartpole"
    train(small_plan(*SMALL), "cartpole", folder, quiet=True)
    return folder


def signalling(monkeypatch: pytest.MonkeyPatch, steps: Collection[int], number: int = signal.SIGINT) -> None:
    """Sends this process a signal in the given steps of any CartPole in it, those of evaluations included."""
    step: Any = CartPoleEnv.step
    taken = [0]

    def signalled(self: Any, action: Any) -> Any:
        taken[0] += 1
        if taken[0] in steps:
            signal.raise_signal(number)
        return step(self, action)

    monkeypatch.setattr(CartPoleEnv, "step", signalled)
