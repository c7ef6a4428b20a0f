"""Another side of ``pong_speed.py``: Tianshou's DQN; prints the steps a second after the warm-up as JSON."""

from __future__ import annotations

import ale_py
import gymnasium
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env.atari import atari_wrapper
from tianshou.env.atari.atari_network import DQNet, ScaledObsInputActionReprNet

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from tianshou_clock import ClippedDQN, learn_and_print  # type: ignore[import-not-found]

# Its wrappers declare frames as of type `np.integer`: numpy 2.4 refuses that, and older ones make 64 bits of a pixel.
# Their processes are forks of this one, and get the correction too.
atari_wrapper.get_space_dtype = lambda space: space.dtype.type


def main() -> None:
    """Trains for the given number of learning steps."""
    gymnasium.register_envs(ale_py)
    environment, environments, unused = atari_wrapper.make_atari_env(
        "PongNoFrameskip-v4", 0, num_training_envs=8, num_test_envs=1
    )
    unused.close()
    network = DQNet(*environment.observation_space.shape, environment.action_space.n)
    policy = DiscreteQLearningPolicy(
        model=ScaledObsInputActionReprNet(network),
        action_space=environment.action_space,
        observation_space=environment.observation_space,
    )
    algorithm = ClippedDQN(
        policy=policy,
        optim=AdamOptimizerFactory(lr=1.0e-4),
        gamma=0.99,
        target_update_freq=250,  # updates: 1,000 agent steps
        is_double=False,
        huber_loss_delta=1.0,
    )
    buffer = VectorReplayBuffer(20_000, 8, stack_num=4, ignore_obs_next=True, save_only_last_obs=True)
    learn_and_print(
        algorithm,
        Collector(policy, environments, buffer, exploration_noise=True),
        batch_size=32,
        steps_at_once=8,  # a vector step, then 2 updates: one update in 4 agent steps
        updates_per_step=0.25,
        epsilon=lambda step: max(0.01, 0.1 - 0.09 * step / 100_000),
    )
    environments.close()


if __name__ == "__main__":
    main()
