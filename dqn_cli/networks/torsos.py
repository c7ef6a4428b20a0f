"""Torsos: from observations ``[B, S, ...]``, floating point and scaled, to features ``[B, F]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from dqn_cli.core.errors import UsageError
from dqn_cli.core.options import Counts, Options
from dqn_cli.networks.layers import LinearFactory, NormFactory, convolution, rectified_stack


class MlpOptions(Options):
    """Fully connected layers with ReLU."""

    kind: Literal["mlp"] = "mlp"
    convolutional: ClassVar[bool] = False
    hidden: Counts = Field((256, 256), description="Width of each layer.")
    layer_norm: bool = Field(False, description="Layer normalisation before each ReLU.")


class Mlp(nn.Module):
    """Flattens the observation and applies linear layers with ReLU.

    Args:
        shape: Shape of one observation, ``[S, ...]``.
        hidden: Width of each layer; empty for the flattened observation itself.
        linear: Factory of the layers.
        norm: Factory of what normalises before each ReLU; None for nothing.
    """

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], linear: LinearFactory, norm: NormFactory | None = None
    ) -> None:
        super().__init__()
        self.layers, self.features = rectified_stack(int(torch.Size(shape).numel()), hidden, linear, norm)

    def forward(self, observation: Tensor) -> Tensor:
        """Returns features ``[B, F]``."""
        features: Tensor = self.layers(observation.flatten(1))
        return features


class CnnOptions(Options):
    """Convolutions without padding, then fully connected layers, all with ReLU."""

    kind: Literal["cnn"] = "cnn"
    convolutional: ClassVar[bool] = True
    channels: Counts = Field((32, 64, 64), description="Output channels of each convolution.")
    kernels: Counts = Field((8, 4, 3), description="Kernel size of each convolution, in pixels.")
    strides: Counts = Field((4, 2, 1), description="Stride of each convolution, in pixels.")
    hidden: Counts = Field((512,), description="Width of each fully connected layer after them.")

    @model_validator(mode="after")
    def _same_lengths(self) -> CnnOptions:
        if not len(self.channels) == len(self.kernels) == len(self.strides) > 0:
            raise ValueError(
                "channels, kernels and strides need one entry for each convolution, got "
                f"{len(self.channels)}, {len(self.kernels)} and {len(self.strides)}"
            )
        return self


def frame_sizes(kind: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns channels, height and width of the images in observations ``[S, H, W]`` or ``[S, C, H, W]``.

    Raises:
        UsageError: They hold no images; ``kind`` is the torso that needs some.
    """
    if len(shape) not in (3, 4):
        raise UsageError(
            f"network.torso: {kind} needs frames of shape [H, W] or [C, H, W], got {list(shape[1:])}; use `kind: mlp`"
        )
    return int(torch.Size(shape[:-2]).numel()), shape[-2], shape[-1]


class Cnn(nn.Module):
    """The network of Mnih et al. 2015 with free sizes: the defaults of `CnnOptions` are theirs.

    Args:
        shape: Shape of one observation, ``[S, H, W]`` or ``[S, C, H, W]``.
        channels: Output channels of each convolution.
        kernels: Kernel sizes.
        strides: Strides.
        hidden: Widths of the fully connected layers.
        linear: Factory of the fully connected layers.
        generator: Stream of the convolutions' initial weights.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
        hidden: Sequence[int],
        linear: LinearFactory,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        inputs, height, width = frame_sizes("cnn", shape)
        layers: list[nn.Module] = []
        for outputs, kernel, stride in zip(channels, kernels, strides, strict=True):
            layers += [convolution((inputs, outputs), kernel, stride, generator), nn.ReLU()]
            inputs, height, width = outputs, (height - kernel) // stride + 1, (width - kernel) // stride + 1
            if height < 1 or width < 1:
                raise UsageError(
                    f"network.torso: the convolutions {list(kernels)} with strides {list(strides)} leave nothing "
                    f"of a {shape[-2]}x{shape[-1]} frame; use smaller kernels or strides, or larger frames"
                )
        self.convolutions = nn.Sequential(*layers)
        self.layers, self.features = rectified_stack(inputs * height * width, hidden, linear)

    def forward(self, observation: Tensor) -> Tensor:
        """Returns features ``[B, F]``."""
        if observation.ndim == 5:  # [B, S, C, H, W]: the stack is more channels
            observation = observation.flatten(1, 2)
        features: Tensor = self.layers(self.convolutions(observation).flatten(1))
        return features
