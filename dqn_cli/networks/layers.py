"""Layers initialised from a named stream, never from the global generator.

Under ``torch.device("meta")`` they have shapes and no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import torch
from torch import Tensor, nn

LinearFactory = Callable[[int, int], nn.Module]
"""(inputs, outputs) -> layer; what makes a network noisy is a different factory."""

ConvolutionFactory = Callable[[tuple[int, int], int, int, torch.Generator, int], nn.Module]
"""(channels in and out, kernel, stride, stream of the weights, padding) -> square convolution."""

NormFactory = Callable[[int], nn.Module]
"""(features) -> layer that normalises them."""


class Linear(nn.Linear):
    """A linear layer whose weights are whatever its memory held, until somebody draws them."""

    def reset_parameters(self) -> None:
        """Draws nothing: torch would draw from the global generator."""


class Convolution(nn.Conv2d):
    """A square convolution whose weights are whatever its memory held, until somebody draws them."""

    def reset_parameters(self) -> None:
        """Draws nothing: torch would draw from the global generator."""

    @property
    def covers_image(self) -> bool:
        """Whether some kernel looks at each pixel, but for a rest at the border, and at nothing but pixels."""
        return self.padding == (0, 0) and self.kernel_size[0] >= self.stride[0]

    def forward(self, image: Tensor) -> Tensor:
        """Returns the outputs for ``image [B, C, H, W]``.

        A kernel of one pixel that skips pixels is one without a stride on the pixels it looks at. Left to oneDNN, its
        gradient writes beyond its memory on processors without AVX-512, where channels come last (torch 2.13).
        """
        if self.kernel_size == (1, 1) and self.stride != (1, 1) and self.padding == (0, 0):
            rows, columns = self.stride
            return nn.functional.conv2d(image[..., ::rows, ::columns], self.weight, self.bias)
        return super().forward(image)


@torch.no_grad()
def fan_in_uniform(weight: Tensor, bias: Tensor | None, generator: torch.Generator) -> None:
    """Draws weights and biases from U(-1/sqrt(fan in), 1/sqrt(fan in)): torch's and the Nature code's rule."""
    if weight.is_meta:  # there is nothing to fill, and torch would import its compiler for a second to find that out
        return
    bound = 1.0 / sqrt(weight[0].numel())
    for parameter in (weight, bias):
        if parameter is not None:
            parameter.uniform_(-bound, bound, generator=generator)


def linear_factory(generator: torch.Generator) -> LinearFactory:
    """Returns a factory of linear layers whose weights come from ``generator``."""

    def linear(inputs: int, outputs: int) -> nn.Linear:
        layer = Linear(inputs, outputs)
        fan_in_uniform(layer.weight, layer.bias, generator)
        return layer

    return linear


def convolution(
    channels: tuple[int, int], kernel: int, stride: int, generator: torch.Generator, padding: int = 0
) -> nn.Conv2d:
    """Returns a square convolution from ``channels[0]`` to ``channels[1]``, with zeros for padding."""
    layer = Convolution(*channels, kernel_size=kernel, stride=stride, padding=padding)
    fan_in_uniform(layer.weight, layer.bias, generator)
    return layer


def rectified_stack(
    inputs: int, hidden: Sequence[int], linear: LinearFactory, norm: NormFactory | None = None
) -> tuple[nn.Sequential, int]:
    """Returns linear layers, each followed by ``norm`` if there is one and a ReLU, and the width of the last."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [linear(inputs, width), *([norm(width)] if norm else []), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers), inputs
