"""Recorded gradients and actions against the plain ones, with a recorder that needs no GPU."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from dqn_cli import compose
from dqn_cli.agent.captured import CapturedGradient
from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.config import load_config
from dqn_cli.hardware import resolve_hardware
from dqn_cli.plan import make_plan
from dqn_cli.run import train
from dqn_cli.schema import RunOptions
from tests.core.test_captured import refusing, repeating, stale

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
    assert "cuda_graphs" in str(warnings)
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
