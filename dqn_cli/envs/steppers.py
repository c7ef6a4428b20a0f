"""Steps N Gymnasium environments one after the other here, or side by side in worker processes.

Both give the same numbers, neither resets by itself, and neither looks at the ``info`` dictionaries.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from dqn_cli.core.errors import BrokenEnvironmentError, RunError
from dqn_cli.core.types import Array, BoolArray, FloatArray, IntArray

Environment = gymnasium.Env[Any, Any]

PATIENCE_SECONDS = 300.0
"""No environment that anyone trains on takes as long for a step or a reset."""


class RawStep(NamedTuple):
    """One step of N environments, observations ``[N, ...]`` as the environments give them, all fresh."""

    observation: Array
    reward: FloatArray
    terminated: BoolArray
    truncated: BoolArray


class Stepper(Protocol):
    """N environments that step together; actions are the environment's own."""

    def reset(self, mask: BoolArray, seeds: Sequence[int | None]) -> Array:
        """Resets where ``mask [N]`` says so and returns the current observations ``[N, ...]`` of all."""
        ...

    def send(self, actions: IntArray) -> None:
        """Starts a step."""
        ...

    def recv(self) -> RawStep:
        """Waits for the step."""
        ...

    def close(self) -> None:
        """Frees the environments; may be called twice."""
        ...


class SyncStepper:
    """Steps in this process: what is cheapest where a step takes microseconds.

    Args:
        environments: The N environments, all of one kind.
        name: What they are, for error messages.
    """

    def __init__(self, environments: Sequence[Environment], name: str) -> None:
        self._environments = list(environments)
        self._name = name
        space = environments[0].observation_space
        self._last: Array = np.zeros((len(environments), *(space.shape or ())), dtype=space.dtype)
        self._actions: IntArray | None = None

    def reset(self, mask: BoolArray, seeds: Sequence[int | None]) -> Array:
        """Resets where ``mask [N]`` says so and returns the current observations ``[N, ...]`` of all."""
        observation = self._last.copy()
        for index in np.flatnonzero(mask).tolist():
            try:
                observation[index], _ = self._environments[index].reset(seed=seeds[index])
            except Exception as failure:
                raise BrokenEnvironmentError(
                    f"environment {index} ('{self._name}') failed in reset with seed {seeds[index]}:"
                    f" {type(failure).__name__}: {failure}",
                    index,
                    in_step=False,
                ) from failure
        self._last = observation
        return observation

    def send(self, actions: IntArray) -> None:
        """Keeps the actions; ``recv`` steps."""
        self._actions = actions

    def recv(self) -> RawStep:
        """Steps one environment after the other."""
        actions, self._actions = self._actions, None
        if actions is None:
            raise RuntimeError("recv without send")
        # One fresh array a step, filled in place: what was returned before is never written again.
        observation = np.empty_like(self._last)
        reward = np.empty(len(actions))
        terminated = np.empty(len(actions), dtype=np.bool_)
        truncated = np.empty(len(actions), dtype=np.bool_)
        index = 0
        try:
            for index, environment in enumerate(self._environments):
                (found, reward[index], terminated[index], truncated[index], _) = environment.step(actions[index])
                # numpy would stretch an observation of another shape without a word.
                if np.shape(found) != observation.shape[1:]:
                    raise ValueError(f"the observation has shape {np.shape(found)}, its space {observation.shape[1:]}")
                observation[index] = found
        except Exception as failure:
            raise BrokenEnvironmentError(
                f"environment {index} ('{self._name}') failed in step with action {actions[index]}:"
                f" {type(failure).__name__}: {failure}",
                index,
                in_step=True,
            ) from failure
        self._last = observation
        return RawStep(observation, reward, terminated, truncated)

    def close(self) -> None:
        """Closes the environments; may be called twice."""
        while self._environments:
            self._environments.pop().close()


