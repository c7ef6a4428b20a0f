"""Acting and gradients from a recording of their kernels, where an object around the plain ones may stand for them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dqn_cli.agent.actor import Greedy, greedy_values
from dqn_cli.agent.gradient import Gradient, Measured
from dqn_cli.core.captured import Captured, Recorder, Tensors
from dqn_cli.core.types import Batch
from dqn_cli.networks.qnetwork import QNetwork


class CapturedGradient:
    """The gradient of one batch at a time, recorded; the step of the optimiser stays outside.

    That step has values of the host (the step size), and moments that a reset or a resume exchanges for others.
    Networks and the noise in them are changed in place by everybody, so that the recording reads what is there.

    Args:
        gradient: The plain way.
        online: The network that learns.
        target: Its slow copy.
        record: Makes the recording.
        tell: Is told why there is none.
    """

    most = 1

    def __init__(
        self, gradient: Gradient, online: QNetwork, target: QNetwork, record: Recorder, tell: Callable[[str], None]
    ) -> None:
        self._gradient = gradient
        self._parameters = list(online.parameters())
        self._learning: list[Tensor] = []  # those that have a gradient
        self._captured = Captured(
            self._measure,
            record,
            changes=list(online.buffers()),
            generators=[online.generator, target.generator],
            tell=lambda problem: tell(f"updates: {problem}"),
        )

    def __call__(self, batch: Batch, count: int, descend: Callable[[], None]) -> Measured:
        """Measures ``batch``, one batch, as the protocol says."""
        if count > self.most:
            raise ValueError(f"one batch at a time, got {count}")
        loss, q_mean, priority, *gradients = self._captured(
            batch.observation, batch.action, batch.reward, batch.discount, batch.next_observation, batch.weight
        )
        for parameter, gradient in zip(self._learning, gradients, strict=True):
            parameter.grad = gradient
        descend()
        return Measured(loss, q_mean, priority)

    def _measure(
        self,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        discount: Tensor,
        next_observation: Tensor,
        weight: Tensor,
    ) -> Tensors:
        # Of the keys only their number matters here.
        batch = Batch(observation, action, reward, discount, next_observation, weight, key=action)
        measured = self._gradient(batch, 1, lambda: None)
        gradients = {parameter: parameter.grad for parameter in self._parameters if parameter.grad is not None}
        self._learning = list(gradients)
        return measured.loss, measured.q_mean, measured.priority, *gradients.values()


def captured_greedy(network: QNetwork, record: Recorder, tell: Callable[[str], None]) -> Greedy:
    """Returns the way from observations to actions of highest value, recorded."""
    captured = Captured(
        lambda observation: greedy_values(network, observation),
        record,
        tell=lambda problem: tell(f"acting: {problem}"),
    )

    def greedy(observation: Tensor) -> Tensor:
        return captured(observation)[0]

    return greedy
