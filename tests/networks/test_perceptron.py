"""Networks of linear layers and ReLU written out: the same numbers as by autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.heads import DuelingStreams, PlainStream, ScalarHead
from dqn_cli.networks.layers import linear_factory
from dqn_cli.networks.noisy import noisy_factory
from dqn_cli.networks.perceptron import Perceptron
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.torsos import Mlp

ACTIONS = 3


def network(shape=(2, 3), hidden=(8, 5), head_hidden=(), scale=1.0, **changes) -> QNetwork:
    """A network that can be written out, or one that ``changes`` make more than that."""
    linear = linear_factory(torch_stream(0, "network"))
    torso = Mlp(shape, hidden, linear, changes.get("norm"))
    streams = changes.get("streams", PlainStream)
    head = ScalarHead(streams(torso.features, ACTIONS, 1, head_hidden, changes.get("head_linear", linear)))
    return QNetwork(torso, head, scale, torch.Generator(), autocast=changes.get("autocast"))


def written_out(subject: QNetwork) -> Perceptron:
    assert subject.perceptron is not None
    return subject.perceptron


def observations(seed: int, size: int, shape=(2, 3)) -> torch.Tensor:
    return torch.randn(size, *shape, generator=torch_stream(seed, "observations"))


@given(
    hidden=st.lists(st.integers(1, 70), max_size=3),
    head_hidden=st.lists(st.integers(1, 40), max_size=2),
    size=st.integers(1, 70),
    scale=st.sampled_from([1.0, 1 / 255]),
    seed=st.integers(0, 2**31),
)
def test_values_and_gradients_are_those_of_autograd(hidden, head_hidden, size, scale, seed):
    subject = network(hidden=tuple(hidden), head_hidden=tuple(head_hidden), scale=scale)
    perceptron, observation = written_out(subject), observations(seed, size)
    values = subject(observation).values()  # with gradients, hence layer by layer
    slopes = torch.randn(size, ACTIONS, generator=torch_stream(seed, "slopes"))
    expected = torch.autograd.grad(values, list(subject.parameters()), slopes)
    with torch.no_grad():
        activations = perceptron.activations(subject.scaled(observation).flatten(1))
        assert torch.equal(subject(observation).values(), values)
        for _ in range(2):  # a gradient takes the place of the last one
            perceptron.backward(activations, slopes)
            for parameter, gradient in zip(subject.parameters(), expected, strict=True):
                torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-6)


def test_the_gradients_are_where_a_unit_is_dead_too():
    subject = network(hidden=(4,))
    perceptron = written_out(subject)
    weight, bias = list(subject.parameters())[:2]
    with torch.no_grad():
        weight[0], bias[0] = 0.0, 0.0  # exactly on the edge, where torch's ReLU has the slope 0
        perceptron.backward(perceptron.activations(observations(0, 5).flatten(1)), torch.ones(5, ACTIONS))
    assert weight.grad is not None
    assert weight.grad[0].tolist() == [0.0] * 6
    assert weight.grad[1:].any()


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": torch.nn.LayerNorm},
        {"streams": DuelingStreams},
        {"head_linear": noisy_factory(0.5, torch.Generator())},
        {"autocast": torch.bfloat16},
    ],
    ids=["layer norm", "dueling", "noisy", "bfloat16"],
)
def test_what_is_more_is_left_to_autograd(changes):
    assert network(**changes).perceptron is None


def values_of(subject: QNetwork) -> torch.Tensor:
    with torch.no_grad():
        values: torch.Tensor = subject(observations(0, 4)).values()
    return values


class TestItFollowsItsNetwork:
    def test_after_other_weights_were_loaded(self):
        subject, other = network(), network()
        with torch.no_grad():
            next(other.parameters()).mul_(2.0)
        subject.load_state_dict(other.state_dict())
        assert torch.equal(values_of(subject), values_of(other))

    def test_as_a_copy(self):
        subject = network()
        twin, before = copy.deepcopy(subject), values_of(subject)
        with torch.no_grad():
            next(subject.parameters()).mul_(2.0)
        assert torch.equal(values_of(twin), before)
        assert not torch.equal(values_of(subject), before)

    def test_as_something_else(self):
        subject = network()
        with torch.device("meta"):
            moved = network()
        moved.to_empty(device="cpu").load_state_dict(subject.state_dict())
        assert torch.equal(values_of(moved), values_of(subject))
