"""Gradients written out against autograd, and several batches at once against one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from dqn_cli.agent.advantage import AdvantageOptions
from dqn_cli.agent.bootstrap import DoubleOptions, GreedyOptions, MunchausenOptions, bellman, rescaled
from dqn_cli.agent.gradient import AutogradGradient, Gradient, WrittenOutGradient, gradient_of
from dqn_cli.agent.objective import TemporalDifference, quantile_objective
from dqn_cli.build import BOOTSTRAPS, OBJECTIVES
from dqn_cli.core.kinds import make
from dqn_cli.core.types import Batch
from dqn_cli.networks.qnetwork import QNetwork
from tests.agent.toys import (
    dueling_network,
    image_network,
    mlp_network,
    noisy_implicit_quantile_network,
    random_batch,
    random_images,
    table,
)

BOOTSTRAP_OPTIONS = {
    "greedy": GreedyOptions(),
    "double": DoubleOptions(),
    "munchausen": MunchausenOptions(),
    "advantage": AdvantageOptions(),
}


def joined(batches: Iterable[Batch]) -> Batch:
    """The batches, one behind the other."""
    parts = list(batches)
    tensors = {
        field.name: torch.cat([getattr(part, field.name) for part in parts])
        for field in fields(Batch)
        if field.name != "key"
    }
    return Batch(**tensors, key=np.concatenate([part.key for part in parts]))


MAKE = {
    "mlp": (mlp_network, random_batch),
    "dueling": (dueling_network, random_batch),
    "cnn": (image_network, random_images),
}
"""Torso -> network and batch, each from a seed."""


def networks(torso: str = "mlp") -> tuple[QNetwork, QNetwork]:
    make_network = MAKE[torso][0]
    return make_network(0), make_network(1)


class Descent:
    """A step of plain gradient descent, which keeps the gradients that it was given."""

    def __init__(self, network: QNetwork) -> None:
        self.network = network
        self.gradients: list[torch.Tensor] = []

    @torch.no_grad()
    def __call__(self) -> None:
        for parameter in self.network.parameters():
            assert parameter.grad is not None
            self.gradients.append(parameter.grad.clone())
            parameter.sub_(0.1 * parameter.grad)


def measure(
    kind: str, loss: str, rule: Any, batches: list[Batch], backup=bellman, at_once: bool = False, torso: str = "mlp"
):
    """Returns the gradients of each update, and loss, value and priorities of all."""
    online, target = networks(torso)
    options: Any = BOOTSTRAP_OPTIONS[kind]
    bootstrap, objective = make(BOOTSTRAPS, options, backup), OBJECTIVES["scalar"][loss]
    if rule is AutogradGradient:
        gradient: Gradient = AutogradGradient(online, target, bootstrap, objective)
    else:
        gradient = gradient_of(online, target, bootstrap, objective, options.asks_online)
        assert isinstance(gradient, WrittenOutGradient)
    descent = Descent(online)
    if at_once:
        found = [gradient(joined(batches), len(batches), descent)]
    else:
        found = [gradient(batch, 1, descent) for batch in batches]
    names = ("loss", "q_mean", "priority")
    return descent.gradients, [torch.cat([getattr(each, name) for each in found]) for name in names]


@pytest.mark.parametrize("kind", BOOTSTRAP_OPTIONS)
@pytest.mark.parametrize("loss", ["huber", "squared"])
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("torso", MAKE)
def test_the_same_as_autograd(kind, loss, at_once, torso):
    batches = [MAKE[torso][1](number) for number in range(5)]
    expected = measure(kind, loss, AutogradGradient, batches, torso=torso)
    found = measure(kind, loss, WrittenOutGradient, batches, at_once=at_once, torso=torso)
    for a, b in zip(expected[0] + expected[1], found[0] + found[1], strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["greedy", "double"])
def test_with_values_on_another_scale(kind):
    batches = [random_batch(number) for number in range(3)]
    expected = measure(kind, "huber", AutogradGradient, batches, rescaled(0.01))
    found = measure(kind, "huber", WrittenOutGradient, batches, rescaled(0.01), at_once=True)
    for a, b in zip(expected[0] + expected[1], found[0] + found[1], strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_written_out_is_left_to_autograd():
    greedy = make(BOOTSTRAPS, GreedyOptions(), bellman)
    noisy = noisy_implicit_quantile_network()
    for online, objective in ((noisy, quantile_objective), (table([[0.0]]), OBJECTIVES["scalar"]["huber"])):
        assert isinstance(gradient_of(online, online, greedy, objective, False), AutogradGradient)


def test_autograd_takes_one_batch():
    online, target = networks()
    gradient = AutogradGradient(
        online, target, make(BOOTSTRAPS, GreedyOptions(), bellman), OBJECTIVES["scalar"]["huber"]
    )
    with pytest.raises(ValueError, match="one batch at a time, got 2"):
        gradient(joined([random_batch(0), random_batch(1)]), 2, lambda: None)


def test_a_target_of_another_shape_is_refused():
    online, target = networks()
    objective = OBJECTIVES["scalar"]["huber"]
    assert isinstance(objective, TemporalDifference)
    wrong = lambda online, target, batch: target(batch.next_observation).select(batch.action).map(lambda v: v[:, None])  # noqa: E731
    with pytest.raises(TypeError, match=r"targets of shape \(16,\)"):
        gradient_of(online, target, wrong, objective, False)(random_batch(0), 1, lambda: None)
