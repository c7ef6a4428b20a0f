"""Small Gymnasium environments that show what an implementation gets wrong.

Importing this module registers them: a config names them as ``tests.envs.hostile:hostile/Counting-v0``.
"""

from __future__ import annotations

import os
import sys
import time
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

MODULE = __name__


def env_id(name: str) -> str:
    """Returns the id under which any process finds an environment of this module."""
    return f"{MODULE}:hostile/{name}-v0"


class Counting(gymnasium.Env[np.ndarray, np.int64]):
    """The observation is (episode, time); reward t at time t; ends after ``length`` steps.

    The episode number goes up at each reset: whoever mixes two episodes shows it.
    """

    def __init__(self, length: int = 5, truncate: bool = False) -> None:
        self.observation_space = spaces.Box(-1, 1e6, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._length, self._truncate = length, truncate
        self._episode, self._time = -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._episode, self._time = self._episode + 1, 0
        return self._observation(), {}

    def step(self, action):
        self._time += 1
        ended = self._time >= self._length
        return (
            self._observation(),
            float(self._time),
            ended and not self._truncate,
            ended and self._truncate,
            {},
        )

    def _observation(self) -> np.ndarray:
        return np.array([self._episode, self._time], np.float32)


class OneState(gymnasium.Env[np.ndarray, np.int64]):
    """One state, reward 1, never ends by itself; registered with a time limit of 10 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), 1.0, False, False, {}


class LastStepReward(gymnasium.Env[np.ndarray, np.int64]):
    """Reward 1 only for the step that ends the episode; the observation is the time left, 1 to 0."""

    def __init__(self, length: int = 3) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._length, self._time = length, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._time = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        self._time += 1
        ended = self._time >= self._length
        return np.array([1 - self._time / self._length], np.float32), float(ended), ended, False, {}


class OneStepEpisodes(gymnasium.Env[np.ndarray, np.int64]):
    """Every episode has one step; action 1 is rewarded."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.array([1, 0], np.float32), {}

    def step(self, action):
        return np.array([0, 1], np.float32), float(action == 1), True, False, {}


class Bimodal(gymnasium.Env[np.ndarray, np.int64]):
    """Episodes of ``short`` or of ``long`` steps, as the seed decides; reward 1 a step."""

    def __init__(self, short: int = 2, long: int = 40) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._lengths, self._left = (short, long), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._left = self._lengths[int(self.np_random.integers(2))]
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self._left -= 1
        return np.zeros(1, np.float32), 1.0, self._left == 0, False, {}


class RaisesInStep(gymnasium.Env[np.ndarray, np.int64]):
    """Raises ``ValueError("boom")`` in step number ``after``."""

    def __init__(self, after: int = 3) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._after, self._time = after, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self._time += 1
        if self._time >= self._after:
            raise ValueError("boom")
        return np.zeros(1, np.float32), 0.0, False, False, {}


class FailsLater(gymnasium.Env[np.ndarray, np.int64]):
    """Raises in step 6 of its fourth episode; the others have 9 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._episode, self._time = -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._episode, self._time = self._episode + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self._time += 1
        if (self._episode, self._time) == (3, 7):
            raise ValueError("boom")
        return np.zeros(1, np.float32), 0.0, self._time == 9, False, {}


class RaisesInReset(gymnasium.Env[np.ndarray, np.int64]):
    """Raises ``ValueError("boom")`` in reset."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        raise ValueError("boom")


class TwoWordsError(Exception):
    """Needs two arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one, two)


def fail(fault: str) -> None:
    """Fails in the way that ``fault`` names, if it names one."""
    match fault:
        case "raise":
            raise ValueError("boom")
        case "exit":
            sys.exit(0)
        case "die":
            os._exit(7)
        case "hang":
            time.sleep(3_600)
        case "local class":  # which no pipe takes

            class LocalError(Exception):
                pass

            raise LocalError("boom")
        case "two words":
            raise TwoWordsError("one", "two")
        case "many words":
            raise ValueError("100% \x1b[31mred\x1b[0m\nand " + "more " * 100)


FAULTY_SPACES: dict[str, spaces.Space[Any]] = {
    "floats": spaces.Box(-1, 1, (2,), np.float32),
    "doubles": spaces.Box(-np.inf, np.inf, (2,), np.float64),
    "bytes": spaces.Box(0, 255, (2,), np.uint8),
    "codes": spaces.Discrete(3, start=1),
}


class Faulty(gymnasium.Env[Any, np.int64]):
    """Episodes of 3 steps, reward 1; something is wrong where ``when`` says so.

    Args:
        fault: What `fail` knows.
        when: ``reset 0`` or ``step 0`` and so on, of its life; ``made 0`` and so on, of this process; or ``close``.
        space: A key of ``FAULTY_SPACES``.
        value: Takes the place of the observation there.
        reward: Takes the place of the reward there.
        info: What ``info`` holds: ``plain``, ``varying`` or ``none``.
    """

    def __init__(
        self,
        fault: str = "none",
        when: str = "never",
        space: str = "floats",
        value: Any = None,
        reward: Any = 1.0,
        info: str = "plain",
    ) -> None:
        self.observation_space, self.action_space = deepcopy(FAULTY_SPACES[space]), spaces.Discrete(2)
        self._fault, self._when, self._value, self._reward, self._info = fault, when, value, reward, info
        self._steps, self._resets, self._time = -1, -1, 0
        if when == f"made {len(MADE)}":
            fail(fault)
        MADE.append(self)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._resets, self._time = self._resets + 1, 0
        return self._observation(f"reset {self._resets}"), self._infos()

    def step(self, action):
        self._steps, self._time = self._steps + 1, self._time + 1
        now = f"step {self._steps}"
        reward = self._reward if now == self._when else 1.0
        return self._observation(now), reward, self._time == 3, False, self._infos()

    def close(self) -> None:
        CLOSED.append(self)
        if self._when == "close":
            fail(self._fault)

    def _observation(self, now: str) -> Any:
        if now == self._when:
            fail(self._fault)
            if self._value is not None:
                return self._value
        return self.observation_space.sample()

    def _infos(self) -> Any:
        match self._info:
            case "varying":
                lot = int(self.np_random.integers(4))
                return {"list": np.zeros(1 + lot), "mixed": (None, 1, "text", [2])[lot]}
            case "none":
                return None
            case _:
                return {}


MADE: list[Faulty] = []
CLOSED: list[Faulty] = []
"""All that this process has made and closed."""


class Sleeps(gymnasium.Env[np.ndarray, np.int64]):
    """Action 1 takes for ever."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        time.sleep(3_600 * float(action))
        return np.zeros(1, np.float32), 0.0, False, False, {}


class OffsetActions(gymnasium.Env[np.ndarray, np.int64]):
    """Actions are -1, 0 and 1; the reward is the action; ends after 20 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(3, start=-1)
        self._time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"action {action} is not in {self.action_space}")
        self._time += 1
        return np.array([action], np.float32), float(action), self._time >= 20, False, {}


OBSERVATION_SPACES: dict[str, spaces.Space[Any]] = {
    "DictObs": spaces.Dict({"a": spaces.Box(0, 1, (2,), np.float32), "b": spaces.Discrete(3)}),
    "TupleObs": spaces.Tuple((spaces.Box(0, 1, (2,), np.float32), spaces.Discrete(3))),
    "TextObs": spaces.Text(5),
    "SequenceObs": spaces.Sequence(spaces.Discrete(3)),
    "MultiBinaryObs": spaces.MultiBinary(5),
    "DiscreteObs": spaces.Discrete(4, start=2),
    "MultiDiscreteObs": spaces.MultiDiscrete([3, 2], start=[0, -1]),
    "ScalarObs": spaces.Box(-5, 5, (), np.float64),
    "Float64Obs": spaces.Box(-5, 5, (3,), np.float64),
    "Int64Obs": spaces.Box(-5, 5, (3,), np.int64),
    "ImageObs": spaces.Box(0, 255, (6, 8, 3), np.uint8),
    "FirstChannelObs": spaces.Box(0, 255, (3, 6, 8), np.uint8),
    "GreyObs": spaces.Box(0, 255, (6, 8), np.uint8),
    "BytesObs": spaces.Box(0, 255, (128,), np.uint8),
}


class SampledObservations(gymnasium.Env[Any, np.int64]):
    """Observations are random elements of the space that ``OBSERVATION_SPACES`` names; ends after 7 steps."""

    def __init__(self, space: str) -> None:
        self.observation_space = OBSERVATION_SPACES[space]
        self.action_space = spaces.Discrete(2)
        self._time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._time = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self._time += 1
        return self.observation_space.sample(), 0.0, self._time >= 7, False, {}


ACTION_SPACES: dict[str, spaces.Space[Any]] = {
    "Continuous": spaces.Box(-1, 1, (2,), np.float32),
    "MultiDiscreteActions": spaces.MultiDiscrete([2, 3]),
    "MultiBinaryActions": spaces.MultiBinary(2),
    "TupleActions": spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2))),
    "TooManyActions": spaces.Discrete(100_000),
    "ManyActions": spaces.Discrete(300),
}


class OtherActions(gymnasium.Env[np.ndarray, Any]):
    """Takes actions of the space that ``ACTION_SPACES`` names; never ends."""

    def __init__(self, space: str) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = ACTION_SPACES[space]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


class Drifting(gymnasium.Env[np.ndarray, np.int64]):
    """Does what ``fault`` says in step 7 of each episode of 12; the observation is random, from the seed."""

    def __init__(self, fault: str) -> None:
        self.observation_space = spaces.Box(0, 1, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._fault, self._time, self._steps = fault, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._time = 0
        return self.np_random.random(3, np.float32), {}

    def step(self, action):
        self._time, self._steps = self._time + 1, self._steps + 1
        observation, reward = self.np_random.random(3, np.float32), 1.0
        if self._time == 7:
            match self._fault:
                case "nan reward":
                    reward = float("nan")
                case "infinite reward":
                    reward = float("inf")
                case "wrong dtype":
                    observation = observation.astype(np.float64)
                case "outside":
                    observation = observation + 1
                case "wrong shape":
                    observation = observation[:1]
                case "unseeded":
                    observation = np.random.default_rng().random(3, np.float32)
                case "outlives":
                    reward = float(self._steps)
        return observation, reward, self._time == 12, False, {}


FAULTS = ("none", "nan reward", "infinite reward", "wrong dtype", "outside", "wrong shape", "unseeded", "outlives")


class RunningMean(gymnasium.wrappers.NormalizeObservation):
    """A wrapper of one's own whose statistics outlive an episode."""


class NotAnEnvironment:
    """A wrapper that forgets to be an environment."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.env = env


def _register(name: str, entry_point: str, **registration: Any) -> None:
    gymnasium.register(f"hostile/{name}-v0", f"{MODULE}:{entry_point}", **registration)


_register("Counting", "Counting")
_register("OneState", "OneState", max_episode_steps=10)
_register("NeverEnds", "OneState")
_register("LastStepReward", "LastStepReward")
_register("OneStepEpisodes", "OneStepEpisodes")
_register("Bimodal", "Bimodal")
_register("RaisesInStep", "RaisesInStep")
_register("FailsLater", "FailsLater")
_register("RaisesInReset", "RaisesInReset")
_register("Sleeps", "Sleeps")
_register("Faulty", "Faulty", disable_env_checker=True)
_register("OffsetActions", "OffsetActions")
for _name in FAULTS:
    _register(_name.title().replace(" ", ""), "Drifting", kwargs={"fault": _name})
for _name in OBSERVATION_SPACES:
    _register(_name, "SampledObservations", kwargs={"space": _name})
for _name in ACTION_SPACES:
    _register(_name, "OtherActions", kwargs={"space": _name})
