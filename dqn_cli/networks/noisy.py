"""Noisy layers: exploration by parameters (Fortunato et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from dqn_cli.core.options import Options, PositiveFloat
from dqn_cli.networks.layers import LinearFactory, fan_in_uniform


class NoisyOptions(Options):
    """Factorised noise on the weights of the head's layers."""

    sigma: Annotated[PositiveFloat, Field(le=1_000.0)] = Field(
        0.5, description="Initial scale of the noise, divided by the root of the inputs."
    )


class NoisyLinear(nn.Module):
    """A linear layer with factorised Gaussian noise on weights and biases (Fortunato et al. 2018, equations 9 to 11).

    In training ``w = mu_w + sigma_w * f(e_out) f(e_in)^T`` and ``b = mu_b + sigma_b * f(e_out)`` with
    ``f(x) = sign(x) sqrt(|x|)``; in evaluation the means alone. Noise stays until `resample`.

    Args:
        inputs: Features in.
        outputs: Features out.
        sigma: Initial scale sigma_0.
        generator: Stream of the initial means.
    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, inputs: int, outputs: int, sigma: float, generator: torch.Generator) -> None:
        super().__init__()
        scale = sigma / sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), scale))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), scale))
        fan_in_uniform(self.weight, self.bias, generator)
        # Drawn anew before each use, so that no checkpoint needs them.
        self.register_buffer("noise_in", torch.zeros(inputs), persistent=False)
        self.register_buffer("noise_out", torch.zeros(outputs), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Returns ``[B, outputs]`` for ``features [B, inputs]``."""
        if not self.training:
            return nn.functional.linear(features, self.weight, self.bias)
        weight = torch.addcmul(self.weight, self.weight_sigma, torch.outer(self.noise_out, self.noise_in))
        bias = torch.addcmul(self.bias, self.bias_sigma, self.noise_out)
        return nn.functional.linear(features, weight, bias)


@torch.no_grad()
def resample(layers: Sequence[NoisyLinear], generator: torch.Generator) -> None:
    """Draws fresh noise for all ``layers`` at once: small kernels would cost more than the numbers."""
    vectors = [noise for layer in layers for noise in (layer.noise_in, layer.noise_out)]
    sizes = [len(noise) for noise in vectors]
    normal = torch.randn(sum(sizes), generator=generator, device=vectors[0].device)
    torch._foreach_copy_(vectors, torch.split(normal.abs().sqrt().copysign(normal), sizes))


def noisy_factory(sigma: float, generator: torch.Generator) -> LinearFactory:
    """Returns a factory of noisy layers whose initial means come from ``generator``."""

    def linear(inputs: int, outputs: int) -> NoisyLinear:
        return NoisyLinear(inputs, outputs, sigma, generator)

    return linear
