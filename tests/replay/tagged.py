"""An environment whose observations say to which episode of which environment they belong.

Importing this module registers it.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

ENV_ID = f"{__name__}:replay/Tagged-v0"


class Tagged(gymnasium.Env[np.ndarray, np.int64]):
    """The observation is (tag, time); the seed of an episode decides its tag, its length and how it ends."""

    def __init__(self, longest: int = 12) -> None:
        self.observation_space = spaces.Box(-1, 1e6, (2,), np.float32)
        self.action_space = spaces.Discrete(3)
        self._longest = longest

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._tag = int(self.np_random.integers(1, 1_000_000))
        self._length = int(self.np_random.integers(1, self._longest + 1))
        self._terminates = bool(self.np_random.integers(2))
        self._time = 0
        return self._observation(), {}

    def step(self, action):
        self._time += 1
        ended = self._time >= self._length
        reward = float(self._tag % 7 + action - 3)
        return self._observation(), reward, ended and self._terminates, ended and not self._terminates, {}

    def _observation(self) -> np.ndarray:
        return np.array([self._tag, self._time], np.float32)


gymnasium.register("replay/Tagged-v0", f"{__name__}:Tagged")
