"""The residual torso of IMPALA, and what Beyond the Rainbow adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dqn_cli.core.errors import UsageError
from dqn_cli.core.options import Counts, Options, PositiveCount
from dqn_cli.networks.layers import ConvolutionFactory, LinearFactory, convolution, rectified_stack
from dqn_cli.networks.spectral import spectral_convolution
from dqn_cli.networks.torsos import frame_sizes


class ImpalaOptions(Options):
    """Sections of a convolution, a max pool and two residual blocks; then fully connected layers with ReLU."""

    kind: Literal["impala"] = "impala"
    convolutional: ClassVar[bool] = True
    channels: Annotated[Counts, Field(min_length=1)] = Field(
        (16, 32, 32), description="Output channels of each section."
    )
    width: Annotated[PositiveCount, Field(le=64)] = Field(1, description="Factor on the channels.")
    spectral_norm: bool = Field(False, description="Spectral normalisation in the residual blocks.")
    pool: PositiveCount | None = Field(
        None, description="Side of an adaptive max pool before flattening, in pixels; null: none."
    )
    hidden: Counts = Field((), description="Width of each fully connected layer after them.")


class ResidualBlock(nn.Module):
    """``x + convolve(relu(convolve(relu(x))))``, of one shape ``[B, C, H, W]``.

    Args:
        channels: C.
        convolve: Factory of the two 3x3 convolutions.
        generator: Stream of their initial weights.
    """

    def __init__(self, channels: int, convolve: ConvolutionFactory, generator: torch.Generator) -> None:
        super().__init__()
        # No ReLU in place: the first one would rectify what the skip path adds.
        self.layers = nn.Sequential(
            nn.ReLU(),
            convolve((channels, channels), 3, 1, generator, 1),
            nn.ReLU(),
            convolve((channels, channels), 3, 1, generator, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns the sum ``[B, C, H, W]``."""
        residual: Tensor = self.layers(images)
        return images + residual


class Impala(nn.Module):
    """The large network of Espeholt et al. 2018 (Figure 3, right) without its LSTM, with free sizes.

    Each section halves the sides, rounding up. Beyond the Rainbow (Clark et al. 2024) has channels 32, 64 and 64,
    spectrally normalised residual blocks and a 6x6 adaptive max pool.

    Args:
        shape: Shape of one observation, ``[S, H, W]`` or ``[S, C, H, W]``.
        channels: Output channels of each section.
        spectral_norm: Whether the convolutions in the residual blocks are spectrally normalised.
        pool: Side of an adaptive max pool before flattening; None for none.
        hidden: Widths of the fully connected layers.
        linear: Factory of the fully connected layers.
        generator: Stream of the convolutions' initial weights.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        spectral_norm: bool,
        pool: int | None,
        hidden: Sequence[int],
        linear: LinearFactory,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        inputs, height, width = frame_sizes("impala", shape)
        convolve: ConvolutionFactory = spectral_convolution if spectral_norm else convolution
        layers: list[nn.Module] = []
        for outputs in channels:
            layers += [
                convolution((inputs, outputs), 3, 1, generator, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                ResidualBlock(outputs, convolve, generator),
                ResidualBlock(outputs, convolve, generator),
            ]
            inputs, height, width = outputs, (height + 1) // 2, (width + 1) // 2
        layers.append(nn.ReLU())
        if pool is not None:
            if pool > min(height, width):
                raise UsageError(
                    f"network.torso.pool: {pool} is more than the {height}x{width} that {len(channels)} sections leave "
                    f"of a {shape[-2]}x{shape[-1]} frame; use a smaller pool, fewer sections or larger frames"
                )
            layers.append(nn.AdaptiveMaxPool2d(pool))
            height = width = pool
        self.convolutions = nn.Sequential(*layers)
        self.layers, self.features = rectified_stack(inputs * height * width, hidden, linear)

    def forward(self, observation: Tensor) -> Tensor:
        """Returns features ``[B, F]``."""
        images = observation.flatten(1, -3)  # of [B, S, C, H, W] the stack is more channels
        features: Tensor = self.layers(self.convolutions(images).flatten(1))
        return features
