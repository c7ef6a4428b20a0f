"""Environments with one fault each that only an audit is to find; importing this module registers them."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

FAULTS = (
    "reset outside",
    "later reset outside",
    "outside late",
    "unseeded reward",
    "truncated by lifetime",
    "nan late",
    "exits",
    "exits late",
    "shouts",
    "second episode",
)


def faulty_id(fault: str) -> str:
    """Returns the id under which any process finds the environment with a fault of ``FAULTS``."""
    return f"{__name__}:faulty/{fault.title().replace(' ', '')}-v0"


class Faulty(gymnasium.Env[np.ndarray, np.int64]):
    """Random observations and rewards from the seed, episodes of 12 steps, and one fault."""

    def __init__(self, fault: str) -> None:
        self.observation_space = spaces.Box(0, 1, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._fault, self._time, self._steps, self._episodes = fault, 0, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._time, self._episodes = 0, self._episodes + 1
        observation = self.np_random.random(3, np.float32)
        outside = self._fault == "reset outside" or (self._fault == "later reset outside" and self._episodes > 1)
        return observation + outside, {}

    def step(self, action):
        self._time, self._steps = self._time + 1, self._steps + 1
        observation, reward = self.np_random.random(3, np.float32), float(self.np_random.random())
        late, terminated, truncated = self._steps > 600, self._time == 12, False
        match self._fault:
            case "outside late" if late:
                observation = observation + 1
            case "unseeded reward":
                reward = float(np.random.default_rng().random())
            case "truncated by lifetime":
                truncated = self._steps % 7 == 0
            case "nan late":
                terminated = False
                reward = float("nan") if self._steps == 40 else reward
            case "exits" if self._steps > 20:
                sys.exit(0)
            case "exits late" if late:
                sys.exit(0)
            case "shouts" if self._steps > 20:
                raise ValueError("one\ntwo \x1b[31mred\x1b[0m" + "x" * 10_000)
            case "second episode":
                reward += self._episodes == 2
        return observation, reward, terminated, truncated, {}


for _fault in FAULTS:
    # Gymnasium's own checker only warns, and warnings are errors in tests.
    gymnasium.register(
        faulty_id(_fault).split(":")[1], f"{__name__}:Faulty", kwargs={"fault": _fault}, disable_env_checker=True
    )
