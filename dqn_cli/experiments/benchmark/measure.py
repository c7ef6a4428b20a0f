"""Times the parts of a training and the whole of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from dqn_cli.agent.learner import Learner
from dqn_cli.compose import Training, make_environments, make_training, num_envs, way_to_gradients
from dqn_cli.core.errors import UsageError
from dqn_cli.core.machine import describe_machine
from dqn_cli.experiments.benchmark.products import products_of, seconds_alone, synchronize
from dqn_cli.experiments.benchmark.report import BenchmarkReport, Part
from dqn_cli.hardware import Hardware
from dqn_cli.plan import make_plan
from dqn_cli.schema import RunOptions, planned_pacing
from dqn_cli.training.loop import Calendar, ReportDue, TrainingLoop

_CAPACITY, _WARMUP_STEPS = 20_000, 1_000
"""What is enough to time: batches are gathered from more frames than any cache holds."""

_LEAST_TIMES = 5
_BATCHES = 20

_MOST_STEPS = 1_000_000
"""Agent steps until the first updates; beyond, a benchmark would seem to hang."""

_FOREVER = 10**12
"""Agent steps of a run that ends when enough was seen."""


def small(options: RunOptions) -> RunOptions:
    """Returns options of a run that learns soon, explores as at its end, and does nothing but train."""
    replay, learning, exploration = options.replay, options.learning, cast("Any", options.exploration)
    capacity = min(replay.capacity, max(_CAPACITY, learning.batch_size))
    warmup = min(replay.warmup_steps, max(_WARMUP_STEPS, learning.batch_size), capacity)
    return options.model_copy(
        update={
            "total_steps": _FOREVER,
            "stop": None,
            # The budget is of the whole replay: too much for a small one, perhaps too little for more environments.
            "replay": replay.model_copy(
                update={"capacity": capacity, "warmup_steps": warmup, "compressed_bytes": None}
            ),
            "learning": learning.model_copy(update={"resets": None}),
            "exploration": exploration.model_copy(update={"start": exploration.end}),
        }
    )


def benchmark(options: RunOptions, seconds: float) -> BenchmarkReport:
    """Measures a config.

    Args:
        options: The config; replay and warm-up are made small, all else is as it says.
        seconds: How long each part is timed; the whole loop three times as long.
    """
    plan = make_plan(options)  # the replay, though small, lies where that of the whole run would
    hardware = plan.hardware
    hardware.apply()
    run, device = small(plan.options), hardware.device
    environments = make_environments(run)
    try:
        training = make_training(run, hardware, environments)
        loop = time_loop(training, run, device, 3.0 * seconds)
        batch = training.replay.sample(run.learning.batch_size, 0)
        products = products_of(lambda: _plain_learner(training, run, hardware).update(batch, run.total_steps))
        parts = time_parts(training, run, device, seconds)
    finally:
        environments.close()
    return BenchmarkReport(
        environment=environments.spec.name,
        num_envs=num_envs(run),
        hardware=hardware,
        gradients=way_to_gradients(run, training.learner.online, hardware),
        notices=tuple(training.notices),
        steps_per_second=loop.steps_per_second,
        updates_per_second=loop.updates_per_second,
        share_outside_updates=loop.share_outside_updates,
        parts=parts,
        operations=sum(count * product.operations for product, count in products.items()),
        limit_milliseconds=1e3 * seconds_alone(products, device),
        machine=describe_machine(),
    )


def _plain_learner(training: Training, run: RunOptions, hardware: Hardware) -> Learner:
    """Returns the learner, or one like it that starts its kernels one by one: a recording cannot be looked into."""
    if not run.cuda_graphs:
        return training.learner
    return make_training(run.model_copy(update={"cuda_graphs": False}), hardware, training.environments).learner


@dataclass(frozen=True, slots=True)
class LoopTime:
    """How fast a whole loop was.

    Attributes:
        steps_per_second: Agent steps.
        updates_per_second: Gradient steps.
        share_outside_updates: Share of the time that was not spent in updates; None on a GPU, which works on when an
            update has returned.
    """

    steps_per_second: float
    updates_per_second: float
    share_outside_updates: float | None


def time_loop(training: Training, options: RunOptions, device: torch.device, seconds: float) -> LoopTime:
    """Trains through the warm-up and the first updates, and then for ``seconds``, and returns how fast that was.

    Raises:
        UsageError: The first updates are too far away.
    """
    pacing = planned_pacing(options)
    until = pacing.begin_steps + pacing.every_steps * -(-_LEAST_TIMES // pacing.updates)
    if until > _MOST_STEPS:
        raise UsageError(
            f"learning.update_every_steps {options.learning.update_every_steps:,}: the first updates are {until:,} "
            f"steps away, too far for a benchmark; give a smaller one, so that they are within {_MOST_STEPS:,}"
        )
    learner, update, spent = training.learner, training.learner.update, 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal spent
        begun = time.perf_counter()
        result = update(*arguments)
        spent += time.perf_counter() - begun
        return result

    every = Calendar(options.total_steps, num_envs(options), None, options.total_steps)
    loop = TrainingLoop(
        training.environments,
        training.actor,
        training.replay,
        learner,
        pacing,
        options.learning.batch_size,
        every,
    )
    setattr(learner, "update", timed)  # noqa: B010 an attribute of this one learner
    begun, first = 0.0, (0, 0)
    try:
        for _ in (event for event in loop.run() if isinstance(event, ReportDue)):
            if begun:
                if time.perf_counter() - begun >= seconds:
                    break
            elif learner.updates >= _LEAST_TIMES:
                synchronize(device)
                begun, first, spent = time.perf_counter(), (loop.step, learner.updates), 0.0
    finally:
        delattr(learner, "update")
    synchronize(device)
    took = time.perf_counter() - begun
    outside = 1.0 - spent / took if device.type == "cpu" else None
    return LoopTime((loop.step - first[0]) / took, (learner.updates - first[1]) / took, outside)


def time_parts(training: Training, options: RunOptions, device: torch.device, seconds: float) -> tuple[Part, ...]:
    """Times each part by itself; the replay must be filled. The environments are stepped last, and not stored."""
    environments, replay, learner = training.environments, training.replay, training.learner
    spec, size, rng = environments.spec, options.learning.batch_size, np.random.default_rng(0)
    pacing = planned_pacing(options)
    burst = pacing.updates * max(1, spec.num_envs // pacing.every_steps)  # due in a vector step that has any
    most = min(burst, learner.most_at_once, replay.at_once(size))
    batches = {count: [replay.sample(count * size, 0) for _ in range(_BATCHES)] for count in range(1, most + 1)}
    number, due = 0, 0

    def update() -> int:
        nonlocal number, due
        due = due or burst
        count = min(due, most, learner.at_once())  # as the loop does
        due -= count
        batch = batches[count][number % _BATCHES]
        replay.reprioritize(batch.key, learner.update(batch, options.total_steps, count))
        number += 1
        return count

    def step() -> None:
        environments.send(rng.integers(spec.num_actions, size=spec.num_envs))
        environments.recv()

    work: tuple[tuple[str, str, Callable[[], object]], ...] = (
        ("update", f"{size} transitions", update),
        ("sampling", f"{size} transitions", lambda: replay.sample(size, 0)),
        ("acting", f"{spec.num_envs} observations", lambda: training.actor.act_greedily(observation)),
        ("stepping", f"{spec.num_envs} environments", step),
    )
    observation = environments.observation
    return tuple(Part(name, of, *_milliseconds(call, device, seconds)) for name, of, call in work)


def _milliseconds(call: Callable[[], object], device: torch.device, seconds: float) -> tuple[float, float, float]:
    """Returns median, 10th and 90th percentile of the times of a call; one that returns a count stands for so many."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _LEAST_TIMES + 1 or time.perf_counter() < end:
        synchronize(device)
        begun = time.perf_counter()
        count = call()
        synchronize(device)
        times.append(1e3 * (time.perf_counter() - begun) / (count if isinstance(count, int) else 1))
    ordered = sorted(times[1:])  # the first may allocate
    return statistics.median(ordered), ordered[len(ordered) // 10], ordered[len(ordered) * 9 // 10]
