"""The values that travel between the parts.

Shapes everywhere: B batch, N environments, A actions, S stack, K atoms or quantiles, T time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.generic]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

Keys = IntArray | torch.Tensor
"""Item numbers ``[B]`` int64, where the priorities of the items live: on the host, or on a device."""


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """One frame of an environment, as it is stored and as a network sees it.

    Attributes:
        shape: Shape of one frame, without the stack axis; images are (H, W) or (C, H, W).
        dtype: Storage dtype.
        stack: Number of frames in an observation, S; an observation is ``[S, *shape]``.
        scale: Factor that brings stored values into the range that a network wants (1/255 for pixels).
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    stack: int
    scale: float

    @property
    def frame_bytes(self) -> int:
        """Bytes of one stored frame."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Batch:
    """Sampled transitions, possibly of several steps.

    Attributes:
        observation: ``[B, S, ...]``, in the storage dtype.
        action: ``[B]`` int64.
        reward: ``[B]`` float32, the discounted n-step sum of (clipped) rewards.
        discount: ``[B]`` float32, gamma^k with the true number of steps k, 0 when terminal.
        next_observation: ``[B, S, ...]``, k steps later.
        weight: ``[B]`` float32 importance weights.
        key: ``[B]`` int64 item numbers, for ``Replay.reprioritize``.
    """

    observation: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    discount: torch.Tensor
    next_observation: torch.Tensor
    weight: torch.Tensor
    key: Keys

    def part(self, number: int, count: int) -> Batch:
        """Returns one of the ``count`` batches of equal size that lie one behind the other in this one, as views."""
        size = len(self.key) // count
        rows = slice(number * size, (number + 1) * size)
        return Batch(
            self.observation[rows],
            self.action[rows],
            self.reward[rows],
            self.discount[rows],
            self.next_observation[rows],
            self.weight[rows],
            self.key[rows],
        )
