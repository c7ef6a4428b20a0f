"""Spectral normalisation of convolutions, with a vector of its own random stream (Miyato et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize

from dqn_cli.networks.layers import convolution

FIRST_ITERATIONS = 15
"""Power iterations on a fresh weight: as many as torch's own layer takes."""


class SpectralConv2d(nn.Module):
    """A convolution with the weight W / sigma, sigma being the largest singular value of W as ``[outputs, -1]``.

    sigma is u^T W v, where u and v are constants of the gradient (Miyato et al. 2018, Algorithm 1 and equation 11). u
    is kept, v follows from it. An update brings one power iteration; what takes no gradient (acting, targets,
    evaluation) changes nothing.

    Args:
        plain: The convolution, padded with zeros if at all; its weight and bias become this layer's.
        generator: Stream of the first u.
    """

    u: Tensor

    def __init__(self, plain: nn.Conv2d, generator: torch.Generator) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        self._stride, self._padding = plain.stride, plain.padding
        self.register_buffer("u", torch.empty(plain.out_channels, device=self.weight.device))
        if not self.u.is_meta:  # without memory there is nothing to converge, and torch would take a second over it
            self.u.normal_(generator=generator)
            self.iterate(FIRST_ITERATIONS)

    def forward(self, images: Tensor) -> Tensor:
        """Returns ``[B, outputs, H', W']`` for ``images [B, inputs, H, W]``."""
        with torch.autocast(images.device.type, enabled=False):  # eight bits of a singular value are too few
            if self.training and torch.is_grad_enabled():
                self.iterate(1)
            weight = self.weight / self.sigma()
        return conv2d(images, weight, self.bias, self._stride, self._padding)

    def sigma(self) -> Tensor:
        """Returns the largest singular value, as u knows it."""
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            u = self.u.clone()  # the gradient needs this one, and the next iteration overwrites the buffer
            v = normalize(u @ matrix, dim=0)
        return u @ (matrix @ v)

    @torch.no_grad()
    def iterate(self, times: int) -> None:
        """Brings u closer to the first left singular vector of the weight."""
        matrix = self.weight.flatten(1)
        for _ in range(times):
            v = normalize(self.u @ matrix, dim=0)
            self.u.copy_(normalize(matrix @ v, dim=0))


def spectral_convolution(
    channels: tuple[int, int], kernel: int, stride: int, generator: torch.Generator, padding: int = 0
) -> SpectralConv2d:
    """Returns a square convolution from ``channels[0]`` to ``channels[1]``, spectrally normalised."""
    return SpectralConv2d(convolution(channels, kernel, stride, generator, padding), generator)


def renew_singular_vectors(module: nn.Module) -> None:
    """Brings the singular vectors in ``module`` up to weights that were changed by more than an update."""
    for layer in module.modules():
        if isinstance(layer, SpectralConv2d):
            layer.iterate(FIRST_ITERATIONS)
