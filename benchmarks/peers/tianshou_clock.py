"""What both scripts of Tianshou share: its DQN with a limit of the gradient's norm, and the clock."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from tianshou.algorithm import DQN
from tianshou.algorithm.algorithm_base import Algorithm
from tianshou.algorithm.optim import OptimizerFactory
from tianshou.data import Collector
from tianshou.trainer import OffPolicyTrainerParams

WARMUP_STEPS = 1_000


class ClippedDQN(DQN[Any]):  # type: ignore[misc, unused-ignore]
    """Its DQN with gradients of norm 10 at most, as the other sides have it: its optimiser can, its DQN never asks."""

    def _create_policy_optimizer(self, optim: OptimizerFactory) -> Algorithm.Optimizer:
        return self._create_optimizer(self.policy, optim, max_grad_norm=10.0)


def learn_and_print(
    algorithm: ClippedDQN,
    collector: Collector[Any],
    *,
    batch_size: int,
    steps_at_once: int,
    updates_per_step: float,
    epsilon: Callable[[int], float],
) -> None:
    """Trains for as many learning steps as the command line says; prints the steps a second after the warm-up.

    Args:
        algorithm: What learns.
        collector: Steps the environments into the buffer, with exploration.
        batch_size: Transitions of a batch.
        steps_at_once: Agent steps between two bursts of updates.
        updates_per_step: Updates for each agent step.
        epsilon: Epsilon at an agent step, the warm-up counted.
    """
    collector.reset()
    collector.collect(n_step=WARMUP_STEPS, random=True)
    # Its trainer looks for NaN in the whole buffer after every collection, even where its own validation is switched
    # off, and copies every stack of frames for it: on Pong that takes several times as long as all else. It is no part
    # of learning, so it is left out.
    collector.buffer.hasnull = lambda: False
    parameters = OffPolicyTrainerParams(
        max_epochs=1,
        epoch_num_steps=int(sys.argv[1]),
        training_collector=collector,
        collection_step_num_env_steps=steps_at_once,
        update_step_num_gradient_steps_per_sample=updates_per_step,
        batch_size=batch_size,
        training_fn=lambda _, step: algorithm.policy.set_eps_training(epsilon(WARMUP_STEPS + step)),
        verbose=False,
        show_progress=False,
    )
    trainer = algorithm.create_trainer(parameters)
    first, started = collector.collect_step, time.monotonic()
    trainer.run(reset_collectors=False)
    seconds, steps = time.monotonic() - started, collector.collect_step - first
    print(json.dumps({"steps_per_second": steps / seconds, "steps": steps, "updates": algorithm._iter}))
