"""Augmentations of sampled batches: learning from images that were never seen (Kostrikov et al. 2021, DrQ)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from dqn_cli.core.options import Options, PositiveCount, PositiveFloat
from dqn_cli.core.types import Batch

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""(observations ``[B, S, ...]`` in the storage's range, stream) -> the same, changed."""


class RandomShiftOptions(Options):
    """Each observation is shifted by up to some pixels, its border repeated."""

    kind: Literal["random_shift"] = "random_shift"
    pixels: Annotated[PositiveCount, Field(le=1_000)] = Field(4, description="Most pixels in each direction.")


class IntensityOptions(Options):
    """Each observation is made brighter or darker by a random factor."""

    kind: Literal["intensity"] = "intensity"
    scale: PositiveFloat = Field(0.05, description="Standard deviation of the factor around 1; cut at two of them.")


class RandomShift:
    """Crops at a random place of the image padded with its border (Kostrikov et al. 2021, section 4.1).

    Args:
        pixels: Most pixels in each direction.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels

    def __call__(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Returns ``[B, ..., H, W]``; all frames of one observation are shifted alike."""
        batch, (height, width) = len(observation), observation.shape[-2:]
        device = observation.device
        planes = observation.reshape(batch, -1, height, width)
        offsets = torch.randint(
            -self._pixels, self._pixels + 1, (2, batch, 1), generator=generator, device=generator.device
        )
        # Beyond the border the nearest pixel is taken: padding by replication, without a padded copy.
        rows = (torch.arange(height, device=device) + offsets[0]).clamp(0, height - 1)
        columns = (torch.arange(width, device=device) + offsets[1]).clamp(0, width - 1)
        items = torch.arange(batch, device=device)[:, None, None, None]
        channels = torch.arange(planes.shape[1], device=device)[None, :, None, None]
        return planes[items, channels, rows[:, None, :, None], columns[:, None, None, :]].view_as(observation)


class Intensity:
    """Multiplies each observation with 1 + scale * clip(normal, -2, 2), as Dopamine's DrQ does.

    Args:
        scale: Standard deviation.
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def __call__(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Returns ``[B, ...]`` in float32."""
        shape = (len(observation), *[1] * (observation.ndim - 1))
        normal = torch.randn(shape, generator=generator, device=generator.device).clamp(-2.0, 2.0)
        return observation * (1.0 + self._scale * normal)


class Augmentations:
    """Applies augmentations in order, to observations and successors independently.

    Args:
        steps: The augmentations.
        generator: Their stream, on the device of the batches.
    """

    def __init__(self, steps: Sequence[Augmentation], generator: torch.Generator) -> None:
        self._steps, self.generator = steps, generator

    def __call__(self, batch: Batch) -> Batch:
        """Returns the batch with other observations."""
        if not self._steps:
            return batch
        observation, successor = batch.observation, batch.next_observation
        for step in self._steps:
            observation, successor = step(observation, self.generator), step(successor, self.generator)
        return replace(batch, observation=observation, next_observation=successor)
