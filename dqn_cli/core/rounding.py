"""How far two ways to the same numbers may be apart."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-3
"""Of the largest number: kernels whose sums have another order differ by that much at most, and by far less mostly."""


def deviation(found: Tensor, expected: Tensor) -> str | None:
    """Returns how a tensor differs from the one that was expected by more than rounding, or None; waits for the device.

    Of whole numbers only the shape is looked at, since they follow from others, up to ties. What is no finite number in
    ``expected`` must be none in ``found``.
    """
    if found.shape != expected.shape:
        return f"has shape {tuple(found.shape)} for {tuple(expected.shape)}"
    if not found.is_floating_point() or not found.numel():
        return None
    finite = expected.isfinite()
    if not torch.equal(found.isfinite(), finite):
        return "is finite where it should not be, or the other way round"
    error = float((found - expected).where(finite, 0.0).abs().max())
    size = float(expected.where(finite, 0.0).abs().max())
    if error <= TOLERANCE * size + torch.finfo(torch.float32).tiny:
        return None
    return f"is off by {error:.3g} where the largest number is {size:.3g}"
