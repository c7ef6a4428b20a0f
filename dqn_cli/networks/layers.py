"""Layers initialised from a named stream, never from the global generator.

Under ``torch.device("meta")`` they have shapes and no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import torch
from torch import nn

LinearFactory = Callable[[int, int], nn.Module]
"""(inputs, outputs) -> layer; what makes a network noisy is a different factory."""


def _fan_in_uniform(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    """Draws weights and biases from U(-1/sqrt(fan in), 1/sqrt(fan in)): torch's and the Nature code's rule."""
    bound = 1.0 / sqrt(layer.weight[0].numel())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)


def linear_factory(generator: torch.Generator) -> LinearFactory:
    """Returns a factory of linear layers whose weights come from ``generator``."""

    def linear(inputs: int, outputs: int) -> nn.Linear:
        layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, inputs, outputs, device=torch.get_default_device()
        )
        _fan_in_uniform(layer, generator)
        return layer

    return linear


def convolution(channels: tuple[int, int], kernel: int, stride: int, generator: torch.Generator) -> nn.Conv2d:
    """Returns a square convolution without padding from ``channels[0]`` to ``channels[1]``."""
    layer: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, *channels, kernel_size=kernel, stride=stride, device=torch.get_default_device()
    )
    _fan_in_uniform(layer, generator)
    return layer


def rectified_stack(inputs: int, hidden: Sequence[int], linear: LinearFactory) -> tuple[nn.Sequential, int]:
    """Returns linear layers with a ReLU after each, and the width of the last."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers), inputs
