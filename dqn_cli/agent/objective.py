"""Objectives: how far a prediction is from its target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from dqn_cli.networks.outputs import CategoricalPrediction, Prediction, QuantilePrediction, ScalarPrediction
from dqn_cli.rules.categorical import cross_entropy, project
from dqn_cli.rules.quantile import mean_absolute_error, quantile_huber
from dqn_cli.rules.td import check_same_shape

_Kind = TypeVar("_Kind")


class Objective(Protocol):
    """Loss and priority of each item of a batch."""

    def __call__(self, prediction: Prediction, backup: Prediction) -> tuple[Tensor, Tensor]:
        """Returns losses ``[B]``, with gradients, and priorities ``[B]``, without."""
        ...


class TemporalDifference:
    """A function of the TD error, for scalar heads; the priority is its magnitude.

    Args:
        loss: Elementwise loss of the error.
        slope: Its derivative.
    """

    def __init__(self, loss: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> None:
        self.loss, self.slope = loss, slope

    def __call__(self, prediction: Prediction, backup: Prediction) -> tuple[Tensor, Tensor]:
        """Returns losses ``[B]`` and priorities ``[B]``."""
        predicted, aim = _both(ScalarPrediction, prediction, backup)
        check_same_shape(prediction=predicted.value, backup=aim.value)
        error = aim.value - predicted.value
        return self.loss(error), error.detach().abs()


def categorical_objective(prediction: Prediction, backup: Prediction) -> tuple[Tensor, Tensor]:
    """Returns the cross-entropy to the projected target, as loss ``[B]`` and as priority (Hessel et al. 2018)."""
    predicted, aim = _both(CategoricalPrediction, prediction, backup)
    target = project(aim.atoms.expand_as(aim.logits), torch.softmax(aim.logits, 1), predicted.atoms)
    losses = cross_entropy(target, predicted.logits)
    return losses, losses.detach()


def quantile_objective(prediction: Prediction, backup: Prediction) -> tuple[Tensor, Tensor]:
    """Returns the quantile Huber loss ``[B]`` and the mean magnitude of the pairwise TD errors ``[B]``."""
    predicted, aim = _both(QuantilePrediction, prediction, backup)
    losses = quantile_huber(predicted.quantiles, predicted.fractions, aim.quantiles)
    return losses, mean_absolute_error(predicted.quantiles.detach(), aim.quantiles)


def _both(kind: type[_Kind], prediction: Prediction, backup: Prediction) -> tuple[_Kind, _Kind]:
    if not isinstance(prediction, kind) or not isinstance(backup, kind):
        raise TypeError(f"needs two of {kind.__name__}, got {type(prediction).__name__} and {type(backup).__name__}")
    return prediction, backup
