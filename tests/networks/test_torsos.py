"""Torsos: the shapes of their features, and the frames that they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from dqn_cli.build import TORSOS
from dqn_cli.core.errors import UsageError
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.layers import linear_factory
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
