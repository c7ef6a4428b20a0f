"""Another side of ``cartpole_speed.py``: Tianshou's DQN with rl-baselines3-zoo's settings for CartPole-v1.

Prints the steps a second after the warm-up as JSON.
"""

from __future__ import annotations

import gymnasium
from gymnasium.spaces import Discrete
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.net.common import Net

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from tianshou_clock import ClippedDQN, learn_and_print  # type: ignore[import-not-found]


def main() -> None:
    """Trains for the given number of learning steps."""
    environment = gymnasium.make("CartPole-v1")
    assert isinstance(environment.action_space, Discrete)
    environments = DummyVectorEnv([lambda: environment])
    environments.seed(0)
    policy = DiscreteQLearningPolicy(
        model=Net(
            state_shape=environment.observation_space.shape,
            action_shape=environment.action_space.n,
            hidden_sizes=[256, 256],
        ),
        action_space=environment.action_space,
        observation_space=environment.observation_space,
    )
    algorithm = ClippedDQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=2.3e-3),
        gamma=0.99,
        target_update_freq=128,  # updates: before each burst, which is what a copy every 10 agent steps comes to
        is_double=False,
        huber_loss_delta=1.0,
    )
    learn_and_print(
        algorithm,
        Collector(policy, environments, VectorReplayBuffer(100_000, 1), exploration_noise=True),
        batch_size=64,
        steps_at_once=256,
        updates_per_step=0.5,
        epsilon=lambda step: max(0.04, 1.0 - 0.96 * step / 8_000),
    )
    environments.close()


if __name__ == "__main__":
    main()
