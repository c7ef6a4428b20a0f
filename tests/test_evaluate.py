"""Evaluation of networks and checkpoints."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from dqn_cli import evaluate as evaluate_module
from dqn_cli.compose import environment_spec, make_network
from dqn_cli.core.errors import RunError, UsageError
from dqn_cli.evaluate import Evaluation, Evaluator, checkpoint_options, final_evaluation, load_network
from dqn_cli.evaluation.episodes import episode_seeds
from dqn_cli.hardware import Hardware
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.schema import RunOptions
from dqn_cli.training.checkpoint import read_checkpoint
from dqn_cli.training.weights import load_weights
from tests.envs.hostile import env_id
from tests.small_runs import cartpole_run

CPU = Hardware(torch.device("cpu"), 1, "float32", "contiguous")


def made(config: dict[str, Any]) -> tuple[RunOptions, QNetwork]:
    options = RunOptions.model_validate(config)
    return options, make_network(options, environment_spec(options), CPU)


def balancing() -> tuple[RunOptions, QNetwork]:
    """A network that pushes CartPole's cart to where the pole falls, whose arithmetic is exact enough."""
    options, network = made({"network": {"torso": {"kind": "mlp", "hidden": []}}})
    (weight, bias) = network.state_dict().values()
    with torch.no_grad():
        weight.copy_(torch.tensor([[0.0, 0.0, -1.0, 0.0], [0.0, 0.0, 1.0, 0.0]]))
        bias.zero_()
    return options, network


def evaluated(options: RunOptions, network: QNetwork, episodes: int = 6, **changes: Any) -> Evaluation:
    arguments: dict[str, Any] = {"epsilon": 0.0, "seed": 0, "purpose": "evaluation"} | changes
    evaluation = Evaluator(options, CPU, episodes, **arguments).evaluate(network)
    assert evaluation is not None
    return evaluation


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_the_score_does_not_depend_on_how_many_play_at_once(monkeypatch, epsilon):
    options, network = balancing()
    scores = []
    for parallel, num_envs in ((1, 1), (3, 5), (16, 2)):
        monkeypatch.setattr(evaluate_module, "MAX_PARALLEL", parallel)
        environment = options.env.model_copy(update={"num_envs": num_envs})
        scores.append(evaluated(options.model_copy(update={"env": environment}), network, epsilon=epsilon))
    assert all(score.as_dict() == scores[0].as_dict() for score in scores)
    assert len(set(scores[0].as_dict()["returns"])) > 1


def test_a_bimodal_environment_is_not_biased(monkeypatch):
    monkeypatch.setattr(evaluate_module, "MAX_PARALLEL", 8)
    options, network = made({"env": {"id": env_id("Bimodal")}})
    evaluation = evaluated(options, network, episodes=12)
    seeds = episode_seeds(0, 12, "evaluation")
    lengths = [(2, 40)[int(np.random.Generator(np.random.PCG64(seed)).integers(2))] for seed in seeds]
    assert evaluation.as_dict()["lengths"] == lengths
    assert evaluation.summary.return_mean == pytest.approx(np.mean(lengths))


def test_an_environment_that_never_ends(monkeypatch):
    monkeypatch.setattr(evaluate_module, "MAX_EPISODE_FRAMES", 50)
    options, network = made({"env": {"id": env_id("NeverEnds")}})
    evaluation = evaluated(options, network, episodes=3)
    assert evaluation.as_dict()["lengths"] == [50] * 3
    assert evaluation.stalled == 3
    assert evaluation.protocol.max_episode_frames == 50


@pytest.mark.parametrize("mode", [True, False])
def test_the_network_plays_in_evaluation_mode_and_gets_its_mode_back(mode):
    options, network = made({"env": {"id": env_id("LastStepReward")}})
    modes = []
    network.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    network.train(mode)
    evaluated(options, network)
    assert network.training is mode
    assert set(modes) == {False}


def test_the_mode_comes_back_after_a_failure_too():
    options, network = made({"env": {"id": env_id("RaisesInStep")}})
    network.train()
    with pytest.raises(RunError, match="boom"):
        evaluated(options, network)
    assert network.training


def test_it_can_be_stopped():
    options, network = made({"env": {"id": env_id("NeverEnds")}})
    asked = iter([False, False, True])
    assert Evaluator(options, CPU, 2, 0.0, 0, "evaluation").evaluate(network, lambda: next(asked)) is None


