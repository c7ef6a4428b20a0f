"""Written-out gradients beside those of autograd, at the start of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from dqn_cli import compose
from dqn_cli.agent.bootstrap import bellman
from dqn_cli.agent.compared import difference, difference_of, random_batch
from dqn_cli.agent.gradient import AutogradGradient, Gradient, Measured, WrittenOutGradient, gradient_of
from dqn_cli.build import BOOTSTRAPS, OBJECTIVES
from dqn_cli.core.kinds import make
from dqn_cli.core.types import ObservationSpec
from dqn_cli.hardware import resolve_hardware
from dqn_cli.networks.written_out import WrittenOut
from dqn_cli.schema import RunOptions
from tests.agent.test_captured import assert_same, trained
from tests.agent.test_gradient import BOOTSTRAP_OPTIONS, joined, networks
from tests.agent.toys import random_batch as toy_batch

NUMBERS = ObservationSpec((4,), np.dtype(np.float32), 1, 1.0)
PIXELS = ObservationSpec((6, 6), np.dtype(np.uint8), 2, 1 / 255)


class Wrong:
    """A way that is quick, and wrong in one batch."""

    def __init__(self, quick: Gradient, parameter: torch.Tensor, wrong: int) -> None:
        self._quick, self._parameter, self._wrong, self.most = quick, parameter, wrong, quick.most

    def __call__(self, batch, count, descend) -> Measured:
        seen: list[None] = []

        def spoilt() -> None:
            assert self._parameter.grad is not None
            if len(seen) == self._wrong:
                self._parameter.grad.mul_(1.1)
            seen.append(None)
            descend()

        return self._quick(batch, count, spoilt)


def refusing(batch, count, descend):
    raise RuntimeError("not implemented for 'CUDA'\nand more")


def out_of_memory(batch, count, descend):
    raise torch.OutOfMemoryError("too much")


def compared(kind: str = "greedy", torso: str = "mlp", spoil: Any = lambda quick, online: quick):
    """What is said of the quick way after ``spoil`` had it."""
    online, target = networks(torso)
    options: Any = BOOTSTRAP_OPTIONS[kind]
    bootstrap, objective = make(BOOTSTRAPS, options, bellman), OBJECTIVES["scalar"]["huber"]
    quick = gradient_of(online, target, bootstrap, objective, options.asks_online)
    assert isinstance(quick, WrittenOutGradient)
    batch = joined(toy_batch(number) for number in range(quick.most))
    before = [parameter.clone() for parameter in online.parameters()]
    plain = AutogradGradient(online, target, bootstrap, objective)
    changed = spoil(quick, online)
    changed.most = quick.most
    said = difference_of(changed, plain, online, target, batch)
    assert online.written_out is not None
    assert target.written_out is not None
    for parameter, value in zip(online.parameters(), before, strict=True):
        assert parameter.grad is None
        assert torch.equal(parameter, value)
    return said


@pytest.mark.parametrize("kind", BOOTSTRAP_OPTIONS)
@pytest.mark.parametrize("torso", ["mlp", "dueling"])
def test_both_agree(kind, torso):
    assert compared(kind, torso) is None


@pytest.mark.parametrize("wrong", [0, 7])
def test_a_wrong_gradient_is_named(wrong):
    said = compared(spoil=lambda quick, online: Wrong(quick, list(online.parameters())[-1], wrong))
    assert said.startswith("the gradient of head.")
    assert " is off by " in said


@pytest.mark.parametrize("kind", ["greedy", "double"])
def test_values_that_are_wrong_on_both_sides_are_found(monkeypatch, kind):
    """Targets and actions of the plain way do not come from the layers that are looked at."""
    forward = WrittenOut.forward

    def scaled(self, inputs):
        tape = forward(self, inputs)
        return replace(tape, values=1.5 * tape.values)

    monkeypatch.setattr(WrittenOut, "forward", scaled)
    assert compared(kind) is not None


def test_a_refusal_is_a_difference_and_full_memory_is_not():
    assert compared(spoil=lambda *_: refusing) == "the device refuses: not implemented for 'CUDA'"
    with pytest.raises(torch.OutOfMemoryError):
        compared(spoil=lambda *_: out_of_memory)


def test_what_counts_as_a_difference():
    names = ["the loss", "the priority", "one", "two"]
    one, small = torch.tensor([1.0, -2.0]), torch.tensor([3e-5])
    assert difference([one] * 4, [one] * 4, names) is None
    assert difference([one, one, one * 1.0005, one], [one] * 4, names) is None
    assert difference([one * 1.1, one, one, one], [one] * 4, names) == (
        "the loss is off by 0.2 where the largest number is 2"
    )
    assert difference([one, one * 1.1, one, one], [one] * 4, names) is not None
    assert difference([one, one, one[:1], one], [one] * 4, names) == "one has shape (1,) for (2,)"
    # What is left of sums that cancel is rounding, in gradients.
    assert difference([one, one, one, small], [one, one, one, 0.5 * small], names) is None
    assert difference([one, one, one, 10 * small], [one, one, one, 0.5 * small], names) is not None
    assert difference([small, one, one, one], [0.5 * small, one, one, one], names) is not None
    assert difference([0 * one] * 4, [0 * one] * 4, names) is None


@pytest.mark.parametrize("observation", [NUMBERS, PIXELS])
def test_the_batch_is_the_same_each_time_and_has_ends(observation):
    first, again = (random_batch(observation, 3, 64, torch.device("cpu")) for _ in range(2))
    assert first.observation.shape == (64, observation.stack, *observation.shape)
    assert first.observation.numpy().dtype == observation.dtype
    assert torch.equal(first.next_observation, again.next_observation)
    assert set(first.action.tolist()) == {0, 1, 2}
    assert 0 < (first.discount == 0).sum() < 32
    assert len(first.part(1, 8).key) == 8


@pytest.mark.parametrize("preset", ["cartpole/double", "cartpole/dueling", "cartpole/munchausen"])
def test_a_run_that_compares_at_its_start_is_the_same_run(monkeypatch, preset):
    plain = trained(preset)
    monkeypatch.setattr(compose, "_is_unproven", lambda hardware: True)
    asked = Mock(wraps=difference_of)
    monkeypatch.setattr(compose, "difference_of", asked)
    found = trained(preset)
    asked.assert_called_once()
    assert found.notices == []
    assert isinstance(found.learner._gradient, WrittenOutGradient)
    assert_same(plain, found)


def test_a_run_whose_trial_fails_says_so_and_trusts_nothing_of_it(monkeypatch):
    with monkeypatch.context() as without:
        without.setattr("dqn_cli.networks.qnetwork.written_out_of", lambda *_: None)
        plain = trained("cartpole/double")
    monkeypatch.setattr(compose, "_is_unproven", lambda hardware: True)
    forward = WrittenOut.forward
    monkeypatch.setattr(WrittenOut, "forward", lambda self, inputs: forward(self, inputs.abs()))
    failed = trained("cartpole/double")
    (notice,) = failed.notices
    assert notice.startswith("written out, the loss is off by ")
    assert isinstance(failed.learner._gradient, AutogradGradient)
    assert failed.learner.most_at_once == 1
    assert failed.learner.online.written_out is None
    assert_same(plain, failed)


def test_a_gpu_is_unproven():
    hardware = resolve_hardware(RunOptions(device="cpu"))
    assert not compose._is_unproven(hardware)
    assert compose._is_unproven(replace(hardware, device=torch.device("cuda")))
