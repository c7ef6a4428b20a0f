"""What only learning shows: whole runs of small configs, whose right values are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.evaluate import Evaluator
from dqn_cli.hardware import Hardware
from dqn_cli.schema import RunOptions
from tests.envs.hostile import env_id

CPU = Hardware(torch.device("cpu"), 1, "float32", "contiguous")
GAMMA = 0.8


def trained(config: dict[str, Any]) -> tuple[Training, RunOptions]:
    options = RunOptions.model_validate(config)
    environments = make_environments(options)
    training = make_training(options, CPU, environments)
    for _ in training.loop.run():
        pass
    environments.close()
    return training, options


def small(name: str, n_step: int, **kwargs: Any) -> dict[str, Any]:
    """A config that finds the values of a tiny environment by random play: 600 updates, 60 copies of the network."""
    return {
        "total_steps": 1_600,
        "env": {"id": env_id(name), "num_envs": 4, "kwargs": kwargs},
        "network": {"torso": {"kind": "mlp", "hidden": [16]}},
        "replay": {"capacity": 1_600, "warmup_steps": 400, "n_step": n_step},
        "learning": {
            "batch_size": 32,
            "gamma": GAMMA,
            "update_every_steps": 4,
            "updates": 2,
            "loss": "squared",
            "optimizer": {"kind": "adam", "lr": 0.02},
            "lr_schedule": {"end_factor": 0.05},
            "target": {"kind": "periodic", "every_updates": 10},
        },
        "exploration": {"start": 1.0, "end": 1.0},
        "evaluation": {"every_steps": None},
    }


def values(training: Training, observations: Any) -> Any:
    """Returns the values ``[B, A]`` of ``observations [B, features]``."""
    with torch.no_grad():
        return training.learner.online(torch.tensor(observations)[:, None]).values().numpy()


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_time_limit_does_not_end_the_value(n_step):
    """Reward 1 for ever: Q is 1 / (1 - gamma), whatever the limit of 10 steps cuts.

    With the cut taken for an end Q would be about 3.5; with no bootstrap over it, less.
    """
    training, _ = trained(small("OneState", n_step))
    assert training.learner.updates == 600
    assert values(training, [[1.0]]) == pytest.approx(1 / (1 - GAMMA), rel=0.03)


@pytest.mark.parametrize("n_step", [1, 3, 5])
def test_a_reward_for_the_last_step_alone_is_learnt(n_step):
    """Q(t) is gamma^(length - t - 1), which nobody learns who drops the last transition or bootstraps past it."""
    length = 4
    training, _ = trained(small("LastStepReward", n_step, length=length))
    times = np.arange(length)
    observations = (1 - times / length).astype(np.float32)[:, None]
    expected = GAMMA ** (length - times - 1.0)
    np.testing.assert_allclose(values(training, observations), np.stack([expected] * 2, axis=1), atol=0.05)


def test_episodes_of_one_step_are_learnt():
    """Action 1 is worth 1, action 0 nothing: the successor of the only step has no say."""
    training, _ = trained(small("OneStepEpisodes", 3))
    np.testing.assert_allclose(values(training, np.array([[1, 0]], np.float32)), [[0.0, 1.0]], atol=0.05)


def test_cartpole_is_far_better_than_random_after_6000_steps():
    """Random play scores about 22."""
    training, options = trained(
        {
            "total_steps": 6_000,
            "env": {"id": "CartPole-v1", "num_envs": 4},
            "network": {"torso": {"kind": "mlp", "hidden": [64, 64]}},
            "replay": {"capacity": 6_000, "warmup_steps": 500},
            "learning": {
                "batch_size": 64,
                "update_every_steps": 128,
                "updates": 48,
                "optimizer": {"kind": "adam", "lr": 2.3e-3},
                "target": {"kind": "periodic", "every_steps": 10},
            },
            "exploration": {"start": 1.0, "end": 0.05, "begin_steps": 0, "decay_steps": 3_000},
            "evaluation": {"every_steps": None},
        }
    )
    evaluator = Evaluator(options, CPU, episodes=10, epsilon=0.0, seed=0, purpose="test")
    evaluation = evaluator.evaluate(training.learner.online)
    assert evaluation is not None
    assert evaluation.summary.return_mean > 60
