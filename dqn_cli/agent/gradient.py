"""From batches to the gradients of their losses, by autograd or written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from dqn_cli.agent.bootstrap import Bootstrap, Network
from dqn_cli.agent.objective import Objective, TemporalDifference
from dqn_cli.core.types import Batch
from dqn_cli.networks.outputs import Output, ScalarOutput, ScalarPrediction
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.written_out import Tape, WrittenOut

_SMALL_PARAMETERS = 2**18
"""A network of so many at most is small: its updates take a millisecond."""

_AT_ONCE_SMALL, _AT_ONCE_LARGE = 8, 2
"""Batches at once: the shorter an update is, the more is gained, and a stop waits for all of a call."""


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


class WrittenOutGradient:
    """The same for the TD error of a network that is written out, without autograd.

    With the network of CartPole autograd's own work takes longer than the arithmetic. The target network stands still
    for some updates, so that the targets of several batches are one pass, and so is what is measured. Where targets
    depend on the online network too, it looks at observations and successors in one pass.

    Args:
        online: The network that learns.
        target: Its slow copy.
        bootstrap: Builds targets.
        objective: Measures the error.
        written_out: The online network, written out.
        asks_online: Whether targets depend on the online network too, and so on the update before.
    """

    def __init__(
        self,
        online: QNetwork,
        target: QNetwork,
        bootstrap: Bootstrap,
        objective: TemporalDifference,
        written_out: WrittenOut,
        asks_online: bool,
    ) -> None:
        self._online, self._target = online, target
        self._bootstrap, self._objective = bootstrap, objective
        self._written_out, self._asks_online = written_out, asks_online
        self.most = _AT_ONCE_SMALL if written_out.size <= _SMALL_PARAMETERS else _AT_ONCE_LARGE

    @torch.no_grad()
    def __call__(self, batch: Batch, count: int, descend: Callable[[], None]) -> Measured:
        """Measures the batches in ``batch``, as the protocol says."""
        size = len(batch.action) // count
        action = batch.action[:, None].chunk(count)
        # d loss / d error is weight * slope / B, and the error falls as the value of the action taken rises.
        factor = (batch.weight[:, None] * (-1.0 / size)).chunk(count)
        predicted, errors = [], []
        for number, (tape, aim) in enumerate(self._with_aims(batch, count)):
            predicted.append(tape.values.gather(1, action[number]))
            errors.append(aim - predicted[number])
            slope = self._objective.slope(errors[number]) * factor[number]
            gradient = torch.zeros_like(tape.values).scatter_(1, action[number], slope)
            self._written_out.backward(tape, gradient)
            descend()
        error = torch.cat(errors)[:, 0]
        losses = batch.weight * self._objective.loss(error)
        return Measured(losses.view(count, size).mean(1), torch.cat(predicted).view(count, size).mean(1), error.abs())

    def _with_aims(self, batch: Batch, count: int) -> Iterator[tuple[Tape, Tensor]]:
        """Yields what the online network makes of each batch, and its targets ``[B, 1]``.

        As late as they depend on the update before: ask for the next only when the last one was applied.
        """
        if not self._asks_online:
            here, there = self._online.scaled(batch.observation), self._online.scaled(batch.next_observation)
            aims = self._aims(batch, here, there, self._online.of_scaled).chunk(count)
            for inputs, aim in zip(here.chunk(count), aims, strict=True):
                yield self._written_out.forward(inputs), aim
            return
        for number in range(count):
            part = batch.part(number, count)
            both = self._online.scaled(part.observation, part.next_observation)
            here, there = both.chunk(2)
            tape = self._written_out.forward(both)
            online = _Answered(self._online, there, tape.values[len(here) :])
            yield tape.first(len(here)), self._aims(part, here, there, online)

    def _aims(self, batch: Batch, here: Tensor, there: Tensor, online: Network) -> Tensor:
        """Returns the targets ``[B, 1]`` of ``batch``, whose scaled observations and successors are given."""
        scaled = replace(batch, observation=here, next_observation=there)
        backup = self._bootstrap(online, self._target.of_scaled, scaled)
        if not isinstance(backup, ScalarPrediction) or backup.value.shape != batch.reward.shape:
            raise TypeError(f"a scalar head needs targets of shape {tuple(batch.reward.shape)}, got {backup}")
        return backup.value[:, None]


class _Answered:
    """Stands for a network that was asked about an observation already.

    Args:
        network: Is asked about others.
        scaled: The observation; the very tensor counts, not what is in it.
        values: ``[B, A]``, what was said of it.
    """

    def __init__(self, network: QNetwork, scaled: Tensor, values: Tensor) -> None:
        self._network, self._scaled, self._values = network, scaled, values

    def __call__(self, scaled: Tensor) -> Output:
        """Returns what is said of ``scaled [B, S, ...]``."""
        return ScalarOutput(self._values) if scaled is self._scaled else self._network.of_scaled(scaled)


def gradient_of(
    online: QNetwork, target: QNetwork, bootstrap: Bootstrap, objective: Objective, asks_online: bool
) -> Gradient:
    """Returns the quickest way to the gradient that fits: the same for the same network on every device of a kind."""
    if online.written_out is not None and isinstance(objective, TemporalDifference):
        return WrittenOutGradient(online, target, bootstrap, objective, online.written_out, asks_online)
    return AutogradGradient(online, target, bootstrap, objective)
