"""The other side of ``pong_speed.py``: stable-baselines3's DQN; prints the steps a second after the warm-up as JSON."""

from __future__ import annotations

import ale_py
import gymnasium
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from stable_baselines3_clock import WARMUP_STEPS, learn_and_print, total_steps  # type: ignore[import-not-found]


def main() -> None:
    """Trains for the given number of learning steps."""
    gymnasium.register_envs(ale_py)
    environments = VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=8, seed=0), n_stack=4)
    model = DQN(
        "CnnPolicy",
        environments,
        learning_rate=1.0e-4,
        buffer_size=20_000,
        learning_starts=WARMUP_STEPS,
        batch_size=32,
        train_freq=1,  # a vector step of 8 agent steps, then 2 updates: one update in 4 agent steps
        gradient_steps=2,
        target_update_interval=1_000,
        exploration_initial_eps=0.1,
        exploration_fraction=100_000 / total_steps(),  # of the run: above 1 it ends within the decay, as ours does
        exploration_final_eps=0.01,
        optimize_memory_usage=False,
        device="cpu",
        seed=0,
    )
    learn_and_print(model)


if __name__ == "__main__":
    main()
