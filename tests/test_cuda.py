"""What only a CUDA GPU can show; `make test-cuda` runs these."""

import numpy as np
import pytest
import torch

from dqn_cli.agent.captured import CapturedGradient
from dqn_cli.agent.gradient import AutogradGradient, WrittenOutGradient
from dqn_cli.agent.learner import Learner
from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.config import load_config
from dqn_cli.core.captured import Captured, cuda_graph
from dqn_cli.core.devices import to_device
from dqn_cli.hardware import resolve_hardware
from dqn_cli.replay.device_sum_tree import DeviceSumTree
from dqn_cli.replay.sum_tree import SumTree
from dqn_cli.schema import RunOptions
from tests.agent.test_captured import assert_answers_alike

pytestmark = pytest.mark.cuda

CUDA = torch.device("cuda")


def _options(preset: str, *overrides: str) -> RunOptions:
    small = ["total_steps=800", "replay.capacity=600", "replay.warmup_steps=200", "evaluation.every_steps=null"]
    return load_config(preset, [*small, "device=cuda", *overrides], RunOptions, presets_folder()).options


def _train(preset: str, *overrides: str) -> Learner:
    return _trained(_options(preset, *overrides)).learner


def _trained(options: RunOptions) -> Training:
    hardware = resolve_hardware(options)
    hardware.apply()
    environments = make_environments(options)
    try:
        training = make_training(options, hardware, environments)
        for _ in training.loop.run():
            pass
    finally:
        environments.close()
    return training


WRITTEN_OUT = ["cartpole-classic", "cartpole", "cartpole/double", "cartpole/dueling", "cartpole/munchausen"]


@pytest.mark.parametrize("preset", [*WRITTEN_OUT, "atari/nature", "atari/default"])
def test_trains_on_cuda(preset):
    training = _trained(_options(preset))
    assert training.notices == []
    learner = training.learner
    # Written-out gradients were compared with autograd's, and are what is used.
    assert isinstance(learner._gradient, WrittenOutGradient) is (preset in WRITTEN_OUT)
    assert learner.updates > 0
    assert all(parameter.is_cuda for parameter in learner.online.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in learner.online.parameters())


def test_first_losses_are_those_of_the_cpu():
    short = ("total_steps=240", "precision=float32")
    on_gpu = _train("cartpole-classic", *short).report()["loss"]
    on_cpu = _train("cartpole-classic", *short, "device=cpu").report()["loss"]
    assert on_gpu == pytest.approx(on_cpu, rel=1e-3)


@pytest.mark.parametrize("graphs", ["false", "true"])
def test_without_its_trial_nothing_is_written_out(monkeypatch, graphs):
    monkeypatch.setattr("dqn_cli.agent.compared.difference", lambda *_: "it differs")
    training = _trained(_options("cartpole/double", f"cuda_graphs={graphs}"))
    assert [notice.partition(",")[0] for notice in training.notices] == ["written out"]
    learner = training.learner
    gradient = learner._gradient._gradient if isinstance(learner._gradient, CapturedGradient) else learner._gradient
    assert isinstance(gradient, AutogradGradient)
    assert learner.online.written_out is learner.target.written_out is None
    assert learner.updates > 0


@pytest.mark.parametrize(
    "preset", ["cartpole/rainbow", "cartpole/iqn", "cartpole/double", "cartpole", "atari/default", "atari/btr"]
)
def test_recorded_kernels_learn_what_plain_ones_learn(preset):
    """Graph equals eager: on the first batch, which the run itself compares, after all updates, and as a whole.

    The two runs part by and by: sums without a fixed order round in another way, and an action is another one then.
    """
    options = _options(preset, "cuda_graphs=true", "precision=float32")
    training = _trained(options)
    assert training.notices == []
    assert_answers_alike(training)
    plain = _trained(options.model_copy(update={"cuda_graphs": False}))
    assert training.learner.updates == plain.learner.updates
    found, expected = training.learner.report(), plain.learner.report()
    assert found["loss"] == pytest.approx(expected["loss"], rel=0.2)


def test_each_replay_draws_fresh_numbers():
    generator = torch.Generator("cuda").manual_seed(0)
    told: list[str] = []

    def draw(values: torch.Tensor) -> tuple[torch.Tensor]:
        return (values + torch.rand(1_000, generator=generator, device="cuda"),)

    captured = Captured(draw, cuda_graph(CUDA), generators=[generator], tell=told.append)
    zeros = torch.zeros(1_000, device="cuda")
    drawn = [captured(zeros)[0].clone() for _ in range(4)]
    assert told == []
    twin = torch.Generator("cuda").manual_seed(0)
    for numbers in drawn:
        torch.testing.assert_close(numbers, torch.rand(1_000, generator=twin, device="cuda"))


def test_memory_stays_flat():
    options = _options("atari/default", "cuda_graphs=true")
    environments = make_environments(options)
    try:
        training = make_training(options, resolve_hardware(options), environments)
        taken = [torch.cuda.memory_allocated() for _ in training.loop.run() if training.learner.updates > 20]
    finally:
        environments.close()
    assert len(taken) > 1
    assert max(taken) - min(taken) < 2**20


def test_of_several_priorities_for_one_item_the_last_wins():
    """A GPU writes in any order."""
    host, device = SumTree(1_000), DeviceSumTree(1_000, CUDA)
    rng = np.random.Generator(np.random.PCG64(0))
    for _ in range(20):
        positions, values = rng.integers(0, 50, 4_096), rng.integers(1, 99, 4_096).astype(np.float64)
        host.set(positions, values)
        device.set(torch.from_numpy(positions).cuda(), torch.from_numpy(values).cuda())
        assert device.get(torch.arange(1_000, device="cuda")).tolist() == host.get(np.arange(1_000)).tolist()
        targets = rng.random(500) * host.total
        assert device.find(torch.from_numpy(targets).cuda()).tolist() == host.find(targets).tolist()


def test_page_locked_memory_is_not_written_over_while_it_is_read():
    numbers = [np.full(1 << 20, number, np.int64) for number in range(64)]
    torch.cuda._sleep(200_000_000)  # type: ignore[no-untyped-call] # so that no copy is done before the last is asked for
    moved = [to_device(values, CUDA) for values in numbers]
    assert [int(values.min()) == int(values.max()) == number for number, values in enumerate(moved)] == [True] * 64
