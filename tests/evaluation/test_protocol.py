"""A score carries the protocol it was measured under."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from importlib.metadata import version
from typing import Any

import pytest
import torch

from dqn_cli import evaluate as evaluate_module
from dqn_cli.evaluate import Evaluation, Evaluator
from dqn_cli.evaluation.episodes import PlayedEpisode
from dqn_cli.evaluation.protocol import EvaluationProtocol
from dqn_cli.evaluation.statistics import summarize
from dqn_cli.hardware import Hardware
from dqn_cli.schema import RunOptions

BASE = EvaluationProtocol(
    environment={"id": "CartPole-v1", "kwargs": {}},
    episode_set="evaluation",
    episodes=100,
    epsilon=0.0,
    seed=0,
    max_episode_frames=108_000,
    precision="float32",
    software={"gymnasium": "1.4.0"},
)
OTHER: dict[str, Any] = {
    "environment": {"id": "CartPole-v0", "kwargs": {}},
    "episode_set": "training evaluation",
    "episodes": 99,
    "epsilon": 0.05,
    "seed": 1,
    "max_episode_frames": 18_000,
    "precision": "bfloat16",
    "software": {"gymnasium": "1.4.1"},
}
CPU = Hardware(torch.device("cpu"), 1, "float32", "contiguous")


@pytest.mark.parametrize("name", [field.name for field in fields(EvaluationProtocol)])
def test_another_protocol_has_another_stamp(name):
    assert replace(BASE, **{name: OTHER[name]}).stamp != BASE.stamp


def test_the_stamp_is_a_function_of_the_protocol_alone():
    twin = replace(BASE, environment={"kwargs": {}, "id": "CartPole-v1"})
    assert twin.stamp == BASE.stamp == "630883c6"
    assert BASE.as_dict() == json.loads(json.dumps(BASE.as_dict()))
    assert BASE.as_dict()["stamp"] == BASE.stamp


def protocol(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, purpose: str = "evaluation") -> dict[str, Any]:
    """Returns the protocol of an evaluation with a config, without playing."""

    def played(_environments: Any, _queue: Any, seeds: list[int], *_: Any) -> list[Any]:
        return [PlayedEpisode(seed, 1.0, 1, 1, True) for seed in seeds]

    class NoEnvironments:
        class spec:  # noqa: N801 stands for an attribute
            name, atari_game = "none", None

        def close(self) -> None:
            pass

    monkeypatch.setattr(evaluate_module, "play_episodes", played)
    monkeypatch.setattr(evaluate_module, "make_environments", lambda *_: NoEnvironments())
    options = RunOptions.model_validate(config)
    evaluation = Evaluator(options, CPU, 4, 0.0, 0, purpose).evaluate(torch.nn.Identity())  # type: ignore[arg-type]
    assert evaluation is not None
    found: dict[str, Any] = evaluation.as_dict()["protocol"]
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"num_envs": 3},
        {"vectorization": "async"},
    ],
)
def test_what_no_score_depends_on_is_not_in_the_stamp(change, monkeypatch):
    base = protocol({}, monkeypatch)
    assert protocol({"env": change}, monkeypatch) == base
    assert not set(change) & set(base["environment"])


@pytest.mark.parametrize(
    "change",
    [
        {"id": "CartPole-v0"},
        {"kwargs": {"sutton_barto_reward": True}},
        {"wrappers": [{"name": "TimeLimit", "kwargs": {"max_episode_steps": 5}}]},
    ],
)
def test_what_a_score_depends_on_is(change, monkeypatch):
    assert protocol({"env": change}, monkeypatch)["stamp"] != protocol({}, monkeypatch)["stamp"]


ATARI = {"kind": "atari", "game": "Pong"}


@pytest.mark.parametrize(
    "change", [{"num_envs": 2}, {"threads": 1}, {"terminal_on_life_loss": True}, {"max_episode_frames": 200_000}]
)
def test_what_no_atari_score_depends_on(change, monkeypatch):
    assert protocol({"env": ATARI | change}, monkeypatch) == protocol({"env": ATARI}, monkeypatch)


@pytest.mark.parametrize(
    "change",
    [
        {"game": "Breakout"},
        {"sticky": 0.0},
        {"full_action_set": True},
        {"frame_skip": 2},
        {"stack": 2},
        {"screen": 42},
        {"noop_max": 1},
        {"fire_on_reset": False},
        {"max_episode_frames": 18_000},
    ],
)
def test_what_an_atari_score_depends_on(change, monkeypatch):
    assert protocol({"env": ATARI | change}, monkeypatch)["stamp"] != protocol({"env": ATARI}, monkeypatch)["stamp"]


def test_what_plays_and_how_it_computes_are_in_the_stamp(monkeypatch):
    assert protocol({}, monkeypatch)["precision"] == "float32"
    assert protocol({}, monkeypatch)["software"] == {"gymnasium": version("gymnasium")}
    assert protocol({"env": ATARI}, monkeypatch)["software"] == {"ale-py": version("ale-py")}
    named = {"id": "numpy.random:X-v0", "wrappers": ["pytest:X", "json:Y"]}  # json is no package of its own
    packages = {name: version(name) for name in ("gymnasium", "numpy", "pytest")}
    assert protocol({"env": named}, monkeypatch)["software"] == packages
    half = replace(CPU, precision="bfloat16")
    assert Evaluator(RunOptions(), half, 4, 0.0, 0, "evaluation")._protocol.precision == "bfloat16"


def test_scores_of_training_and_final_scores_are_not_the_same_protocol(monkeypatch):
    training = protocol({}, monkeypatch, "training evaluation")
    assert training["stamp"] != protocol({}, monkeypatch)["stamp"]


def test_stalled_episodes_are_named():
    def episode(frames: int, terminated: bool) -> Any:
        return PlayedEpisode(0, 1.0, frames, frames, terminated)

    episodes = (episode(50, False), episode(50, True), episode(49, False), episode(52, False))
    evaluation = Evaluation(replace(BASE, max_episode_frames=50), episodes, summarize([1.0] * 4), None)
    assert evaluation.as_dict()["stalled"] == evaluation.stalled == 2
    assert "2 episodes ran into" in evaluation.text("x.pt", 1)
    unstalled = Evaluation(BASE, episodes, summarize([1.0] * 4), None)
    assert "ran into" not in unstalled.text("x.pt", 1)
