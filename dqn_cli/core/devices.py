"""Between the host and the device of a run: the one place where data crosses, and where the host waits."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dqn_cli.core.types import Array

_Value = TypeVar("_Value", bound=np.generic)


def to_device(values: Array | Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Returns ``values`` on ``device``, without waiting for it; on a CPU they may share memory.

    What is copied to a GPU is first copied to page-locked memory, which alone can be read while the host goes on. It is
    fresh each time: torch hands a page-locked block out again only when the copies that read it are done.

    Args:
        values: An array, or a tensor on the host or already there.
        device: Where they are wanted.
        dtype: What they become, there; None: what they are.
    """
    tensor = torch.from_numpy(values) if not isinstance(values, Tensor) else values
    moved = locked(tensor, device).to(device, non_blocking=True)
    return moved if dtype is None else moved.to(dtype)


def copy_into(destination: Tensor, values: Array) -> None:
    """Writes ``values`` into ``destination``, of the same shape, without waiting for its device."""
    destination.copy_(locked(torch.from_numpy(values), destination.device), non_blocking=True)


@overload
def to_host(values: npt.NDArray[_Value]) -> npt.NDArray[_Value]: ...
@overload
def to_host(values: Tensor) -> npt.NDArray[Any]: ...
def to_host(values: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    """Returns ``values`` as an array, which waits until their device has worked out what leads to them."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def locked(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor whose memory ``device`` can copy from while the host goes on."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
