"""Listens between the environments and what turns them into a stream of episodes, which is itself under audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dqn_cli.core.types import Array, BoolArray, IntArray
from dqn_cli.envs.contract import BackendReset, BackendStep, EnvironmentSpec, VectorBackend
from dqn_cli.experiments.audit.report import Check


@dataclass(frozen=True, slots=True)
class Begun:
    """A reset: ``seeds [N]`` for those in ``mask [N]``, and what came back."""

    mask: BoolArray
    seeds: Sequence[int | None]
    reset: BackendReset


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step with ``actions [N]``, and what came back."""

    actions: IntArray
    step: BackendStep


class Tap:
    """A backend that keeps a copy of all that another one returns; implements ``VectorBackend``.

    Args:
        backend: The environments.
        finite: Held to every reward here, since those that are no finite numbers go no further.
    """

    def __init__(self, backend: VectorBackend, finite: Check) -> None:
        self._backend, self._finite = backend, finite
        self._events: list[Begun | Stepped] = []
        self._sent: IntArray = np.empty(0, np.int64)
        self._steps = 0

    @property
    def spec(self) -> EnvironmentSpec:
        """The environments' description."""
        return self._backend.spec

    def taken(self) -> list[Begun | Stepped]:
        """Returns what came back since the last call, in order."""
        events, self._events = self._events, []
        return events

    def reset(self, mask: BoolArray, seeds: Sequence[int | None]) -> BackendReset:
        """Resets the environments in ``mask [N]``; ``seeds [N]`` holds one seed or None for each of N."""
        asked = mask.copy(), list(seeds)
        reset = self._backend.reset(mask, seeds)
        self._events.append(
            Begun(*asked, BackendReset(reset.observation.copy(), _copied(reset.lives), _copied(reset.frames)))
        )
        return reset

    def send(self, actions: IntArray) -> None:
        """Starts a step with ``actions [N]``."""
        self._sent = actions.copy()
        self._backend.send(actions)

    def recv(self) -> BackendStep:
        """Waits for the step that ``send`` started."""
        step = self._backend.recv()
        kept = BackendStep(
            step.observation.copy(),
            step.reward.copy(),
            step.terminated.copy(),
            step.truncated.copy(),
            _copied(step.lives),
        )
        self._events.append(Stepped(self._sent, kept))
        self._steps += 1
        finite = np.isfinite(kept.reward)
        worst = int(finite.argmin())
        self._finite.hold(
            bool(finite.all()),
            f"environment {worst}, vector step {self._steps}: the reward is {kept.reward[worst]}",
            len(finite),
        )
        return step

    def close(self) -> None:
        """Frees workers and emulators; may be called twice."""
        self._backend.close()


def _copied(values: Array | None) -> IntArray | None:
    return None if values is None else values.astype(np.int64)
