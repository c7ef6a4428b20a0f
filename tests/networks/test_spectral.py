"""Spectral normalisation: the singular value, its gradient, and when the vector behind it may move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize
from torch.nn.utils.parametrizations import spectral_norm

from dqn_cli.agent.actor import greedy_actions
from dqn_cli.agent.bootstrap import DoubleOptions
from dqn_cli.agent.optimizers import AdamOptions
from dqn_cli.agent.targets import PeriodicOptions
from dqn_cli.core.rng import torch_stream
from dqn_cli.core.types import Batch
from dqn_cli.networks.heads import PlainStream, ScalarHead
from dqn_cli.networks.layers import convolution, linear_factory
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.spectral import SpectralConv2d, spectral_convolution
from dqn_cli.networks.torsos import Mlp
from tests.agent.toys import learner
from tests.core.saving import reloaded


def layer(seed=0) -> SpectralConv2d:
    return spectral_convolution((3, 8), 3, 2, torch_stream(seed, "network"), padding=1)


def images(name="images", batch=2) -> Tensor:
    return torch.randn(batch, 3, 9, 7, generator=torch_stream(0, name))


def largest(weight: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.matrix_norm(weight.detach().flatten(1), 2)
    return norm


def one_iteration(u: Tensor, weight: Tensor) -> Tensor:
    matrix = weight.detach().reshape(len(weight), -1)
    v = matrix.T.mv(u)
    return normalize(matrix.mv(normalize(v, dim=0)), dim=0)


def torchs_own(ours: SpectralConv2d) -> Any:
    """Torch's layer with our weight and vectors."""
    plain = convolution((3, 8), 3, 2, torch_stream(0, "network"), padding=1)
    theirs: Any = spectral_norm(plain)
    with torch.no_grad():
        norm = theirs.parametrizations.weight[0]
        theirs.parametrizations.weight.original.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
        norm._u.copy_(ours.u)
        norm._v.copy_(normalize(ours.weight.flatten(1).T @ ours.u, dim=0))
    return theirs


class TestSingularValue:
    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_near_from_the_start_and_never_too_large(self, seed):
        fresh = layer(seed)
        assert 0.93 < (fresh.sigma() / largest(fresh.weight)).item() <= 1.0 + 1e-6
        assert fresh.u.norm().item() == pytest.approx(1.0)

    def test_iterations_converge_to_it(self):
        fresh = layer()
        fresh.iterate(500)
        torch.testing.assert_close(fresh.sigma(), largest(fresh.weight), rtol=1e-6, atol=0)

    def test_the_weight_in_use_has_the_largest_singular_value_one(self):
        fresh = layer().eval()
        fresh.iterate(500)
        unit = fresh.weight / largest(fresh.weight)
        expected = conv2d(images(), unit, fresh.bias, stride=2, padding=1)
        torch.testing.assert_close(fresh(images()), expected, rtol=0, atol=1e-5)
        assert expected.shape == (2, 8, 5, 4)

    def test_a_longer_weight_is_the_same_layer(self):
        fresh = layer().eval()
        before = fresh(images())
        with torch.no_grad():
            fresh.weight *= 100.0
        torch.testing.assert_close(fresh(images()), before, rtol=0, atol=1e-5)


class TestAgainstTorch:
    @pytest.mark.parametrize("training", [False, True])
    def test_outputs_gradients_and_the_next_vector(self, training):
        ours = layer().train(training)
        theirs = torchs_own(ours).train(training)
        inputs = [images().requires_grad_() for _ in range(2)]
        outputs = [module(image) for module, image in zip((ours, theirs), inputs, strict=True)]
        coefficients = torch.randn(outputs[0].shape, generator=torch_stream(0, "loss"))
        for output in outputs:
            (output.square() * coefficients).sum().backward()
        pairs = [
            (outputs[0], outputs[1]),
            (ours.weight.grad, theirs.parametrizations.weight.original.grad),
            (ours.bias.grad, theirs.bias.grad) if ours.bias is not None else (None, 1),
            (inputs[0].grad, inputs[1].grad),
            (ours.u, theirs.parametrizations.weight[0]._u),
        ]
        for our, their in pairs:
            torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)


