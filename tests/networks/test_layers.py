"""Initial weights: their bound, and the stream as their only source."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.layers import Linear, convolution, linear_factory, rectified_stack


def linear(inputs, outputs, seed=0) -> Any:
    return linear_factory(torch_stream(seed, "network"))(inputs, outputs)


LAYERS = [
    (lambda seed: linear(400, 100, seed), 400),
    (lambda seed: convolution((3, 200), 4, 2, torch_stream(seed, "network")), 3 * 4 * 4),
    (lambda seed: convolution((3, 200), 4, 2, torch_stream(seed, "network"), padding=2), 3 * 4 * 4),
]


@pytest.mark.parametrize(("make", "fan_in"), LAYERS)
class TestInitialWeights:
    def test_uniform_up_to_one_over_the_root_of_the_fan_in(self, make, fan_in):
        layer, bound = make(0), 1.0 / sqrt(fan_in)
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / sqrt(3.0), rel=0.05)
        assert abs(layer.weight.mean().item()) < 0.05 * bound
        assert 0.9 * bound < layer.bias.abs().max() <= bound
        assert layer.bias.std().item() == pytest.approx(bound / sqrt(3.0), rel=0.2)

    def test_they_come_from_the_stream_alone(self, make, fan_in):
        torch.manual_seed(1)
        first = make(7)
        torch.manual_seed(2)
        state = torch.get_rng_state()
        second, other = make(7), make(8)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(first.weight, second.weight)
        assert torch.equal(first.bias, second.bias)
        assert not torch.equal(first.weight, other.weight)


def test_layers_of_one_factory_differ():
    factory: Any = linear_factory(torch_stream(0, "network"))
    assert not torch.equal(factory(4, 4).weight, factory(4, 4).weight)


def test_a_convolution_has_the_padding_that_it_is_given():
    plain, padded = (convolution((2, 5), 3, 2, torch_stream(0, "network"), *padding) for padding in ((), (1,)))
    images = torch.randn(1, 2, 9, 7, generator=torch_stream(0, "images"))
    assert plain(images).shape == (1, 5, 4, 3)
    assert padded(images).shape == (1, 5, 5, 4)
    assert torch.equal(plain.weight, padded.weight)
    torch.testing.assert_close(padded(images), plain(nn.functional.pad(images, (1, 1, 1, 1))))


class Strides(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects kernel and stride of the convolutions that reach a kernel of torch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[int, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket is torch.ops.aten.convolution:
            self.seen.append((args[1].shape[-1], args[3][0]))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_of_one_pixel_has_no_stride(stride, layout):
    layer = convolution((3, 5), 1, stride, torch_stream(0, "network"))
    layer = layer.to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(4, 3, 7, 6, generator=torch_stream(0, "images")).to(memory_format=layout)
    # Pixel by pixel it is a linear layer; torch's own gradient of such a convolution is what cannot be trusted.
    looked_at = images[..., ::stride, ::stride].permute(0, 2, 3, 1)
    expected = nn.functional.linear(looked_at, layer.weight[:, :, 0, 0], layer.bias).permute(0, 3, 1, 2)
    slopes = torch.randn(expected.shape, generator=torch_stream(0, "slopes"))
    with Strides() as strides:
        found = layer(images)
    assert strides.seen == [(1, 1)]
    torch.testing.assert_close(found, expected)
    parameters = list(layer.parameters())
    for a, b in zip(
        torch.autograd.grad(found, parameters, slopes), torch.autograd.grad(expected, parameters, slopes), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_rectified_stack():
    layers, width = rectified_stack(6, [5, 4], linear_factory(torch_stream(0, "network")))
    assert width == 4
    assert [type(layer) for layer in layers] == [Linear, nn.ReLU, Linear, nn.ReLU]
    assert [layer.weight.shape for layer in layers if isinstance(layer, nn.Linear)] == [(5, 6), (4, 5)]
    empty, width = rectified_stack(6, [], linear_factory(torch_stream(0, "network")))
    features = torch.randn(2, 6, generator=torch_stream(0, "features"))
    assert width == 6
    assert torch.equal(empty(features), features)


def test_a_norm_stands_between_each_layer_and_its_relu():
    plain, normed = (
        rectified_stack(6, [5, 4], linear_factory(torch_stream(0, "network")), norm)[0] for norm in (None, nn.LayerNorm)
    )
    kinds = [Linear, nn.LayerNorm, nn.ReLU]
    assert [type(layer) for layer in normed] == [*kinds, *kinds]
    assert [layer.normalized_shape for layer in normed if isinstance(layer, nn.LayerNorm)] == [(5,), (4,)]
    linears = [[layer.weight for layer in stack if isinstance(layer, nn.Linear)] for stack in (plain, normed)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*linears, strict=True))  # a norm draws nothing
