"""The whole path of the data: real environments, the training loop, and what the replay holds in the end."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch

from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.core.devices import to_host
from dqn_cli.core.types import Array, IntArray
from dqn_cli.envs.contract import Environments, EnvironmentSpec, StepResult
from dqn_cli.envs.vector import EpisodicVector
from dqn_cli.experiments.audit.recorder import Recorder
from dqn_cli.hardware import Hardware
from dqn_cli.replay.buffer import Replay, replay_bytes
from dqn_cli.schema import RunOptions
from tests.envs.hostile import env_id
from tests.replay.streams import assert_holds_what_happened
from tests.replay.tagged import ENV_ID

CPU = Hardware(torch.device("cpu"), 1, "float32", "contiguous")


class RecordedEnvironments:
    """Environments that tell a recorder everything they return."""

    def __init__(self, environments: Environments, recorder: Recorder) -> None:
        self._environments, self._recorder = environments, recorder
        self._actions: IntArray = np.empty(0, np.int64)
        self.episodes = 0

    @property
    def spec(self) -> EnvironmentSpec:
        return self._environments.spec

    @property
    def observation(self) -> Array:
        return self._environments.observation

    def reset(self) -> Array:
        observation = self._environments.reset()
        self._recorder.begin(observation)
        return observation

    def send(self, actions: IntArray) -> None:
        self._actions = actions.copy()
        self._environments.send(actions)

    def recv(self) -> StepResult:
        result = self._environments.recv()
        self.episodes += len(result.episodes)
        self._recorder.append(self._actions, result)
        return result

    def abandon(self) -> None:
        self._environments.abandon()

    def close(self) -> None:
        self._environments.close()


def training(
    env: dict[str, Any], steps: int, capacity: int, n_step: int, clip: float | None
) -> tuple[Training, Recorder, RecordedEnvironments]:
    options = RunOptions.model_validate(
        {
            "total_steps": steps,
            "env": env,
            "network": {"torso": {"kind": "mlp", "hidden": [4]}},
            "replay": {"capacity": capacity, "warmup_steps": 16, "n_step": n_step, "reward_clip": clip},
            # gamma 0.5 makes every return and discount exact
            "learning": {"batch_size": 4, "gamma": 0.5, "update_every_steps": 64},
        }
    )
    recorder = Recorder(n_step, 0.5, clip)
    environments = RecordedEnvironments(make_environments(options), recorder)
    return make_training(options, CPU, cast("EpisodicVector", environments)), recorder, environments


def assert_within_one_episode(replay: Replay, n_step: int) -> None:
    """For observations (episode, time): both sides are of one episode, as many steps apart as the discount says."""
    items = replay.items.gather(np.arange(replay.items.tail, replay.items.head))
    before, after = (to_host(replay.frames.gather(stack))[:, 0] for stack in (items.stack, items.next_stack))
    steps = after[:, 1].astype(int) - before[:, 1].astype(int)
    assert (before[:, 0] == after[:, 0]).all()
    assert ((steps >= 1) & (steps <= n_step)).all()
    assert ((items.discount == 0.5**steps) | (items.discount == 0)).all()


HOSTILE: dict[str, dict[str, Any]] = {
    "counting": {"id": env_id("Counting"), "kwargs": {"length": 5}},
    "counting, truncated": {"id": env_id("Counting"), "kwargs": {"length": 5, "truncate": True}},
    "one step, truncated": {"id": env_id("Counting"), "kwargs": {"length": 1, "truncate": True}},
    "one step": {"id": env_id("OneStepEpisodes")},
    "time limit": {
        "id": ENV_ID,
        "kwargs": {"longest": 30},
        "wrappers": [{"name": "TimeLimit", "kwargs": {"max_episode_steps": 7}}],
    },
    "any length": {"id": ENV_ID},
}


@pytest.mark.parametrize(("num_envs", "n_step", "clip"), [(1, 3, None), (3, 1, 1.0), (4, 5, 2.0)])
@pytest.mark.parametrize("name", HOSTILE)
def test_the_replay_holds_what_the_environments_said(name, num_envs, n_step, clip):
    run, recorder, environments = training({**HOSTILE[name], "num_envs": num_envs}, 500, 40, n_step, clip)
    for _ in run.loop.run():
        assert_holds_what_happened(run.replay, recorder)
        if name != "one step":
            assert_within_one_episode(run.replay, n_step)
    assert run.learner.updates == (500 - 16) // 64
    assert run.replay.frames.written > 3 * run.replay.frames.capacity
    assert environments.episodes > 10
    assert len(run.replay) == 40


@pytest.mark.parametrize(
    "game",
    [
        # Pong lasts longer than the test: its games are cut.
        {"game": "Pong", "max_episode_frames": 300},
        {"game": "Breakout", "terminal_on_life_loss": True},
    ],
    ids=lambda game: game["game"],
)
def test_stacks_of_the_replay_are_those_of_the_emulator_bit_for_bit(game):
    env = {"kind": "atari", "num_envs": 2, "threads": 1, **game}
    run, recorder, environments = training(env, 600, 64, 3, 1.0)
    for count, _ in enumerate(run.loop.run()):
        if count % 16 == 0:
            assert_holds_what_happened(run.replay, recorder)
    assert_holds_what_happened(run.replay, recorder)
    assert run.replay.frames.written > 5 * run.replay.frames.capacity
    assert environments.episodes >= 2
    assert len(run.replay) >= 60
    environments.close()


@pytest.mark.parametrize(
    ("env", "capacity"),
    [
        ({"id": env_id("Counting"), "num_envs": 4}, 2_000),
        ({"kind": "atari", "game": "Pong", "num_envs": 2, "threads": 1}, 300),
    ],
    ids=["small frames", "Atari"],
)
def test_the_planned_memory_is_that_of_the_arrays(env, capacity):
    run, _, environments = training(env, 500, capacity, 3, None)
    replay, spec = run.replay, environments.spec
    parts = [replay.frames, replay.items, replay._writer]
    arrays = [value for part in parts for value in vars(part).values() if isinstance(value, np.ndarray)]
    planned = replay_bytes(capacity, spec.num_envs, 3 + spec.observation.stack - 1, spec.observation)
    assert planned == pytest.approx(sum(array.nbytes for array in arrays), rel=0.01)
    environments.close()
