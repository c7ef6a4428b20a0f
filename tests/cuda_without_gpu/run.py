"""Acts and learns with every preset on a GPU that is not there, and counts what the host would wait for.

    .venv-cuda/bin/python -m tests.cuda_without_gpu.run            # make check-cuda
    .venv-cuda/bin/python -m tests.cuda_without_gpu.run atari/per  # some of them

It needs a CUDA build of torch and no GPU. Only the backward pass does not run there: gradients are zeros.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import Training, environment_spec, make_training
from dqn_cli.config import list_presets, load_config
from dqn_cli.envs.contract import EnvironmentSpec
from dqn_cli.schema import RunOptions
from tests.cuda_without_gpu.absent_gpu import CUDA, Waits, absent_gpu, hardware_of
from tests.recording import repeating

WAYS = {
    "replay on the device": ["replay.storage=device"],
    "and kernels recorded": ["replay.storage=device", "cuda_graphs=true"],
    "frames on the host": ["replay.storage=dense"],
    "compressed there": ["replay.storage=compressed"],
}
"""Ways to run a preset, and their overrides."""


@dataclass(frozen=True, slots=True)
class Found:
    """How often the host waits.

    Attributes:
        step: In a vector step: acting and storing.
        update: In an update: drawing, learning, new priorities.
    """

    step: int
    update: int


def goal(options: RunOptions) -> Found:
    """Returns how often the host may wait (decision 0011): for actions, and for priorities that live on the host."""
    prioritized = cast("Any", options.replay.sampler).kind == "prioritized"
    return Found(1, int(prioritized and options.replay.storage != "device"))


def measure(options: RunOptions, spec: EnvironmentSpec) -> Found:
    """Returns how often a run of ``options`` waits; raises where two devices meet or a value is asked for."""
    with absent_gpu() as waits, ExitStack() as stack:
        # Nothing runs backward or is recorded without a GPU, nor compared without data: what is around that runs.
        stack.enter_context(patch.object(Tensor, "backward", lambda _: None))
        stack.enter_context(patch("dqn_cli.compose.cuda_graph", lambda _: repeating))
        compared = [
            stack.enter_context(patch(comparison, return_value=None))
            for comparison in ("dqn_cli.agent.compared.difference", "dqn_cli.core.captured._difference")
        ]
        training = make_training(options, hardware_of(options), cast("Any", SimpleNamespace(spec=spec)))
        found = Found(_step(training, spec, waits, options), _update(training, waits, options))
        if training.notices:
            raise RuntimeError(f"the quick way was given up: {training.notices}")
        expected = [int(training.learner.online.written_out is not None), 2 * int(options.cuda_graphs)]
        if [comparison.call_count for comparison in compared] != expected:
            raise RuntimeError("the quick way was not compared with the plain one")
        return found


def _step(training: Training, spec: EnvironmentSpec, waits: Waits, options: RunOptions) -> int:
    """Takes vector steps until there are items, and returns the most waits in one of them."""
    count, form = spec.num_envs, spec.observation
    observation = np.zeros((count, form.stack, *form.shape), form.dtype)
    never, restarted = np.zeros(count, np.bool_), np.arange(count) == 0
    training.actor.explorer = cast("Any", SimpleNamespace(explore=lambda _: (never, np.zeros(count, np.int64))))
    training.replay.begin(observation)

    def step(number: int) -> None:
        actions = training.actor.act(observation, options.total_steps)
        ends = restarted if number % 3 == 0 else never
        training.replay.append(actions, np.ones(count), ends, never, observation, ends, observation)

    return max(waits.during(lambda: step(number)) for number in range(options.replay.n_step + 8))  # noqa: B023


def _update(training: Training, waits: Waits, options: RunOptions) -> int:
    """Makes calls of updates, one of which moves the target network, and returns the most waits in one of them."""
    learner, replay, size = training.learner, training.replay, options.learning.batch_size
    parameters = list(learner.online.parameters())

    def backward(_: Tensor) -> None:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)

    def update() -> None:
        count = min(learner.at_once(), replay.at_once(size))
        batch = replay.sample(count * size, options.total_steps)
        priority = learner.update(batch, options.total_steps, count)
        replay.reprioritize(batch.key, priority)
        tensors = (batch.observation, batch.action, batch.reward, batch.discount, batch.weight, priority, *parameters)
        if any(tensor.device.type != CUDA.type for tensor in tensors):
            raise RuntimeError("a batch, its priorities or the network are not on the device")

    found = []
    with patch.object(Tensor, "backward", backward):
        for updates in (0, (getattr(options.learning.target, "every_updates", None) or 2) - 1):
            learner.updates = updates
            found.append(waits.during(update))
    return max(found)


def rows(presets: Sequence[str]) -> Iterator[tuple[str, list[Found], list[Found]]]:
    """Yields each preset with what was found and what is the goal, for each way."""
    for preset in presets:
        made = [
            load_config(preset, ["device=cuda", *overrides], RunOptions, presets_folder()).options
            for overrides in WAYS.values()
        ]
        spec = environment_spec(made[0])
        yield preset, [measure(options, spec) for options in made], [goal(options) for options in made]


def main() -> None:
    """Prints a table; ends with 1 where the host waits more often than it may."""
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        raise SystemExit(f"torch {torch.__version__} is no CUDA build: make check-cuda installs one")
    presets = sys.argv[1:] or list_presets(presets_folder())
    print("waits of the host           " + "".join(f"{where:>23}" for where in WAYS))
    print("preset                      " + f"{'step':>14}{'update':>9}" * len(WAYS))
    failed = 0
    for preset, found, goals in rows(presets):
        wrong = found != goals
        failed += wrong
        counts = "".join(f"{waits.step:14}{waits.update:9}" for waits in found)
        print(f"{preset:28}" + counts + ("  MORE THAN IT SHOULD" if wrong else ""), flush=True)
    print(f"{len(presets) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
