"""Recorded gradients and actions against the plain ones, with a recorder that needs no GPU."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from dqn_cli import compose
from dqn_cli.agent.actor import greedy_values
from dqn_cli.agent.captured import CapturedGradient
from dqn_cli.agent.gradient import Gradient
from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.config import load_config
from dqn_cli.core.rounding import TOLERANCE
from dqn_cli.hardware import resolve_hardware
from dqn_cli.plan import make_plan
from dqn_cli.run import train
from dqn_cli.schema import RunOptions
from tests.core.test_captured import refusing, stale
from tests.recording import repeating

SMALL = (
    "device=cpu",
    "total_steps=120",
    "replay.warmup_steps=40",
    "evaluation.every_steps=null",
    "learning.update_every_steps=4",
    "learning.updates=1",
    "exploration.start=0.5",
)


def trained(preset: str, *overrides: str) -> Training:
    options = load_config(preset, [*SMALL, *overrides], RunOptions, presets_folder()).options
    environments = make_environments(options)
    try:
        training = make_training(options, resolve_hardware(options), environments)
        for _ in training.loop.run():
            pass
    finally:
        environments.close()
    return training


def assert_same(one: Training, other: Training) -> None:
    expected, found = one.learner.state_dict(), other.learner.state_dict()
    for network in ("online", "target", "streams"):
        for name, value in expected[network].items():
            assert torch.equal(found[network][name], value), name
    assert found["updates"] == expected["updates"] > 8
    assert torch.equal(found["sums"], expected["sums"])


@pytest.mark.parametrize("preset", ["cartpole/rainbow", "cartpole/munchausen"])
def test_a_run_whose_kernels_are_recorded_is_the_same_run(monkeypatch, preset):
    """Noise, random fractions, a step size that falls, priorities, and a target that moves."""
    overrides = ("learning.lr_schedule={kind: linear}", "learning.target={every_updates: 7, every_steps: null}")
    plain = trained(preset, *overrides)
    monkeypatch.setattr(compose, "_recorder", lambda *_: repeating)
    recorded = trained(preset, *overrides)
    assert isinstance(recorded.learner._gradient, CapturedGradient)
    assert recorded.notices == []
    assert_same(plain, recorded)


def assert_answers_alike(training: Training) -> None:
    """Gradients and actions of the recording against those of the kernels one by one, on a batch it never saw."""
    learner, network = training.learner, training.learner.online
    recorded = learner._gradient
    assert isinstance(recorded, CapturedGradient)
    batch = training.replay.sample(training.loop._batch_size, 0)
    before, streams = copy.deepcopy(network.state_dict()), [network.generator, learner.target.generator]
    drawn = [stream.get_state() for stream in streams]

    def gradients(gradient: Gradient) -> list[torch.Tensor]:
        network.load_state_dict(before)  # some buffers change with each use
        for stream, state in zip(streams, drawn, strict=True):
            stream.set_state(state)
        gradient(batch, 1, lambda: None)
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    found, expected = gradients(recorded), gradients(recorded._gradient)
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=TOLERANCE * float(theirs.abs().max()))

    rows = batch.observation[: training.environments.spec.num_envs]
    actions, values = training.actor._greedy(rows), greedy_values(network, rows)[1]
    least = values.max(1).values - TOLERANCE * values.abs().max()
    assert (values.gather(1, actions[:, None])[:, 0] >= least).all()


@pytest.mark.parametrize("preset", ["cartpole/rainbow", "cartpole/iqn"])
def test_long_after_it_was_made_a_recording_answers_as_plain_kernels_do(monkeypatch, preset):
    monkeypatch.setattr(compose, "_recorder", lambda *_: repeating)
    assert_answers_alike(trained(preset, "learning.target={every_updates: 7, every_steps: null}"))


@pytest.mark.parametrize("record", [stale, refusing])
def test_one_that_fails_is_the_same_run_and_says_so(monkeypatch, record):
    plain = trained("cartpole/iqn", "total_steps=80")
    monkeypatch.setattr(compose, "_recorder", lambda *_: record)
    failed = trained("cartpole/iqn", "total_steps=80")
    assert [notice.partition(":")[0] for notice in failed.notices] == ["acting", "updates"]
    assert_same(plain, failed)


def test_the_run_s_warnings_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(compose, "_recorder", lambda *_: refusing)
    overrides = (*SMALL, "total_steps=60", "evaluation.episodes=1", "env.vectorization=sync")
    options = load_config("cartpole/iqn", list(overrides), RunOptions, presets_folder()).options
    train(make_plan(options), "iqn", tmp_path / "run", quiet=True)
    warnings = [json.loads(line) for line in (tmp_path / "run" / "warnings.jsonl").read_text().splitlines()]
    assert "cannot be recorded" in str(warnings)
    assert "fast_path" in str(warnings)
    assert len([warning for warning in warnings if "updates: " in str(warning)]) == 1


def test_without_a_gpu_or_without_being_asked_nothing_is_recorded():
    for asked in ("true", "false"):
        training = trained("cartpole/iqn", f"cuda_graphs={asked}", "total_steps=50")
        assert not isinstance(training.learner._gradient, CapturedGradient)
    options = RunOptions.model_validate({"cuda_graphs": True, "device": "cuda"})
    hardware = replace(resolve_hardware(RunOptions(device="cpu")), device=torch.device("cuda"))
    assert compose._recorder(options, hardware) is not None
    assert compose._recorder(options.model_copy(update={"cuda_graphs": False}), hardware) is None


def test_one_batch_at_a_time(monkeypatch):
    monkeypatch.setattr(compose, "_recorder", lambda *_: repeating)
    training = trained("cartpole-classic", "total_steps=50")
    assert training.learner.most_at_once == 1
    batch = training.replay.sample(8, 0)
    with pytest.raises(ValueError, match="one batch at a time, got 2"):
        training.learner._gradient(batch, 2, lambda: None)
