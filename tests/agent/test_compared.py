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
from dqn_cli.agent.compared import difference, random_batch, tried
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


def compared(kind: str = "greedy", torso: str = "mlp", spoil: Any = lambda quick, online: quick) -> str | None:
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
    told: list[str] = []
    chosen = tried(changed, plain, online, target, batch, told.append)
    for parameter, value in zip(online.parameters(), before, strict=True):
        assert parameter.grad is None
        assert torch.equal(parameter, value)
    for network in (online, target):
        assert (network.written_out is None) is bool(told)
        network.to(torch.float32)  # which makes what is written out anew
        assert (network.written_out is None) is bool(told)
    assert chosen is (plain if told else changed)
    return told[0] if told else None


@pytest.mark.parametrize("kind", BOOTSTRAP_OPTIONS)
@pytest.mark.parametrize("torso", ["mlp", "dueling"])
def test_both_agree(kind, torso):
    assert compared(kind, torso) is None


@pytest.mark.parametrize("wrong", [0, 7])
def test_a_wrong_gradient_is_named(wrong):
    said = compared(spoil=lambda quick, online: Wrong(quick, list(online.parameters())[-1], wrong))
    assert said is not None
    assert said.startswith("written out, the gradient of head.")
    assert " is off by " in said
    assert said.endswith("; all is computed by torso and head, gradients by autograd")


@pytest.mark.parametrize("kind", BOOTSTRAP_OPTIONS)
def test_the_plain_side_has_nothing_of_what_is_tried(monkeypatch, kind):
    """Nor do its targets and greedy actions, which it computes without gradients."""
    plain, forward, inside = AutogradGradient.__call__, WrittenOut.forward, []

    def plainly(self, batch, count, descend):
        inside.append(True)
        try:
            return plain(self, batch, count, descend)
        finally:
            inside.pop()

    def watched(self, inputs):
        assert not inside
        return forward(self, inputs)

    monkeypatch.setattr(AutogradGradient, "__call__", plainly)
    monkeypatch.setattr(WrittenOut, "forward", watched)
    assert compared(kind) is None


def test_a_refusal_is_a_difference_and_full_memory_is_not():
    said = compared(spoil=lambda *_: refusing)
    assert said is not None
    assert said.startswith("written out, the device refuses: not implemented for 'CUDA'; ")
    with pytest.raises(torch.OutOfMemoryError):
        compared(spoil=lambda *_: out_of_memory)


def test_what_counts_as_a_difference():
    one, small = torch.tensor([1.0, -2.0]), torch.tensor([1e-3])

    def said(*found: torch.Tensor, expected: tuple[torch.Tensor, ...] = (one,) * 4) -> str | None:
        return difference(found, expected, ["one", "two"])

    assert said(one, one, one, one) is None
    assert said(one * 1.0005, one, one, one) is None
    assert said(one * 1.01, one, one, one) == "the loss is off by 0.02 where the largest number is 2"
    assert said(one, one * 1.01, one, one) == "the priority is off by 0.02 where the largest number is 2"
    assert said(one, one, one, one * 1.01) is None
    assert said(one, one, one * 1.1, one) == "the gradient of one is off by 0.224 where its norm is 2.24"
    assert said(one, one, one, one * float("nan")) is not None
    # What is left of sums that cancel is rounding, in gradients.
    assert said(one, one, one, 1.3 * small, expected=(one, one, one, small)) is None
    assert said(one, one, one, 3 * small, expected=(one, one, one, small)) is not None
    assert said(1.3 * small, one, one, one, expected=(small, one, one, one)) is not None
    assert said(*[0 * one] * 4, expected=(0 * one,) * 4) is None


def test_a_unit_at_the_kink_of_its_relu_is_no_difference():
    """Rounding decides whether one sample counts in one row of a gradient."""
    expected = torch.randn(256, 64, generator=torch.Generator().manual_seed(0)) / 64
    found = expected.clone()
    found[3] += torch.randn(64, generator=torch.Generator().manual_seed(1)) / 64 / 8
    assert (found - expected).abs().max() > 2e-3 * expected.abs().max()
    loss = torch.ones(1)
    assert difference([loss, loss, found], [loss, loss, expected], ["weight"]) is None


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
    monkeypatch.setattr(compose, "is_unproven", lambda hardware: True)
    asked = Mock(wraps=tried)
    monkeypatch.setattr(compose, "tried", asked)
    found = trained(preset)
    asked.assert_called_once()
    assert found.notices == []
    assert isinstance(found.learner._gradient, WrittenOutGradient)
    assert_same(plain, found)


def test_a_run_whose_trial_fails_says_so_and_trusts_nothing_of_it(monkeypatch):
    with monkeypatch.context() as without:
        without.setattr("dqn_cli.networks.qnetwork.written_out_of", lambda *_: None)
        plain = trained("cartpole/double")
    monkeypatch.setattr(compose, "is_unproven", lambda hardware: True)
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
    assert not compose.is_unproven(hardware)
    assert compose.is_unproven(replace(hardware, device=torch.device("cuda")))
