"""Noisy layers (trap 16): rank-1 noise, fresh at each use, independent networks, means in evaluation."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.heads import PlainStream, ScalarHead
from dqn_cli.networks.layers import linear_factory
from dqn_cli.networks.noisy import NoisyLinear, noisy_factory, resample
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.torsos import Mlp

INPUTS, OUTPUTS = 6, 4


def layer(sigma: float = 0.5) -> NoisyLinear:
    return NoisyLinear(INPUTS, OUTPUTS, sigma, torch_stream(0, "network"))


def features(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, INPUTS, generator=torch_stream(0, "features"))


def noise_of(subject: NoisyLinear) -> torch.Tensor:
    """Returns the noise on the weights, read off the layer's own answers to unit vectors."""
    with torch.no_grad():
        bias = subject(torch.zeros(1, INPUTS))
        weight = (subject(torch.eye(INPUTS)) - bias).T
        noise: torch.Tensor = (weight - subject.weight) / subject.weight_sigma
        return noise


def network(noise: str = "noise") -> QNetwork:
    weights, own = torch_stream(0, "network"), torch_stream(0, noise)
    torso = Mlp((1, INPUTS), (5,), linear_factory(weights))
    return QNetwork(torso, ScalarHead(PlainStream(5, 3, 1, (7,), noisy_factory(0.5, weights))), 1.0, own)


class TestLayer:
    def test_initial_values_are_those_of_the_paper(self):
        subject, plain = layer(), linear_factory(torch_stream(0, "network"))(INPUTS, OUTPUTS)
        assert torch.equal(subject.weight, plain.weight)  # type: ignore[arg-type]
        assert torch.equal(subject.bias, plain.bias)  # type: ignore[arg-type]
        for sigma in (subject.weight_sigma, subject.bias_sigma):
            assert torch.equal(sigma, torch.full_like(sigma, 0.5 / sqrt(INPUTS)))

    def test_noise_is_factorised(self):
        subject = layer()
        resample([subject], torch_stream(0, "noise"))
        assert torch.linalg.matrix_rank(noise_of(subject), rtol=1e-4) == 1
        torch.testing.assert_close(noise_of(subject), torch.outer(subject.noise_out, subject.noise_in))

    def test_the_bias_has_the_noise_of_its_output(self):
        subject = layer()
        resample([subject], torch_stream(0, "noise"))
        found = subject(torch.zeros(1, INPUTS))[0]
        torch.testing.assert_close(found, subject.bias + subject.bias_sigma * subject.noise_out)

    def test_noise_is_a_normal_under_a_signed_root(self):
        subject = NoisyLinear(40_000, 1, 0.5, torch_stream(0, "network"))
        resample([subject], torch_stream(0, "noise"))
        normal = subject.noise_in.sign() * subject.noise_in.square()
        assert normal.mean().item() == pytest.approx(0.0, abs=0.02)
        assert normal.std().item() == pytest.approx(1.0, abs=0.02)
        assert (normal.abs() > 2.0).float().mean().item() == pytest.approx(0.0455, abs=0.005)

    def test_gradients_reach_means_and_scales(self):
        subject = layer()
        resample([subject], torch_stream(0, "noise"))
        subject(features()).sum().backward()
        expected = features().sum(0).expand(OUTPUTS, -1)
        torch.testing.assert_close(subject.weight.grad, expected)
        noise = torch.outer(subject.noise_out, subject.noise_in)
        torch.testing.assert_close(subject.weight_sigma.grad, expected * noise)
        torch.testing.assert_close(subject.bias_sigma.grad, 3.0 * subject.noise_out)

    def test_evaluation_uses_the_means(self):
        subject = layer()
        resample([subject], torch_stream(0, "noise"))
        noisy, mean = subject(features()), subject.eval()(features())
        assert not torch.equal(noisy, mean)
        assert torch.equal(mean, torch.nn.functional.linear(features(), subject.weight, subject.bias))

    def test_a_state_has_no_noise(self):
        assert sorted(layer().state_dict()) == ["bias", "bias_sigma", "weight", "weight_sigma"]


class TestNetwork:
    def test_noise_stays_until_it_is_drawn_again(self):
        subject, observation = network(), features()[:, None]
        subject.resample()
        first = subject(observation).values()
        assert torch.equal(first, subject(observation).values())
        subject.resample()
        assert not torch.equal(first, subject(observation).values())

    def test_layers_have_noise_of_their_own(self):
        subject = network()
        subject.resample()
        body, out = (module for module in subject.modules() if isinstance(module, NoisyLinear))
        assert body.noise_out.tolist() != out.noise_in.tolist()

    def test_online_and_target_are_independent(self):
        online, target = network("online noise"), network("target noise")
        for subject in (online, target):
            subject.resample()
        assert not torch.equal(online(features()[:, None]).values(), target(features()[:, None]).values())

    def test_the_torso_is_not_noisy(self):
        names = {name for name, module in network().named_modules() if isinstance(module, NoisyLinear)}
        assert names == {"head.streams.body.0", "head.streams.out"}

    def test_without_noisy_layers_nothing_is_drawn(self):
        weights = torch_stream(0, "network")
        torso = Mlp((1, INPUTS), (5,), linear_factory(weights))
        head = ScalarHead(PlainStream(5, 3, 1, (), linear_factory(weights)))
        subject = QNetwork(torso, head, 1.0, torch_stream(0, "noise"))
        before = subject.generator.get_state()
        subject.resample()
        assert torch.equal(before, subject.generator.get_state())

    def test_the_global_stream_is_left_alone(self):
        before = torch.random.get_rng_state()
        network().resample()
        assert torch.equal(before, torch.random.get_rng_state())
