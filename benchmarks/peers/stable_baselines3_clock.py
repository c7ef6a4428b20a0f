"""The clock of a stable-baselines3 run, and what both of its scripts print."""

from __future__ import annotations

import json
import sys
import time

from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

WARMUP_STEPS = 1_000


class Clock(BaseCallback):  # type: ignore[misc, unused-ignore]
    """Notes when learning begins: before the first steps after the warm-up, so that each burst has all of its steps."""

    started = 0.0
    first = updates = 0

    def _on_rollout_start(self) -> None:
        if not self.first and self.num_timesteps >= WARMUP_STEPS:
            self.started, self.first, self.updates = time.monotonic(), self.num_timesteps, self.model._n_updates

    def _on_step(self) -> bool:
        return True


def total_steps() -> int:
    """Returns the steps of the run, the warm-up included."""
    return WARMUP_STEPS + int(sys.argv[1])


def learn_and_print(model: DQN) -> None:
    """Trains for as many learning steps as the command line says; prints the steps a second after the warm-up."""
    clock = Clock()
    model.learn(total_steps(), callback=clock)
    seconds, steps = time.monotonic() - clock.started, model.num_timesteps - clock.first
    updates = model._n_updates - clock.updates
    print(json.dumps({"steps_per_second": steps / seconds, "steps": steps, "updates": updates}))
