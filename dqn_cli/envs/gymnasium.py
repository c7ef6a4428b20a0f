"""Any Gymnasium environment with discrete actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field

from dqn_cli.core.errors import BrokenEnvironmentError
from dqn_cli.core.options import Name, Options, PositiveCount
from dqn_cli.core.types import Array, BoolArray, IntArray
from dqn_cli.envs.contract import BackendReset, BackendStep, EnvironmentSpec
from dqn_cli.envs.guard import Guarded, GuardedFactory
from dqn_cli.envs.gymnasium_make import environment_factory
from dqn_cli.envs.spaces import discrete_actions, observation_encoding
from dqn_cli.envs.steppers import AsyncStepper, Stepper, SyncStepper


class WrapperOptions(Options):
    """A wrapper around one environment."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: Name
    """A class of ``gymnasium.wrappers``, or ``module:ClassName``."""

    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the wrapper."""


def _wrapper_list(value: Any) -> Any:
    """A wrapper without arguments may be written as its bare name."""
    if isinstance(value, list):
        return tuple({"name": entry} if isinstance(entry, str) else entry for entry in value)
    return value


class GymnasiumOptions(Options):
    """Any Gymnasium environment with discrete actions."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: Literal["gymnasium"] = "gymnasium"
    """Which kind of environment."""

    id: Name = "CartPole-v1"
    """Gymnasium id, or ``module:Id`` where importing the module registers it."""

    num_envs: Annotated[PositiveCount, Field(le=65_536)] = 4
    """Number of environments that step together."""

    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment."""

    wrappers: Annotated[tuple[WrapperOptions, ...], BeforeValidator(_wrapper_list)] = ()
    """Wrappers, innermost first: names, or ``{name, kwargs}``."""

    vectorization: Literal["sync", "async"] = "sync"
    """``sync`` steps in this process; ``async`` in one process an environment, for slow environments."""


class GymnasiumBackend:
    """N Gymnasium environments; implements ``VectorBackend``.

    Args:
        env_id: Gymnasium id, or ``module:Id``.
        num_envs: Number of environments, N.
        kwargs: Keyword arguments of the environment.
        wrappers: Names and keyword arguments of wrappers, innermost first.
        vectorization: ``sync`` or ``async``.

    Raises:
        UsageError: The environment, its arguments, a wrapper, or one of its spaces does not fit.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[tuple[str, Mapping[str, Any]]] = (),
        vectorization: Literal["sync", "async"] = "sync",
    ) -> None:
        make = environment_factory(env_id, kwargs or {}, wrappers)
        environments = [GuardedFactory(make, 0, env_id)()]
        try:
            first = environments[0]
            encoding = observation_encoding(first.observation_space, env_id)
            num_actions, self._action_start = discrete_actions(first.action_space, env_id)
            if vectorization == "sync":
                environments.extend(GuardedFactory(make, index, env_id)() for index in range(1, num_envs))
        except BaseException:
            _close(environments)
            raise
        self._encode = encoding.encode
        self._spec = EnvironmentSpec(env_id, num_envs, encoding.spec, num_actions)
        self._stepper: Stepper
        if vectorization == "sync":
            self._stepper = SyncStepper(environments)
        else:
            _close(environments)
            spaces = (first.observation_space, first.action_space)
            self._stepper = AsyncStepper(
                [GuardedFactory(make, index, env_id, spaces) for index in range(num_envs)], env_id
            )

    @property
    def spec(self) -> EnvironmentSpec:
        """The environments' description."""
        return self._spec

    def reset(self, mask: BoolArray, seeds: Sequence[int | None]) -> BackendReset:
        """Resets the environments in ``mask [N]``; ``seeds [N]`` holds one seed or None for each of N."""
        observation = self._frames(self._stepper.reset(mask, seeds), lambda index: f"reset with seed {seeds[index]}")
        return BackendReset(observation, lives=None, frames=None)

    def send(self, actions: IntArray) -> None:
        """Starts a step with ``actions [N]`` in 0 to A-1; the caller has checked the range."""
        self._stepper.send(actions + self._action_start if self._action_start else actions)

    def recv(self) -> BackendStep:
        """Waits for the step that ``send`` started."""
        raw = self._stepper.recv()
        observation = self._frames(raw.observation, lambda _: "step")
        return BackendStep(observation, raw.reward, raw.terminated, raw.truncated, lives=None)

    def close(self) -> None:
        """Frees the environments; may be called twice."""
        self._stepper.close()

    def _frames(self, raw: Array, place: Callable[[int], str]) -> Array:
        """Encodes raw observations ``[N, ...]`` as ``[N, S=1, *frame shape]``; ``place`` says where they are from."""
        frames = self._encode(raw)[:, np.newaxis]
        # After encoding, so that what overflows in float32 is seen too.
        if frames.dtype.kind == "f" and not np.isfinite(frames).all():
            index = int(np.flatnonzero(~np.isfinite(frames).reshape(len(frames), -1).all(1))[0])
            raise BrokenEnvironmentError(
                f"environment {index} ('{self._spec.name}') failed in {place(index)}: the observation holds values that"
                f" are no finite numbers in {frames.dtype}",
                index,
            )
        return frames


def _close(environments: Sequence[Guarded]) -> None:
    for environment in environments:
        environment.close()
