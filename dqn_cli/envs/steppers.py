"""Steps N Gymnasium environments one after the other here, or side by side in worker processes.

Both give the same numbers, neither resets by itself, and neither looks at the ``info`` dictionaries.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing import connection, forkserver, resource_tracker
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium import logger
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import _async_worker

from dqn_cli.core.errors import BrokenEnvironmentError, RunError, told
from dqn_cli.core.types import Array, BoolArray, FloatArray, IntArray
from dqn_cli.envs.guard import Guarded, GuardedFactory

PATIENCE_SECONDS = 300.0
"""No environment that anyone trains on takes as long for a step or a reset."""

_END_SECONDS = 5.0
_SILENT = logger.ERROR + 1


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
    """

    def __init__(self, environments: Sequence[Guarded]) -> None:
        self._environments = list(environments)
        space = environments[0].observation_space
        self._last: Array = np.zeros((len(environments), *(space.shape or ())), dtype=space.dtype)
        self._actions: IntArray | None = None

    def reset(self, mask: BoolArray, seeds: Sequence[int | None]) -> Array:
        """Resets where ``mask [N]`` says so and returns the current observations ``[N, ...]`` of all."""
        observation = self._last.copy()
        for index in np.flatnonzero(mask).tolist():
            observation[index], _ = self._environments[index].reset(seed=seeds[index])
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
        for index, environment in enumerate(self._environments):
            step = environment.step(actions[index])
            observation[index], reward[index], terminated[index], truncated[index], _ = step
        self._last = observation
        return RawStep(observation, reward, terminated, truncated)

    def close(self) -> None:
        """Closes the environments; may be called twice."""
        while self._environments:
            self._environments.pop().close()


class AsyncStepper:
    """Steps in one worker process for each environment: worth it where a step takes milliseconds.

    Args:
        factories: Make the N environments; they are sent to the workers.
        name: What they are, for error messages.
        patience: Seconds after which a worker that does not answer counts as hanging.

    Raises:
        RunError: A worker did not start.
    """

    def __init__(self, factories: Sequence[GuardedFactory], name: str, patience: float = PATIENCE_SECONDS) -> None:
        self._name, self._patience = name, patience
        # Whether every worker waits for a command: if not, nobody may wait for its answer.
        self._idle = False
        self._doing: str | Sequence[int | None] = "while it was made"  # or the seeds of a reset
        # Made in two steps, so that the workers that did start can be ended where another one did not.
        self._vector = AsyncVectorEnv.__new__(AsyncVectorEnv)
        # Workers ignore SIGTERM, so that multiprocessing's own exit hook would wait for them for ever.
        atexit.register(self.close)
        try:
            _start_helpers()
            AsyncVectorEnv.__init__(
                self._vector,
                factories,
                context=_start_method(),
                worker=_worker,
                autoreset_mode=AutoresetMode.DISABLED,
            )
        except Exception as failure:
            message = self._explain(failure)[0]
            self.close()
            raise RunError(message) from failure
        except BaseException:
            self.close()
            raise
        self._idle = True

    def reset(self, mask: BoolArray, seeds: Sequence[int | None]) -> Array:
        """Resets where ``mask [N]`` says so and returns the current observations ``[N, ...]`` of all."""
        # A fresh dict each time: Gymnasium takes the mask out of it, and without a mask resets everything.
        seed, options = list(seeds), {"reset_mask": np.array(mask)}
        self._doing = seed
        self._guard(lambda: self._vector.reset_async(seed=seed, options=options))
        observation, _ = self._guard(lambda: self._vector.reset_wait(timeout=self._patience))
        self._idle = True
        return np.asarray(observation)

    def send(self, actions: IntArray) -> None:
        """Hands the actions to the workers."""
        self._doing = "in step"
        self._guard(lambda: self._vector.step_async(actions))

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
        for process in getattr(self._vector, "processes", ()):
            if process.pid is not None:  # it was started
                process.kill()
                process.join()
        for pipe in getattr(self._vector, "parent_pipes", ()):
            if pipe is not None:
                pipe.close()
        self._vector.closed = True

    def _guard(self, call: Callable[[], Any]) -> Any:
        self._idle = False
        # Gymnasium would print the worker's traceback before it raises, and stumbles over a percent sign in it.
        level, logger.min_level = logger.min_level, _SILENT
        try:
            return call()
        except BrokenEnvironmentError as failure:
            # What the worker raised is the argument of another one that Gymnasium made of its class.
            (raised,) = failure.args
            raise raised from None
        except Exception as failure:
            message, index = self._explain(failure)
            raise BrokenEnvironmentError(message, index) from failure
        finally:
            logger.min_level = level

    def _explain(self, failure: Exception) -> tuple[str, int | None]:
        """Returns what to say of a failure that no environment told itself, and which environment it was."""
        if isinstance(failure, multiprocessing.TimeoutError):
            pipes = self._vector.parent_pipes
            index = next((index for index, pipe in enumerate(pipes) if not pipe.poll(0)), None)
            patience = f"{self._patience:g} s"
            return f"{self._which(index)} did not answer for {patience} {self._place(index)}: it was ended", index
        if isinstance(failure, EOFError | ConnectionError):
            index, how = self._dead()
            return f"the worker process of {self._which(index)} died {self._place(index)}{how}", index
        return f"{self._which(None)} failed {self._place(None)}: {told(failure)}", None

    def _dead(self) -> tuple[int | None, str]:
        """Returns which worker has died, and what is known of its end."""
        started = {process.sentinel: index for index, process in enumerate(self._vector.processes) if process.pid}
        # A pipe breaks a little before its process has ended.
        ended = connection.wait(list(started), timeout=_END_SECONDS)
        for sentinel, index in started.items():
            if sentinel in ended:
                code = self._vector.processes[index].exitcode or 0
                hint = ": was it killed for want of memory?" if code == -signal.SIGKILL else ""
                return index, f" of signal {-code}{hint}" if code < 0 else f" with exit code {code}"
        return None, ""

    def _place(self, index: int | None) -> str:
        """Returns what the environments are doing."""
        if isinstance(self._doing, str):
            return self._doing
        return "in reset" if index is None else f"in reset with seed {self._doing[index]}"

    def _which(self, index: int | None) -> str:
        return f"environment '{self._name}'" if index is None else f"environment {index} ('{self._name}')"


def _worker(*arguments: Any) -> None:
    """Gymnasium's own worker; one whose parent was killed ends without a word."""
    with contextlib.suppress(EOFError, ConnectionError):
        _async_worker(*arguments)


def _start_helpers() -> None:
    """Starts the processes that multiprocessing keeps for itself; signals for the whole group must not end them.

    They inherit which signals are blocked, and so do the workers, which ignore these.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR1})
    try:
        resource_tracker.ensure_running()
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_method() -> str:
    """Returns the start method of workers: not ``fork``, which copies the locks of the learner's threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(["__main__", "dqn_cli.envs.steppers", "dqn_cli.envs.gymnasium_make"])
    return "forkserver"
