"""Value rescaling (Pohlen et al. 2018, Observe and Look Further). Arguments of any shape; results of the same."""

from __future__ import annotations

from torch import Tensor


def rescale(value: Tensor, eps: float) -> Tensor:
    """Returns h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x, for eps of at least 0."""
    # Multiplied by sqrt(|x| + 1) + 1 above and below: the difference would lose the digits of small values.
    return value / ((value.abs() + 1.0).sqrt() + 1.0) + eps * value


def unrescale(value: Tensor, eps: float) -> Tensor:
    """Returns the inverse of ``rescale``, for the same eps."""
    # s = sqrt(|x| + 1) - 1 solves eps s^2 + (1 + 2 eps) s = |h|, and |x| is s (s + 2). The paper solves for s + 1, as a
    # difference over 2 eps, and takes 1 off its square: in float32, eps 1e-3 and x 1, that is off by 1e-4. All terms
    # of this form of the root are positive: no digit cancels, and eps may be 0.
    linear = 1.0 + 2.0 * eps
    root = 2.0 * value / ((linear**2 + 4.0 * eps * value.abs()).sqrt() + linear)  # s with the sign of the value
    return root * (root.abs() + 2.0)
