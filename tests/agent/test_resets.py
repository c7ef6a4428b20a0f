"""Weight resets: which weights begin anew, when, and what the optimiser forgets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dqn_cli.agent.bootstrap import GreedyOptions
from dqn_cli.agent.gradient_step import GradientStep
from dqn_cli.agent.optimizers import AdamOptions
from dqn_cli.agent.resets import WeightResets
from dqn_cli.agent.targets import PeriodicOptions
from dqn_cli.build import HEADS
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.heads import HeadInputs, ScalarOptions
from dqn_cli.networks.impala import Impala
from dqn_cli.networks.layers import linear_factory
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.spectral import SpectralConv2d
from tests.agent.toys import learner, mlp_network, random_batch

NEVER = PeriodicOptions(every_updates=10**6)


def fresh(number: int) -> QNetwork:
    return mlp_network(100 + number)


def trained(updates: int, every: int = 4, keep_torso: float = 1.0):
    subject = learner(AdamOptions(lr=0.1), NEVER, GreedyOptions(), resets=WeightResets(every, keep_torso, 8, fresh))
    for number in range(updates):
        subject.update(random_batch(number), step=number)
    return subject


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_the_head_begins_anew_in_both_networks_at_each_interval():
    assert not torch.equal(weights(trained(3).online.head), weights(fresh(1).head))
    for updates, number in ((4, 1), (8, 2)):
        subject = trained(updates)
        for network in (subject.online, subject.target):
            assert torch.equal(weights(network.head), weights(fresh(number).head))


def test_after_the_last_one_the_network_is_left_to_learn():
    assert not torch.equal(weights(trained(12).online.head), weights(fresh(3).head))


def test_the_torso_stays_where_all_of_it_is_kept():
    assert torch.equal(weights(trained(4).online.torso), weights(trained(4, every=99).online.torso))


@pytest.mark.parametrize("keep", [0.0, 0.8])
def test_the_torso_moves_towards_fresh_weights(keep):
    kept, subject = trained(4, every=99), trained(4, keep_torso=keep)
    for network, before in ((subject.online, kept.online), (subject.target, kept.target)):
        expected = keep * weights(before.torso) + (1 - keep) * weights(fresh(1).torso)
        torch.testing.assert_close(weights(network.torso), expected)


@pytest.mark.parametrize(("keep", "left"), [(1.0, 2), (0.5, 0)])
def test_the_optimizer_forgets_what_it_knew_of_what_changed(keep, left):
    # Two parameters each: the torso's layer and the head's.
    assert len(trained(3, keep_torso=keep).state_dict()["optimizer"]["state"]) == 4
    assert len(trained(4, keep_torso=keep).state_dict()["optimizer"]["state"]) == left


def test_learning_goes_on_after_a_reset():
    subject = trained(7)
    assert not torch.equal(weights(subject.online.head), weights(fresh(1).head))


def test_singular_vectors_follow_a_reset_torso():
    def network(number: int) -> Any:
        generator = torch_stream(number, "network")
        torso = Impala((1, 8, 8), (4,), True, None, (), linear_factory(generator), generator)
        inputs = HeadInputs(torso.features, 2, linear_factory(generator), linear_factory(generator), generator)
        return QNetwork(torso, make(HEADS, ScalarOptions(), inputs), 1.0, generator)

    online, target = network(0), network(1)
    step = GradientStep(list(online.parameters()), torch.optim.SGD(online.parameters(), lr=0.1))
    WeightResets(1, 0.5, 1, lambda _: network(2)).after_update(online, target, 1, step)
    for layer in (layer for module in (online, target) for layer in module.modules()):
        if isinstance(layer, SpectralConv2d):
            exact = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert layer.sigma().item() == pytest.approx(exact.item(), rel=0.05)


def test_updates_at_once_end_with_a_reset():
    subject = trained(0, every=3)
    left = []
    for number in range(4):
        left.append(subject.at_once())
        subject.update(random_batch(number), step=number)
    assert left == [3, 2, 1, 3]
