"""Networks of convolutions, linear layers and ReLU written out: the same numbers as by autograd."""

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
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.torsos import Cnn, Mlp
from dqn_cli.networks.written_out import WrittenOut

ACTIONS = 3


def network(shape=(2, 3), hidden=(8, 5), head_hidden=(), scale=1.0, **changes) -> QNetwork:
    """A network that can be written out, or one that ``changes`` make more than that."""
    linear = linear_factory(torch_stream(0, "network"))
    torso = Mlp(shape, hidden, linear, changes.get("norm"))
    return whole(torso, head_hidden, scale, **changes)


def image_network(convolutions, shape=(2, 9, 8), hidden=(), head_hidden=(), **changes) -> QNetwork:
    """The same with convolutions, each given as channels, kernel and stride."""
    generator = torch_stream(0, "network")
    channels, kernels, strides = zip(*convolutions, strict=True)
    torso = Cnn(shape, channels, kernels, strides, hidden, linear_factory(generator), generator)
    return whole(torso, head_hidden, 1 / 255, **changes)


def whole(torso, head_hidden, scale, **changes) -> QNetwork:
    linear = changes.get("head_linear", linear_factory(torch_stream(0, "head")))
    head = ScalarHead(changes.get("streams", PlainStream)(torso.features, ACTIONS, 1, head_hidden, linear))
    layout = changes.get("channels_last", False)
    return QNetwork(torso, head, scale, torch.Generator(), changes.get("autocast"), layout)


def written_out(subject: QNetwork) -> WrittenOut:
    assert subject.written_out is not None
    return subject.written_out


def observations(seed: int, size: int, shape=(2, 3)) -> torch.Tensor:
    return torch.randn(size, *shape, generator=torch_stream(seed, "observations"))


def images(seed: int, size: int, shape=(2, 9, 8)) -> torch.Tensor:
    return torch.randint(0, 256, (size, *shape), dtype=torch.uint8, generator=torch_stream(seed, "images"))


def check_against_autograd(
    subject: QNetwork,
    observation: torch.Tensor,
    seed: int,
    tolerance: float = 0.0,
    of_gradients: tuple[float, float] = (1e-5, 1e-6),
) -> None:
    """Compares values, to a ``tolerance``, and gradients, to a relative and an absolute one.

    Of all items, and of the first of them alone.
    """
    values = subject(observation).values()  # with gradients, hence layer by layer
    for size in {len(observation), (len(observation) + 1) // 2}:
        slopes = torch.randn(size, ACTIONS, generator=torch_stream(seed, "slopes"))
        expected = torch.autograd.grad(values[:size], list(subject.parameters()), slopes, retain_graph=True)
        with torch.no_grad():
            tape = written_out(subject).forward(subject.scaled(observation))
            torch.testing.assert_close(tape.values, values, rtol=tolerance, atol=tolerance)
            assert torch.equal(subject(observation).values(), tape.values)
            for _ in range(2):  # a gradient takes the place of the last one
                written_out(subject).backward(tape.first(size), slopes)
                for parameter, gradient in zip(subject.parameters(), expected, strict=True):
                    assert parameter.grad is not None
                    torch.testing.assert_close(parameter.grad, gradient, rtol=of_gradients[0], atol=of_gradients[1])
                    assert parameter.grad.stride() == parameter.stride()


@given(
    hidden=st.lists(st.integers(1, 70), max_size=3),
    head_hidden=st.lists(st.integers(1, 40), max_size=2),
    streams=st.sampled_from([PlainStream, DuelingStreams]),
    size=st.integers(1, 70),
    scale=st.sampled_from([1.0, 1 / 255]),
    seed=st.integers(0, 2**31),
)
def test_values_and_gradients_are_those_of_autograd(hidden, head_hidden, streams, size, scale, seed):
    subject = network(hidden=tuple(hidden), head_hidden=tuple(head_hidden), scale=scale, streams=streams)
    check_against_autograd(subject, observations(seed, size), seed)


@st.composite
def convolution(draw):
    """Channels, kernel and stride of a convolution that looks at each pixel."""
    kernel = draw(st.integers(1, 3))
    return draw(st.integers(1, 20)), kernel, draw(st.integers(1, min(kernel, 2)))


@given(
    convolutions=st.lists(convolution(), min_size=1, max_size=2),
    hidden=st.lists(st.integers(1, 20), max_size=2),
    head_hidden=st.lists(st.integers(1, 20), max_size=1),
    streams=st.sampled_from([PlainStream, DuelingStreams]),
    channels_last=st.booleans(),
    shape=st.sampled_from([(2, 9, 8), (3, 11, 11), (2, 3, 9, 9)]),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_those_of_convolutions_are_too(convolutions, hidden, head_hidden, streams, channels_last, shape, size, seed):
    subject = image_network(convolutions, shape, hidden, head_hidden, streams=streams, channels_last=channels_last)
    # A convolution that nobody will ask for gradients may be another kernel.
    check_against_autograd(subject, images(seed, size, shape), seed, tolerance=1e-5, of_gradients=(1e-4, 1e-5))


@given(
    convolutions=st.lists(convolution(), max_size=2),
    hidden=st.lists(st.integers(1, 20), min_size=1, max_size=2),
    channels_last=st.booleans(),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_those_in_bfloat16_are_too(convolutions, hidden, channels_last, size, seed):
    if convolutions:
        subject = image_network(convolutions, hidden=hidden, channels_last=channels_last, autocast=torch.bfloat16)
        observation = images(seed, size)
    else:
        subject, observation = network(hidden=hidden, autocast=torch.bfloat16), observations(seed, size)
    # Eight bits of mantissa: one rounding is 0.4%.
    check_against_autograd(subject, observation, seed, tolerance=0.005, of_gradients=(0.01, 0.005))


def test_the_gradients_are_where_a_unit_is_dead_too():
    subject = network(hidden=(4,))
    weight, bias = list(subject.parameters())[:2]
    with torch.no_grad():
        weight[0], bias[0] = 0.0, 0.0  # exactly on the edge, where torch's ReLU has the slope 0
        written_out(subject).backward(written_out(subject).forward(observations(0, 5)), torch.ones(5, ACTIONS))
    assert weight.grad is not None
    assert weight.grad[0].tolist() == [0.0] * 6
    assert weight.grad[1:].any()


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": torch.nn.LayerNorm},
        {"head_linear": noisy_factory(0.5, torch.Generator())},
        {"head_linear": noisy_factory(0.5, torch.Generator()), "streams": DuelingStreams},
    ],
    ids=["layer norm", "noisy", "noisy and dueling"],
)
def test_what_is_more_is_left_to_autograd(changes):
    assert network(**changes).written_out is None


def test_what_is_not_on_a_cpu_is_left_to_autograd():
    gpu = torch.device("cuda")
    assert image_network([(4, 3, 1)]).written_out_on(gpu) is None
    assert network(autocast=torch.bfloat16).written_out_on(gpu) is None
    assert network().written_out_on(gpu) is not None
    with torch.device("meta"):
        assert image_network([(4, 3, 1)]).written_out is None
        assert image_network([(4, 3, 1)]).written_out_on(torch.device("cpu")) is not None


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (2, 3)])
def test_convolutions_that_skip_pixels_are_left_to_autograd(kernel, stride):
    assert image_network([(4, kernel, stride)]).written_out is None


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
@pytest.mark.parametrize("channels_last", [False, True])
def test_several_observations_are_scaled_one_behind_the_other(scale, channels_last):
    subject = image_network([(4, 3, 1)], channels_last=channels_last)
    subject._scale = scale
    first, second = images(0, 5), images(1, 5)
    both = subject.scaled(first, second)
    assert torch.equal(subject.scaled(first), first * scale)
    assert torch.equal(both, torch.cat((subject.scaled(first), subject.scaled(second))))
    assert both.stride() == subject.scaled(torch.cat((first, second))).stride()


