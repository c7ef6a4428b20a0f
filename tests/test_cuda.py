"""What only a CUDA GPU can show; `make test-cuda` runs these."""

import pytest
import torch

from dqn_cli.agent.learner import Learner
from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import make_environments, make_training
from dqn_cli.config import load_config
from dqn_cli.hardware import resolve_hardware
from dqn_cli.schema import RunOptions

pytestmark = pytest.mark.cuda


def _train(preset: str, *overrides: str) -> Learner:
    small = ["total_steps=800", "replay.capacity=600", "replay.warmup_steps=200", "evaluation.every_steps=null"]
    options = load_config(preset, [*small, "device=cuda", *overrides], RunOptions, presets_folder()).options
    hardware = resolve_hardware(options)
    hardware.apply()
    environments = make_environments(options)
    try:
        training = make_training(options, hardware, environments)
        for _ in training.loop.run():
            pass
    finally:
        environments.close()
    return training.learner


@pytest.mark.parametrize("preset", ["cartpole-classic", "atari/nature", "atari/default"])
def test_trains_on_cuda(preset):
    learner = _train(preset)
    assert learner.updates > 0
    assert all(parameter.is_cuda for parameter in learner.online.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in learner.online.parameters())


def test_first_losses_are_those_of_the_cpu():
    short = ("total_steps=240", "precision=float32")
    on_gpu = _train("cartpole-classic", *short).report()["loss"]
    on_cpu = _train("cartpole-classic", *short, "device=cpu").report()["loss"]
    assert on_gpu == pytest.approx(on_cpu, rel=1e-3)
