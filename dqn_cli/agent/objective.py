"""Objectives: how far a prediction is from its target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from dqn_cli.networks.outputs import Prediction, ScalarPrediction
from dqn_cli.rules.td import check_same_shape


class Objective(Protocol):
    """Loss and priority of each item of a batch."""

    def __call__(self, prediction: Prediction, backup: Prediction) -> tuple[Tensor, Tensor]:
        """Returns losses ``[B]``, with gradients, and priorities ``[B]``, without."""
        ...


class TemporalDifference:
    """A function of the TD error, for scalar heads; the priority is its magnitude.

    Args:
        loss: Elementwise loss of the error.
    """

    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        self._loss = loss

    def __call__(self, prediction: Prediction, backup: Prediction) -> tuple[Tensor, Tensor]:
        """Returns losses ``[B]`` and priorities ``[B]``."""
        if not isinstance(prediction, ScalarPrediction) or not isinstance(backup, ScalarPrediction):
            raise TypeError(f"needs scalar predictions, got {type(prediction)} and {type(backup)}")
        check_same_shape(prediction=prediction.value, backup=backup.value)
        error = backup.value - prediction.value
        return self._loss(error), error.detach().abs()