def values_of(subject: QNetwork) -> torch.Tensor:
    with torch.no_grad():
        values: torch.Tensor = subject(observations(0, 4)).values()
    return values


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
class TestItFollowsItsNetwork:
    def test_when_a_weight_changes(self, autocast):
        subject, other = network(autocast=autocast), network(autocast=autocast)
        for _ in range(3):
            before = values_of(subject)
            with torch.no_grad():
                next(subject.parameters()).mul_(2.0)
                next(other.parameters()).mul_(2.0)
            assert not torch.equal(values_of(subject), before)
        assert torch.equal(values_of(subject), values_of(other))

    def test_after_other_weights_were_loaded(self, autocast):
        subject, other = network(autocast=autocast), network(autocast=autocast)
        values_of(subject)
        with torch.no_grad():
            next(other.parameters()).mul_(2.0)
        subject.load_state_dict(other.state_dict())
        assert torch.equal(values_of(subject), values_of(other))

    def test_as_a_copy(self, autocast):
        subject = network(autocast=autocast)
        with torch.no_grad():
            next(subject.parameters()).mul_(1.5)
        values_of(subject)
        twin, before = copy.deepcopy(subject), values_of(subject)
        with torch.no_grad():
            next(subject.parameters()).mul_(2.0)
        assert torch.equal(values_of(twin), before)
        assert not torch.equal(values_of(subject), before)

    @pytest.mark.parametrize("times", range(6))
    def test_as_a_copy_that_was_changed(self, autocast, times):
        subject = network(autocast=autocast)
        values_of(subject)
        twin, fresh = copy.deepcopy(subject), network(autocast=autocast)
        with torch.no_grad():
            for _ in range(times):  # among them as often as the first was when it was copied
                next(twin.parameters()).mul_(1.5)
        fresh.load_state_dict(twin.state_dict())
        assert torch.equal(values_of(twin), values_of(fresh))

    def test_as_something_else(self, autocast):
        subject = network(autocast=autocast)
        with torch.device("meta"):
            moved = network(autocast=autocast)
        moved.to_empty(device="cpu").load_state_dict(subject.state_dict())
        assert torch.equal(values_of(moved), values_of(subject))
