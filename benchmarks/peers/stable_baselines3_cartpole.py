"""The other side of ``cartpole_speed.py``: stable-baselines3's DQN with rl-baselines3-zoo's settings for CartPole-v1.

Prints the steps a second after the warm-up as JSON.
"""

from __future__ import annotations

from stable_baselines3 import DQN

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from stable_baselines3_clock import WARMUP_STEPS, learn_and_print, total_steps  # type: ignore[import-not-found]


def main() -> None:
    """Trains for the given number of learning steps."""
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
        exploration_fraction=8_000 / total_steps(),
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        device="cpu",
        seed=0,
    )
    learn_and_print(model)


if __name__ == "__main__":
    main()
