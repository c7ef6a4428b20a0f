"""Stands between one Gymnasium environment and this program: what fails has a name, what comes out can be stored."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space, spaces

from dqn_cli.core.errors import BrokenEnvironmentError, UsageError, one_line, told
from dqn_cli.core.types import Array
from dqn_cli.envs.spaces import code_bounds

Environment = gymnasium.Env[Any, Any]

_NUMBERS = "biuf"
"""Kinds of dtype: bool, signed and unsigned integers, floats."""


class _RefusedError(Exception):
    """A value that an environment may not return; its text is a whole sentence."""


class Guarded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One environment, whose failures are ours and whose values are what its space says; the outermost wrapper.

    The same in this process and in a worker: a raw value is seen before anything has cast it, and no exception has to
    find its way through a pipe but `BrokenEnvironmentError`. Whether numbers are finite is left to who sees all N.

    Args:
        env: The environment.
        index: Which of the N.
        name: What it is, for error messages.
    """

    def __init__(self, env: Environment, index: int, name: str) -> None:
        super().__init__(env)
        self._which, self._index = f"environment {index} ('{name}')", index
        space = env.observation_space
        self._dtype, self._shape = space.dtype, space.shape
        self._bounds: Any = code_bounds(space)
        self._integers = range(0)
        if isinstance(space, spaces.Discrete):  # what such environments mostly return; nothing else needs to be quick
            self._integers = range(int(space.start), int(space.start + space.n))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:  # noqa: ARG002 Gymnasium calls it so
        """Begins an episode; returns the first observation in the dtype of its space, and no ``info``.

        Raises:
            BrokenEnvironmentError: The environment raised, or the observation is none of its space.
        """
        try:
            observation, _ = self.env.reset(seed=seed)
            return self._stored(observation), {}
        except (Exception, SystemExit) as failure:
            raise self._broken(f"reset with seed {seed}", failure) from failure

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Takes a step; returns the observation in the dtype of its space, plain values, and no ``info``.

        Raises:
            BrokenEnvironmentError: The environment raised, or one of the values is not what Gymnasium asks for.
        """
        try:
            returned: Any = self.env.step(action)
            observation, reward, terminated, truncated, _ = returned
            if type(reward) is not float:
                reward = _number(reward)
            if type(terminated) is not bool:
                terminated = _flag(terminated, "terminated")
            if type(truncated) is not bool:
                truncated = _flag(truncated, "truncated")
            return self._stored(observation), reward, terminated, truncated, {}
        except (Exception, SystemExit) as failure:
            raise self._broken("step", failure) from failure

    def close(self) -> None:
        """Closes the environment as far as it can be closed: nothing is left that its failure could harm."""
        with contextlib.suppress(Exception, SystemExit):
            self.env.close()

    def _broken(self, where: str, failure: BaseException) -> BrokenEnvironmentError:
        what = str(failure) if isinstance(failure, _RefusedError) else told(failure)
        return BrokenEnvironmentError(f"{self._which} failed in {where}: {what}", self._index)

    def _stored(self, found: Any) -> Any:
        """Returns an observation in the dtype and shape of its space, with the same values.

        Floats may lose precision, and a Box may be left; nothing is wrapped, truncated or stretched.
        """
        if type(found) is int and found in self._integers:
            return found
        plain = type(found) is np.ndarray and found.dtype == self._dtype and found.shape == self._shape
        stored = found if plain else self._cast(found)
        if self._bounds is not None and not ((stored >= self._bounds[0]) & (stored <= self._bounds[1])).all():
            raise _RefusedError(f"the observation {_brief(found)} is not in {_brief(self.env.observation_space)}")
        return stored

    def _cast(self, found: Any) -> Array:
        value = np.asarray(found)
        if value.dtype.kind not in _NUMBERS:
            raise _RefusedError(f"the observation is no array of numbers, but {_brief(found)}")
        if value.shape != self._shape:
            raise _RefusedError(f"the observation has shape {value.shape}, its space {self._shape}")
        with np.errstate(all="ignore"):  # what overflows is refused: below, or as no finite number
            cast: Array = value.astype(self._dtype)
        if cast.dtype.kind != "f" and not np.array_equal(cast, value):
            raise _RefusedError(f"the observation {_brief(found)} does not fit the {self._dtype} of its space")
        return cast


class Unmade(gymnasium.Env[Any, Any]):
    """Takes the place of an environment that could not be made, and says why when it is first used.

    A worker process that ends while it makes its environment could say nothing, and its parent not which it was.

    Args:
        observation_space: Of the environment.
        action_space: Of the environment.
        failure: Why there is none.
    """

    def __init__(self, observation_space: Space[Any], action_space: Space[Any], failure: UsageError) -> None:
        self.observation_space, self.action_space, self._failure = observation_space, action_space, failure

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        """Raises the failure."""
        raise _RefusedError(str(self._failure))


@dataclass(frozen=True, slots=True)
class GuardedFactory:
    """Makes one of N guarded environments.

    Attributes:
        make: Makes the environment.
        index: Which of the N.
        name: What it is, for error messages.
        spaces: Of observations and actions, where a failure is to wait until the first reset; None: it is raised.
    """

    make: Callable[[], Environment]
    index: int
    name: str
    spaces: tuple[Space[Any], Space[Any]] | None = None

    def __call__(self) -> Guarded:
        """Makes the environment.

        Raises:
            UsageError: An argument or a wrapper is wrong, or a dependency is missing.
        """
        try:
            env = self.make()
        except UsageError as failure:
            if self.spaces is None:
                raise
            env = Unmade(*self.spaces, failure)
        return Guarded(env, self.index, self.name)


def _number(reward: Any) -> float:
    if not isinstance(reward, int | float):
        value = np.asarray(reward)
        if value.size != 1 or value.dtype.kind not in _NUMBERS:
            raise _RefusedError(f"the reward is {_brief(reward)}, no real number")
        reward = value.item()
    return float(reward)


def _flag(found: Any, name: str) -> bool:
    if isinstance(found, np.bool_):
        return bool(found)
    value = np.asarray(found)
    if value.size != 1 or value.dtype.kind not in _NUMBERS or value.item() not in (0, 1):
        raise _RefusedError(f"{name} is {_brief(found)}, neither true nor false")
    return bool(value.item())


def _brief(found: Any) -> str:
    return one_line(repr(found), 60)
