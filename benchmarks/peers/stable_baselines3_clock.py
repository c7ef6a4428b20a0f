"""The clock of a stable-baselines3 run, and what both of its scripts print."""

from __future__ import annotations

import json
import sys
import time

from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

WARMUP_STEPS = 1_000


class Clock(BaseCallback):  # type: ignore[misc, unused-ignore]
    """Notes when learning begins."""

    started = 0.0
    first = 0

    def _on_step(self) -> bool:
        if not self.first and self.num_timesteps > WARMUP_STEPS:
            self.started, self.first = time.monotonic(), self.num_timesteps
        return True


def learn_and_print(model: DQN) -> None:
    """Trains for as many learning steps as the command line says; prints the steps a second after the warm-up."""
    clock = Clock()
    model.learn(WARMUP_STEPS + int(sys.argv[1]), callback=clock)
    seconds = time.monotonic() - clock.started
    print(json.dumps({"steps_per_second": (model.num_timesteps - clock.first) / seconds}))
