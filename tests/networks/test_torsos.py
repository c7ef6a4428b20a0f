"""Torsos: the shapes of their features, small networks of the literature, and the frames that they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from dqn_cli.build import TORSOS
from dqn_cli.core.errors import UsageError
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.heads import PlainStream, ScalarHead
from dqn_cli.networks.layers import linear_factory
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.torsos import CnnOptions, MlpOptions


def torso(options, shape) -> Any:
    generator = torch_stream(0, "network")
    return make(TORSOS, options, shape, linear_factory(generator), generator)


class TestMlp:
    @pytest.mark.parametrize("shape", [(1, 4), (3, 4), (2, 2, 3), (1,)])
    def test_flattens_any_observation(self, shape):
        mlp = torso(MlpOptions(hidden=(5, 3)), shape)
        assert mlp.features == 3
        assert mlp(torch.zeros(2, *shape)).shape == (2, 3)

    def test_without_layers_the_observation_is_the_features(self):
        mlp = torso(MlpOptions(hidden=()), (2, 3))
        observation = torch.arange(12.0).reshape(2, 2, 3)
        assert mlp.features == 6
        assert torch.equal(mlp(observation), observation.reshape(2, 6))

    def test_names_of_the_layers(self):
        assert list(torso(MlpOptions(hidden=(5, 3)), (1, 4)).state_dict()) == [
            "layers.0.weight",
            "layers.0.bias",
            "layers.2.weight",
            "layers.2.bias",
        ]


class TestLayerNorm:
    def test_before_each_relu(self):
        mlp = torso(MlpOptions(hidden=(7, 5), layer_norm=True), (1, 4))
        observation = torch.randn(6, 1, 4, generator=torch_stream(0, "observations"))
        features = observation.flatten(1)
        for layer in mlp.layers:
            if isinstance(layer, nn.Linear):
                features = layer(features)
                centred = features - features.mean(1, keepdim=True)
                features = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
                features = features.clamp(min=0.0)
        torch.testing.assert_close(mlp(observation), features)

    def test_its_parameters_draw_nothing(self):
        plain, normed = (torso(MlpOptions(hidden=(7, 5), layer_norm=flag), (1, 4)) for flag in (False, True))
        norms = [layer for layer in normed.layers if isinstance(layer, nn.LayerNorm)]
        assert [(norm.weight.tolist(), norm.bias.tolist()) for norm in norms] == [
            ([1.0] * width, [0.0] * width) for width in (7, 5)
        ]
        for ours, theirs in zip(normed.layers[::3], plain.layers[::2], strict=True):
            assert torch.equal(ours.weight, theirs.weight)
            assert torch.equal(ours.bias, theirs.bias)

    def test_it_works_in_bfloat16(self):
        mlp = torso(MlpOptions(hidden=(7, 5), layer_norm=True), (1, 4))
        observation = torch.randn(6, 1, 4, generator=torch_stream(0, "observations"))
        with torch.autocast("cpu", torch.bfloat16):
            near = mlp(observation)
        torch.testing.assert_close(near.float(), mlp(observation), rtol=0, atol=0.1)
        near.float().sum().backward()
        assert all(parameter.grad is not None for parameter in mlp.parameters())


class TestCnn:
    @pytest.mark.parametrize(
        ("options", "shape", "features"),
        [
            (CnnOptions(hidden=()), (4, 84, 84), 64 * 7 * 7),
            (CnnOptions(), (4, 84, 84), 512),
            (CnnOptions(channels=(3, 2), kernels=(5, 3), strides=(2, 1), hidden=()), (2, 20, 15), 2 * 6 * 4),
            (CnnOptions(channels=(3,), kernels=(9,), strides=(4,), hidden=()), (2, 9, 9), 3),
            (CnnOptions(channels=(3,), kernels=(2,), strides=(3,), hidden=(7, 5)), (2, 3, 9, 9), 5),
        ],
    )
    def test_features(self, options, shape, features):
        cnn = torso(options, shape)
        assert cnn.features == features
        assert cnn(torch.zeros(2, *shape)).shape == (2, features)

    def test_the_data_efficient_network(self):
        # van Hasselt et al. 2019, appendix: two convolutions of 5x5 pixels with stride 5.
        cnn = torso(CnnOptions(channels=(32, 64), kernels=(5, 5), strides=(5, 5), hidden=()), (4, 84, 84))
        assert cnn.features == 64 * 3 * 3 == 576
        assert cnn(torch.zeros(2, 4, 84, 84)).shape == (2, 576)
        assert sum(parameter.numel() for parameter in cnn.parameters()) == 3_232 + 51_264

    @pytest.mark.parametrize("planes", [4, 6, 7, 10])
    @pytest.mark.parametrize("channels_last", [False, True])
    def test_minatar_with_its_boolean_planes(self, planes, channels_last):
        # Young and Tian 2019, section 3: one convolution of 3x3 pixels, one hidden layer.
        options = CnnOptions(channels=(16,), kernels=(3,), strides=(1,), hidden=(128,))
        cnn = torso(options, (1, planes, 10, 10))
        assert sum(p.numel() for p in cnn.parameters()) == planes * 16 * 9 + 16 + 16 * 8 * 8 * 128 + 128
        head = ScalarHead(PlainStream(cnn.features, 6, 1, (), linear_factory(torch_stream(0, "head"))))
        network = QNetwork(cnn, head, 1.0, torch.Generator(), channels_last=channels_last)
        stored = torch.rand(3, 1, planes, 10, 10, generator=torch_stream(0, "planes")) < 0.2
        values = network(stored).values()
        assert (values.shape, values.dtype) == ((3, 6), torch.float32)
        assert torch.equal(values, network(stored.to(torch.float32)).values())
        by_hand = torch.relu(nn.functional.conv2d(stored[:, 0].float(), *cnn.convolutions.parameters()))
        by_hand = torch.relu(nn.functional.linear(by_hand.reshape(3, -1), *cnn.layers.parameters()))
        torch.testing.assert_close(values, head(by_hand).values(), rtol=0, atol=1e-5)

    def test_a_stack_of_colour_frames_is_a_stack_of_channels(self):
        options = CnnOptions(channels=(4,), kernels=(3,), strides=(1,), hidden=(6,))
        observation = torch.rand(2, 3, 2, 8, 8, generator=torch_stream(0, "frames"))
        colour, flat = torso(options, (3, 2, 8, 8)), torso(options, (6, 8, 8))
        assert torch.equal(colour(observation), flat(observation.reshape(2, 6, 8, 8)))

    @pytest.mark.parametrize("shape", [(1, 4), (4,), (1, 1, 3, 8, 8)])
    def test_other_observations_are_refused(self, shape):
        with pytest.raises(UsageError, match=r"network\.torso: cnn needs frames .*kind: mlp"):
            torso(CnnOptions(), shape)

    @pytest.mark.parametrize("shape", [(4, 35, 84), (4, 84, 35), (4, 7, 84)])
    def test_kernels_that_eat_the_frame_are_refused(self, shape):
        with pytest.raises(UsageError, match=rf"\[8, 4, 3\].*leave nothing of a {shape[-2]}x{shape[-1]} frame"):
            torso(CnnOptions(), shape)
        assert torso(CnnOptions(), (4, 36, 36)).features == 512

    @pytest.mark.parametrize("wrong", [{"channels": [8]}, {"kernels": [3, 3]}, {"strides": []}])
    def test_lists_of_different_lengths_are_refused(self, wrong):
        with pytest.raises(ValidationError, match="one entry for each convolution"):
            CnnOptions.model_validate(wrong)

    def test_no_convolution_is_refused(self):
        with pytest.raises(ValidationError, match="one entry for each convolution"):
            CnnOptions(channels=(), kernels=(), strides=())
