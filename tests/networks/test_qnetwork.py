"""The whole network: stored values in, float32 values out, whatever the layout and the arithmetic inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dqn_cli.build import HEADS, TORSOS
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.heads import HeadInputs, ScalarOptions
from dqn_cli.networks.layers import linear_factory
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.torsos import CnnOptions, MlpOptions

SMALL = CnnOptions(channels=(8, 16), kernels=(4, 3), strides=(2, 1), hidden=(32,))


def qnetwork(torso_options, shape, actions=3, scale=1.0 / 255.0, **kwargs: Any) -> QNetwork:
    generator = torch_stream(0, "network")
    linear = linear_factory(generator)
    torso = make(TORSOS, torso_options, shape, linear, generator)
    own = torch.Generator()
    head = make(HEADS, ScalarOptions(), HeadInputs(torso.features, actions, linear, linear, own))
    return QNetwork(torso, head, scale, own, **kwargs)


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch_stream(0, "pixels"), dtype=torch.uint8)


def test_the_nature_network_has_the_parameters_of_the_paper():
    network = qnetwork(CnnOptions(), (4, 84, 84), actions=6)
    convolutions = sum(o * i * k * k + o for i, o, k in ((4, 32, 8), (32, 64, 4), (64, 64, 3)))
    linears = sum(i * o + o for i, o in ((64 * 7 * 7, 512), (512, 6)))
    assert sum(p.numel() for p in network.parameters()) == convolutions + linears == 1_687_206
    assert network(pixels(1, 4, 84, 84)).values().shape == (1, 6)


class TestStoredValues:
    def test_pixels_are_scaled(self):
        stored = pixels(2, 2, 12, 12)
        scaled = qnetwork(SMALL, (2, 12, 12))(stored).values()
        by_hand = qnetwork(SMALL, (2, 12, 12), scale=1.0)(stored.to(torch.float32) / 255.0).values()
        torch.testing.assert_close(scaled, by_hand, rtol=0, atol=1e-6)

    def test_other_dtypes_become_float32(self):
        network = qnetwork(MlpOptions(hidden=(4,)), (1, 3), scale=1.0)
        observation = torch.tensor([[[1.0, -2.0, 3.0]]])
        for dtype in (torch.float64, torch.float32, torch.int32):
            values = network(observation.to(dtype)).values()
            assert values.dtype is torch.float32
            assert torch.equal(values, network(observation).values())

    def test_the_observation_is_left_as_it_was(self):
        observation = torch.ones(1, 1, 3)
        qnetwork(MlpOptions(hidden=(4,)), (1, 3), scale=0.5)(observation)
        assert observation.tolist() == [[[1.0, 1.0, 1.0]]]


class TestMemoryFormat:
    @pytest.mark.parametrize("shape", [(2, 12, 12), (2, 3, 12, 12)])
    def test_channels_last_gives_the_same_values(self, shape):
        plain, last = qnetwork(SMALL, shape), qnetwork(SMALL, shape, channels_last=True)
        observation = pixels(3, *shape)
        torch.testing.assert_close(last(observation).values(), plain(observation).values(), rtol=0, atol=1e-5)

    def test_weights_and_images_take_the_layout(self):
        seen = []
        for channels_last in (False, True):
            network = qnetwork(SMALL, (2, 12, 12), channels_last=channels_last)
            first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
            first.register_forward_pre_hook(lambda module, inputs: seen.append((module.weight, inputs[0])))
            network(pixels(3, 2, 12, 12))
        assert [
            [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors] for tensors in seen
        ] == [[False, False], [True, True]]

    def test_vectors_have_no_layout(self):
        plain, last = (qnetwork(MlpOptions(), (2, 5), scale=1.0, channels_last=flag) for flag in (False, True))
        observation = torch.ones(3, 2, 5)
        assert torch.equal(plain(observation).values(), last(observation).values())


class TestAutocast:
    def test_bfloat16_is_near_float32_and_comes_out_as_float32(self):
        exact = qnetwork(SMALL, (2, 12, 12))
        fast = qnetwork(SMALL, (2, 12, 12), autocast=torch.bfloat16)
        observation = pixels(4, 2, 12, 12)
        values, near = exact(observation).values(), fast(observation).values()
        assert near.dtype is torch.float32
        assert not torch.equal(near, values)
        torch.testing.assert_close(near, values, rtol=0, atol=0.01)

    def test_weights_gradients_and_head_stay_float32(self):
        network = qnetwork(SMALL, (2, 12, 12), autocast=torch.bfloat16)
        received = []
        network.head.register_forward_pre_hook(
            lambda _, inputs: received.append((inputs[0].dtype, torch.is_autocast_enabled("cpu")))
        )
        network(pixels(4, 2, 12, 12)).values().sum().backward()
        assert received == [(torch.float32, False)]
        for parameter in network.parameters():
            assert parameter.dtype is torch.float32
            assert parameter.grad is not None
            assert parameter.grad.dtype is torch.float32

    @pytest.mark.cuda
    def test_on_a_gpu(self):
        exact = qnetwork(SMALL, (2, 12, 12))
        fast = qnetwork(SMALL, (2, 12, 12), autocast=torch.bfloat16, channels_last=True).cuda()
        observation = pixels(4, 2, 12, 12)
        near = fast(observation.cuda()).values()
        assert near.dtype is torch.float32
        torch.testing.assert_close(near.cpu(), exact(observation).values(), rtol=0, atol=0.01)
