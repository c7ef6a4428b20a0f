"""The other side of ``cartpole_speed.py``: stable-baselines3's DQN with rl-baselines3-zoo's settings for CartPole-v1.

Prints the steps a second after the warm-up as JSON.
"""

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


def main() -> None:
    """Trains for the given number of learning steps."""
    steps = int(sys.argv[1])
    model = DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=WARMUP_STEPS,
        gamma=0.99,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        device="cpu",
        seed=0,
    )
    clock = Clock()
    model.learn(WARMUP_STEPS + steps, callback=clock)
    seconds = time.monotonic() - clock.started
    print(json.dumps({"steps_per_second": (model.num_timesteps - clock.first) / seconds}))


if __name__ == "__main__":
    main()