class AsyncStepper:
    """Steps in one worker process for each environment: worth it where a step takes milliseconds.

    Args:
        factory: Makes one environment; it is sent to the workers.
        num_envs: Number of environments, N.
        name: What they are, for error messages.
        patience: Seconds after which a worker that does not answer counts as hanging.

    Raises:
        RunError: A worker did not start.
    """

    def __init__(
        self, factory: Callable[[], Environment], num_envs: int, name: str, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._name, self._patience = name, patience
        # Whether every worker waits for a command: if not, nobody may wait for its answer.
        self._idle = True
        try:
            self._vector = AsyncVectorEnv(
                [factory] * num_envs, context=_start_method(), autoreset_mode=AutoresetMode.DISABLED
            )
        except Exception as failure:
            raise RunError(self._explain(failure)[0]) from failure
        # Workers ignore SIGTERM, so that multiprocessing's own exit hook would wait for them for ever.
        atexit.register(self.close)

    def reset(self, mask: BoolArray, seeds: Sequence[int | None]) -> Array:
        """Resets where ``mask [N]`` says so and returns the current observations ``[N, ...]`` of all."""
        # A fresh dict each time: Gymnasium takes the mask out of it, and without a mask resets everything.
        seed, options = list(seeds), {"reset_mask": np.array(mask)}
        self._guard(lambda: self._vector.reset_async(seed=seed, options=options), in_step=False)
        self._idle = False
        observation, _ = self._guard(lambda: self._vector.reset_wait(timeout=self._patience), in_step=False)
        self._idle = True
        return np.asarray(observation)

    def send(self, actions: IntArray) -> None:
        """Hands the actions to the workers."""
        self._guard(lambda: self._vector.step_async(actions))
        self._idle = False

    def recv(self) -> RawStep:
        """Waits for the workers."""
        observation, reward, terminated, truncated, _ = self._guard(
            lambda: self._vector.step_wait(timeout=self._patience)
        )
        self._idle = True
        return RawStep(observation, reward, terminated, truncated)

    def close(self) -> None:
        """Ends the workers; may be called twice, with a step in flight, and after a worker has failed."""
        atexit.unregister(self.close)
        if self._vector.closed:
            return
        if self._idle:
            with contextlib.suppress(EOFError, OSError):
                self._vector.close()
                return
        for process in self._vector.processes:
            process.kill()
            process.join()
        for pipe in self._vector.parent_pipes:
            if pipe is not None:
                pipe.close()
        self._vector.closed = True

    def _guard(self, call: Callable[[], Any], in_step: bool = True) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Gymnasium warns with the worker's traceback before it raises
                return call()
        except Exception as failure:
            self._idle = False
            message, index = self._explain(failure)
            raise BrokenEnvironmentError(message, index, in_step) from failure

    def _explain(self, failure: Exception) -> tuple[str, int | None]:
        """Returns what to say of a failure, and which environment it was."""
        if isinstance(failure, multiprocessing.TimeoutError):
            index = self._first(lambda vector, index: not vector.parent_pipes[index].poll(0))
            return f"{self._which(index)} did not answer for {self._patience:g} s: it hangs; it was ended", index
        if isinstance(failure, EOFError | ConnectionError):
            index = self._first(lambda vector, index: not vector.processes[index].is_alive())
            return f"the worker process of {self._which(index)} died; was it killed for want of memory?", index
        index = self._first(lambda vector, index: vector.parent_pipes[index] is None)
        return (
            f"{self._which(index)} failed in a worker process: {type(failure).__name__}: {failure};"
            " env.vectorization=sync shows where"
        ), index

    def _first(self, is_it: Callable[[AsyncVectorEnv, int], bool]) -> int | None:
        vector = getattr(self, "_vector", None)  # absent while workers are started
        return None if vector is None else next((i for i in range(vector.num_envs) if is_it(vector, i)), None)

    def _which(self, index: int | None) -> str:
        return f"environment '{self._name}'" if index is None else f"environment {index} ('{self._name}')"


def _start_method() -> str:
    """Returns the start method of workers: not ``fork``, which copies the locks of the learner's threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(["__main__", "dqn_cli.envs.gymnasium_make"])
    return "forkserver"
