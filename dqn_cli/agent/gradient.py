"""From batches to the gradients of their losses, by autograd or written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dqn_cli.agent.bootstrap import Bootstrap
from dqn_cli.agent.objective import Objective, TemporalDifference
from dqn_cli.core.types import Batch
from dqn_cli.networks.outputs import Output, ScalarPrediction
from dqn_cli.networks.perceptron import Perceptron
from dqn_cli.networks.qnetwork import QNetwork

_BATCHES_AT_ONCE = 8
_SMALL_PARAMETERS = 2**18
"""Of a network whose updates take a millisecond: only what is short gains, and a stop waits for all of a call."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of batches once their gradients are.

    Attributes:
        loss: ``[count]`` mean of the weighted losses of each batch.
        q_mean: ``[count]`` mean value of the actions taken in each batch.
        priority: ``[count * B]``.
    """

    loss: Tensor
    q_mean: Tensor
    priority: Tensor


class Gradient(Protocol):
    """Measures batches and leaves the gradient of each one's loss in the parameters of the online network.

    Attributes:
        most: How many batches it takes at once.
    """

    most: int

    def __call__(self, batch: Batch, count: int, descend: Callable[[], None]) -> Measured:
        """Goes through the ``count`` batches that lie one behind the other in ``batch``, and returns what it measured.

        Args:
            batch: ``[count * B]``.
            count: At most ``most``; the target network must stand still meanwhile.
            descend: Is called once for each batch, when each parameter's ``grad`` is that of this batch alone.
        """
        ...


class AutogradGradient:
    """The gradient of any network, bootstrap and objective, of one batch at a time.

    Args:
        online: The network that learns.
        target: Its slow copy.
        bootstrap: Builds targets.
        objective: Measures the error.
    """

    most = 1

    def __init__(self, online: QNetwork, target: QNetwork, bootstrap: Bootstrap, objective: Objective) -> None:
        self._online, self._target = online, target
        self._bootstrap, self._objective = bootstrap, objective
        self._parameters = list(online.parameters())

    def __call__(self, batch: Batch, count: int, descend: Callable[[], None]) -> Measured:
        """Measures ``batch``, one batch, as the protocol says."""
        if count > self.most:
            raise ValueError(f"one batch at a time, got {count}")
        output: Output = self._online(batch.observation)
        prediction = output.select(batch.action)
        with torch.no_grad():
            backup = self._bootstrap(self._online, self._target, batch)
        losses, priority = self._objective(prediction, backup)
        loss = (batch.weight * losses).mean()
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        descend()
        return Measured(loss.detach()[None], prediction.mean().detach().mean()[None], priority)


class PerceptronGradient:
    """The same for the TD error of a network of linear layers and ReLU, without autograd.

    With the network of CartPole autograd's own work takes longer than the arithmetic. The target network stands still
    for some updates, so that the targets of several batches are one pass, and so is what is measured.

    Args:
        online: The network that learns.
        target: Its slow copy.
        bootstrap: Builds targets.
        objective: Measures the error.
        perceptron: The online network written out.
        asks_online: Whether targets depend on the online network too, and so on the update before.
    """

    def __init__(
        self,
        online: QNetwork,
        target: QNetwork,
        bootstrap: Bootstrap,
        objective: TemporalDifference,
        perceptron: Perceptron,
        asks_online: bool,
    ) -> None:
        self._online, self._target = online, target
        self._bootstrap, self._objective = bootstrap, objective
        self._perceptron, self._asks_online = perceptron, asks_online
        self.most = _BATCHES_AT_ONCE if perceptron.size <= _SMALL_PARAMETERS else 1

    @torch.no_grad()
    def __call__(self, batch: Batch, count: int, descend: Callable[[], None]) -> Measured:
        """Measures the batches in ``batch``, as the protocol says."""
        size = len(batch.action) // count
        inputs = self._online.scaled(batch.observation).flatten(1).chunk(count)
        action, aim = batch.action[:, None].chunk(count), self._aims(batch, count)
        # d loss / d error is weight * slope / B, and the error falls as the value of the action taken rises.
        factor = (batch.weight[:, None] * (-1.0 / size)).chunk(count)
        predicted, errors = [], []
        for number in range(count):
            activations = self._perceptron.activations(inputs[number])
            predicted.append(activations[-1].gather(1, action[number]))
            errors.append(next(aim) - predicted[number])
            slope = self._objective.slope(errors[number]) * factor[number]
            gradient = torch.zeros_like(activations[-1]).scatter_(1, action[number], slope)
            self._perceptron.backward(activations, gradient)
            descend()
        error = torch.cat(errors)[:, 0]
        losses = batch.weight * self._objective.loss(error)
        return Measured(losses.view(count, size).mean(1), torch.cat(predicted).view(count, size).mean(1), error.abs())

    def _aims(self, batch: Batch, count: int) -> Iterator[Tensor]:
        """Yields the targets ``[B, 1]`` of each batch, as late as they depend on the updates before it."""
        parts = [batch] if not self._asks_online else [batch.part(number, count) for number in range(count)]
        for part in parts:
            backup = self._bootstrap(self._online, self._target, part)
            if not isinstance(backup, ScalarPrediction) or backup.value.shape != part.reward.shape:
                raise TypeError(f"a scalar head needs targets of shape {tuple(part.reward.shape)}, got {backup}")
            yield from backup.value[:, None].chunk(count // len(parts))


def gradient_of(
    online: QNetwork, target: QNetwork, bootstrap: Bootstrap, objective: Objective, asks_online: bool
) -> Gradient:
    """Returns the quickest way to the gradient that fits: the same for the same network on every machine."""
    if online.perceptron is not None and isinstance(objective, TemporalDifference):
        return PerceptronGradient(online, target, bootstrap, objective, online.perceptron, asks_online)
    return AutogradGradient(online, target, bootstrap, objective)