class TestWhenTheVectorMoves:
    @pytest.mark.parametrize("mode", ["no_grad", "inference", "evaluation", "evaluation without gradients"])
    def test_not_without_an_update(self, mode):
        module = layer()
        before = module.u.clone()
        module.train(not mode.startswith("evaluation"))
        with torch.inference_mode(mode == "inference"), torch.set_grad_enabled(mode == "evaluation"):
            first = module(images())
            assert torch.equal(first, module(images()))
        assert torch.equal(module.u, before)

    def test_one_iteration_with_each_update(self):
        module = layer()
        for _ in range(3):
            expected = one_iteration(module.u, module.weight)
            assert not torch.allclose(module.u, expected, rtol=0, atol=1e-5)
            module(images())
            torch.testing.assert_close(module.u, expected, rtol=0, atol=1e-6)

    def test_what_follows_an_update_sees_the_weight_that_the_update_saw(self):
        module = layer()
        during = module(images())
        with torch.no_grad():
            assert torch.equal(module(images()), during)
        assert torch.equal(module.eval()(images()), during)

    @pytest.mark.parametrize("gradients", [False, True])
    def test_a_second_call_leaves_the_gradient_of_the_first_alone(self, gradients):
        alone, twice = layer(), layer()
        alone(images()).square().sum().backward()
        loss = twice(images()).square().sum()
        with torch.set_grad_enabled(gradients):
            twice(images("more"))
        loss.backward()
        assert torch.equal(twice.weight.grad, alone.weight.grad)  # type: ignore[arg-type]

    def test_gradients_through_two_calls(self):
        module = layer()
        (module(images()).square().sum() + module(images("more")).square().sum()).backward()
        assert module.weight.grad is not None
        assert module.weight.grad.isfinite().all()
        assert not module.u.requires_grad


class TestAutocast:
    @pytest.mark.parametrize("training", [False, True])
    def test_the_singular_value_stays_float32(self, training):
        exact, fast = layer().train(training), layer().train(training)
        expected = exact(images())
        with torch.autocast("cpu", torch.bfloat16):
            near = fast(images())
        assert near.dtype is torch.bfloat16
        assert torch.equal(fast.u, exact.u)
        weight = (exact.weight / exact.sigma()).detach()
        rounded = conv2d(images().bfloat16(), weight.bfloat16(), fast.bias.bfloat16(), 2, 1)  # type: ignore[union-attr]
        assert torch.equal(near, rounded)
        torch.testing.assert_close(near.float(), expected, rtol=0, atol=0.02)


class TestState:
    def test_names(self):
        state = layer().state_dict()
        assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
            "weight": (8, 3, 3, 3),
            "bias": (8,),
            "u": (8,),
        }

    def test_it_is_whole(self):
        module, restored = layer(0), layer(1)
        module(images())
        restored.load_state_dict(reloaded(module.state_dict()))
        for _ in range(2):
            assert torch.equal(restored(images()), module(images()))

    def test_the_first_vector_comes_from_the_stream_alone(self):
        torch.manual_seed(1)
        first = layer(7)
        torch.manual_seed(2)
        state = torch.random.get_rng_state()
        second, other = layer(7), layer(8)
        second(images())
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.equal(first.u, layer(7).u)
        assert torch.equal(first.weight, second.weight)
        assert not torch.equal(first.u, other.u)
        convolutions = [convolution((3, 8), 3, 2, torch_stream(0, "network")) for _ in range(2)]
        vectors = [SpectralConv2d(plain, torch_stream(seed, "u")).u for seed, plain in enumerate(convolutions)]
        assert not torch.equal(*vectors)

    def test_without_memory_there_are_shapes(self):
        with torch.device("meta"):
            shape = layer()
        assert {tensor.device.type for tensor in shape.state_dict().values()} == {"meta"}
        assert [tuple(tensor.shape) for tensor in shape.state_dict().values()] == [(8, 3, 3, 3), (8,), (8,)]


def test_an_update_of_the_learner_is_one_iteration_and_acting_is_none():
    def network() -> QNetwork:
        generator = torch_stream(0, "network")
        linear = linear_factory(generator)
        torso = nn.Sequential(layer(), nn.ReLU(), Mlp((8, 5, 4), (), linear))
        return QNetwork(torso, ScalarHead(PlainStream(8 * 5 * 4, 4, 1, (), linear)), 1.0, torch.Generator())

    online, target = network(), network()
    rule = learner(AdamOptions(), PeriodicOptions(every_updates=3), DoubleOptions(), online=online, slow=target)
    fast, slow = online.torso.get_submodule("0"), target.torso.get_submodule("0")
    assert isinstance(fast, SpectralConv2d)
    assert isinstance(slow, SpectralConv2d)
    action = torch.tensor([0, 3])
    batch = Batch(images(), action, torch.ones(2), torch.ones(2), images("more"), torch.ones(2), np.arange(2))
    first = fast.u.clone()
    for updates in range(1, 4):
        expected = one_iteration(fast.u, fast.weight)
        rule.update(batch, updates)
        torch.testing.assert_close(fast.u, expected, rtol=0, atol=1e-6)
        greedy_actions(online, images().numpy(), torch.device("cpu"))
        torch.testing.assert_close(fast.u, expected, rtol=0, atol=1e-6)
        assert torch.equal(slow.u, first if updates < 3 else fast.u)