class NotANumber(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The reward is NaN."""

    def step(self, action: Any) -> Any:
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, math.nan, terminated, truncated, info


def test_a_return_that_is_no_number_is_an_error_that_says_where():
    wrapper = {"name": f"{__name__}:NotANumber"}
    options, network = made({"env": {"id": env_id("LastStepReward"), "wrappers": [wrapper]}})
    with pytest.raises(RunError, match=r"environment 0 gave the reward nan \(episode 0, step 0, .*lineage seed \d+"):
        evaluated(options, network)


def test_raw_scores_of_an_atari_game():
    """Rewards are those of the emulator: Qbert pays 25 a cube, which clipping would make 1."""
    config = {
        "env": {"kind": "atari", "game": "Qbert", "screen": 16, "stack": 1, "max_episode_frames": 1_600, "sticky": 0.0},
        "network": {"torso": {"kind": "mlp", "hidden": []}},
        "replay": {"reward_clip": 1.0},
    }
    options, network = made(config)
    evaluation = evaluated(options, network, episodes=2, epsilon=1.0)
    scores = [episode.score for episode in evaluation.episodes]
    assert max(scores) >= 25
    assert all(score % 25 == 0 for score in scores)
    assert evaluation.human_normalized == pytest.approx((np.mean(scores) - 163.9) / (13455.0 - 163.9))
    assert all(episode.frames <= 1_600 + 4 for episode in evaluation.episodes)


def test_training_and_final_evaluations_play_other_episodes():
    checkpoint = read_checkpoint(cartpole_run())
    final = final_evaluation(checkpoint, 3, None, 0, "cpu")
    options = checkpoint_options(checkpoint, "cpu")
    network = made({"network": {"torso": {"kind": "mlp", "hidden": [16]}}})[1]
    load_weights(network, checkpoint, "this config describes")
    again = evaluated(options, network, episodes=3)
    training = evaluated(options, network, episodes=3, purpose="training evaluation")
    assert again.as_dict() == final.as_dict()
    seeds = {episode.seed for episode in final.episodes}
    assert not seeds & {episode.seed for episode in training.episodes}
    assert final.protocol.stamp != training.protocol.stamp


def test_epsilon_is_that_of_the_config_unless_it_is_given():
    checkpoint = read_checkpoint(cartpole_run())
    checkpoint.config["evaluation"] |= {"epsilon": 0.25}
    assert final_evaluation(checkpoint, 1, None, 0, "cpu").protocol.epsilon == 0.25
    assert final_evaluation(checkpoint, 1, 0.0, 0, "cpu").protocol.epsilon == 0.0


@pytest.mark.parametrize(("trained", "expected"), [("float32", "float32"), ("bfloat16", "auto"), ("auto", "auto")])
def test_options_of_another_machine(trained, expected):
    checkpoint = read_checkpoint(cartpole_run())
    atari = {"env": {"kind": "atari", "game": "Pong"}, "network": {"torso": {"kind": "cnn"}}}
    config = atari | {"precision": trained, "threads": 96, "memory_format": "channels_last", "device": "cuda:3"}
    options = checkpoint_options(replace(checkpoint, config=config), "cpu")
    assert (options.device, options.threads, options.memory_format) == ("cpu", "auto", "auto")
    assert options.precision == expected


def test_emulator_threads_are_those_of_the_machine_at_hand():
    checkpoint = read_checkpoint(cartpole_run())
    config = {"env": {"kind": "atari", "game": "Pong", "threads": 96}, "network": {"torso": {"kind": "cnn"}}}
    assert getattr(checkpoint_options(replace(checkpoint, config=config), "cpu").env, "threads") == "auto"  # noqa: B009


def test_weights_that_do_not_fit_are_not_half_loaded():
    checkpoint = read_checkpoint(cartpole_run())
    _, network = made({"network": {"torso": {"kind": "mlp", "hidden": [17]}}})
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UsageError, match=r"this config describes: .* is \[16, 4\] in the file, \[17, 4\] in"):
        load_weights(network, checkpoint, "this config describes")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_on_a_device_that_nothing_is_proven_on_no_network_is_written_out(monkeypatch):
    """Training tries its network there; an evaluation takes the plain one, which says the same."""
    checkpoint = read_checkpoint(cartpole_run())
    expected = final_evaluation(checkpoint, 3, None, 0, "cpu").as_dict()
    monkeypatch.setattr(evaluate_module, "is_unproven", lambda hardware: True)
    network = load_network(checkpoint, checkpoint_options(checkpoint, "cpu"), CPU)
    assert network.written_out is None
    assert final_evaluation(checkpoint, 3, None, 0, "cpu").as_dict() == expected
