"""The residual torso: its sizes, and the same arithmetic written down a second time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 torch's own name

from dqn_cli.build import TORSOS
from dqn_cli.core.errors import UsageError
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.heads import PlainStream, ScalarHead
from dqn_cli.networks.impala import ImpalaOptions, ResidualBlock
from dqn_cli.networks.layers import convolution, linear_factory
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.spectral import SpectralConv2d

SMALL = ImpalaOptions(channels=(4, 6))
SPECTRAL = ImpalaOptions(channels=(4, 6), spectral_norm=True, pool=2, hidden=(8,))


def torso(options, shape, seed=0) -> Any:
    generator = torch_stream(seed, "network")
    return make(TORSOS, options, shape, linear_factory(generator), generator)


def qnetwork(options, shape, **kwargs: Any) -> QNetwork:
    body = torso(options, shape)
    head = ScalarHead(PlainStream(body.features, 3, 1, (), linear_factory(torch_stream(0, "head"))))
    return QNetwork(body, head, 1.0 / 255.0, torch.Generator(), **kwargs)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch_stream(0, "images"))


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch_stream(0, "pixels"), dtype=torch.uint8)


def by_hand(module: nn.Module, images: Tensor, sections: int, pool: int | None = None) -> Tensor:
    """The features, from the state dict alone; five convolutions a section, in the order of the figure."""
    state = module.state_dict()
    names = iter([name.removesuffix(".weight") for name in state if name.endswith(".weight")])

    def convolve(x: Tensor) -> Tensor:
        name = next(names)
        weight, bias, u = state[f"{name}.weight"], state[f"{name}.bias"], state.get(f"{name}.u")
        if u is not None:
            weight = weight / (weight.reshape(len(u), -1).T @ u).norm()
        return F.conv2d(x, weight, bias, padding=1)

    x = images
    for _ in range(sections):
        x = F.max_pool2d(convolve(x), 3, 2, 1)
        for _ in range(2):
            x = x + convolve(F.relu(convolve(F.relu(x))))
    x = F.relu(x)
    if pool is not None:
        x = F.adaptive_max_pool2d(x, pool)
    x = x.reshape(len(x), -1)
    for name in names:
        x = F.relu(F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"]))
    return x


class TestSizes:
    @pytest.mark.parametrize(
        ("options", "shape", "features"),
        [
            (ImpalaOptions(), (4, 84, 84), 32 * 11 * 11),
            (ImpalaOptions(width=2), (4, 84, 84), 64 * 11 * 11),
            (ImpalaOptions(pool=6), (4, 84, 84), 32 * 6 * 6),
            (ImpalaOptions(width=2, pool=6), (4, 84, 84), 2304),
            (ImpalaOptions(hidden=(256,)), (4, 84, 84), 256),
            (SMALL, (2, 13, 8), 6 * 4 * 2),
            (SMALL, (2, 3, 9, 9), 6 * 3 * 3),
            (SMALL, (1, 1, 1), 6),
        ],
    )
    def test_features(self, options, shape, features):
        impala = torso(options, shape)
        assert impala.features == features
        assert impala(torch.zeros(2, *shape)).shape == (2, features)

    @pytest.mark.parametrize(
        ("options", "parameters"),
        [
            # Each section: a convolution into it, and four inside.
            (ImpalaOptions(), 592 + 4 * 2_320 + 4_640 + 4 * 9_248 + 9_248 + 4 * 9_248),
            (ImpalaOptions(width=2, pool=6), 1_184 + 4 * 9_248 + 18_496 + 4 * 36_928 + 36_928 + 4 * 36_928),
            (ImpalaOptions(hidden=(256,)), 97_744 + 32 * 11 * 11 * 256 + 256),
        ],
    )
    @pytest.mark.parametrize("spectral_norm", [False, True])
    def test_parameters(self, options, parameters, spectral_norm):
        impala = torso(options.model_copy(update={"spectral_norm": spectral_norm}), (4, 84, 84))
        assert sum(parameter.numel() for parameter in impala.parameters()) == parameters

    def test_without_memory_there_are_shapes(self):
        with torch.device("meta"):
            shape = torso(SPECTRAL, (2, 16, 16)).state_dict()
        assert {tensor.device.type for tensor in shape.values()} == {"meta"}
        real = torso(SPECTRAL, (2, 16, 16)).state_dict()
        assert {name: tensor.shape for name, tensor in shape.items()} == {n: t.shape for n, t in real.items()}


class TestArithmetic:
    @pytest.mark.parametrize(
        "options",
        [SMALL, SMALL.model_copy(update={"pool": 3, "hidden": (9, 7)}), SPECTRAL],
        ids=["plain", "all", "btr"],
    )
    def test_it_is_the_figure(self, options):
        impala = torso(options, (3, 14, 11)).eval()
        images = 3.0 * noise(2, 3, 14, 11)
        torch.testing.assert_close(impala(images), by_hand(impala, images, 2, options.pool), rtol=1e-5, atol=1e-5)

    def test_features_are_rectified(self):
        features = torso(SMALL, (3, 14, 11))(noise(4, 3, 14, 11))
        assert features.min() == 0.0
        assert 0.1 < (features > 0.0).float().mean() < 0.9

    def test_a_block_without_a_residual_is_the_identity(self):
        block = ResidualBlock(4, convolution, torch_stream(0, "network"))
        images = noise(2, 4, 6, 5)
        before = images.clone()
        block(images)
        assert torch.equal(images, before)  # the block leaves its input alone
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.zero_()
        assert torch.equal(block(images), before)

    def test_a_stack_of_colour_frames_is_a_stack_of_channels(self):
        images = noise(2, 3, 2, 9, 8)
        colour, flat = torso(SMALL, (3, 2, 9, 8)), torso(SMALL, (6, 9, 8))
        assert torch.equal(colour(images), flat(images.reshape(2, 6, 9, 8)))

    @pytest.mark.parametrize("options", [SMALL, SPECTRAL], ids=["plain", "btr"])
    def test_gradients_reach_every_parameter(self, options):
        impala = torso(options, (2, 16, 16))
        coefficients = torch.randn(impala.features, generator=torch_stream(0, "loss"))
        (impala(noise(8, 2, 16, 16)) @ coefficients).sum().backward()
        for name, parameter in impala.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0.0, name


class TestSpectralNorm:
    def test_it_is_in_the_residual_blocks_alone(self):
        impala = torso(SPECTRAL, (2, 16, 16))
        normalised = [module for module in impala.modules() if isinstance(module, SpectralConv2d)]
        plain = [module for module in impala.modules() if isinstance(module, nn.Conv2d)]
        assert [tuple(module.weight.shape[:2]) for module in normalised] == [(4, 4)] * 4 + [(6, 6)] * 4
        assert [tuple(module.weight.shape[:2]) for module in plain] == [(4, 2), (6, 4)]

    def test_off_by_default(self):
        assert not any(isinstance(module, SpectralConv2d) for module in torso(SMALL, (2, 16, 16)).modules())


class TestInitialWeights:
    @pytest.mark.parametrize("options", [SMALL, SPECTRAL], ids=["plain", "btr"])
    def test_they_come_from_the_stream_alone(self, options):
        torch.manual_seed(1)
        first = torso(options, (2, 16, 16), seed=7).state_dict()
        torch.manual_seed(2)
        state = torch.random.get_rng_state()
        second, other = (torso(options, (2, 16, 16), seed).state_dict() for seed in (7, 8))
        assert torch.equal(torch.random.get_rng_state(), state)
        for name, tensor in first.items():
            assert torch.equal(tensor, second[name]), name
            assert not torch.equal(tensor, other[name]), name


class TestInTheQNetwork:
    @pytest.mark.parametrize("options", [SMALL, SPECTRAL], ids=["plain", "btr"])
    @pytest.mark.parametrize("shape", [(2, 16, 16), (2, 3, 16, 16)])
    def test_channels_last_gives_the_same_values_and_gradients(self, options, shape):
        plain, last = qnetwork(options, shape), qnetwork(options, shape, channels_last=True)
        observation = pixels(3, *shape)
        values = [network(observation).values() for network in (plain, last)]
        torch.testing.assert_close(values[1], values[0], rtol=0, atol=1e-5)
        for value in values:
            value.square().sum().backward()
        for ours, theirs in zip(last.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("options", [SMALL, SPECTRAL], ids=["plain", "btr"])
    @pytest.mark.parametrize("channels_last", [False, True])
    def test_bfloat16_is_near_float32(self, options, channels_last):
        exact = qnetwork(options, (2, 16, 16))
        fast = qnetwork(options, (2, 16, 16), autocast=torch.bfloat16, channels_last=channels_last)
        observation = pixels(4, 2, 16, 16)
        near, values = fast(observation).values(), exact(observation).values()
        assert near.dtype is torch.float32
        assert not torch.equal(near, values)
        torch.testing.assert_close(near, values, rtol=0, atol=0.03)
        near.sum().backward()
        for parameter in fast.parameters():
            assert parameter.grad is not None
            assert parameter.grad.dtype is torch.float32
            assert parameter.grad.isfinite().all()


class TestRefused:
    @pytest.mark.parametrize("shape", [(1, 4), (4,), (1, 1, 3, 8, 8)])
    def test_observations_that_are_no_images(self, shape):
        with pytest.raises(UsageError, match=r"network\.torso: impala needs frames .*kind: mlp"):
            torso(ImpalaOptions(), shape)

    @pytest.mark.parametrize("shape", [(4, 40, 84), (4, 84, 40)])
    def test_a_pool_that_is_larger_than_what_it_pools(self, shape):
        with pytest.raises(UsageError, match=r"network\.torso\.pool: 6 is more than the (5x11|11x5) that 3 sections"):
            torso(ImpalaOptions(pool=6), shape)
        assert torso(ImpalaOptions(pool=6), (4, 41, 84)).features == 32 * 6 * 6

    @pytest.mark.parametrize("wrong", [{"channels": []}, {"width": 0}, {"width": 65}, {"pool": 0}])
    def test_options(self, wrong):
        with pytest.raises(ValidationError, match=r"at least 1|greater than|less than"):
            ImpalaOptions.model_validate(wrong)
