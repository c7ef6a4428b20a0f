"""How speed changes with the number of environments, the size of a batch, and the length of the replay.

    python benchmarks/scaling.py

For `cartpole` and `atari/default` (Pong, float32): agent steps a second with 1 to 64 environments, milliseconds of an
update with batches of 16 to 512, milliseconds to sample a batch from replays of 10,000 to a million items, uniform and
prioritized. Points are measured in random order, and each several times. Writes ``data/scaling.json``;
``python benchmarks/report.py`` makes the picture.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.config.load import load_config
from dqn_cli.core.machine import describe_machine
from dqn_cli.experiments.benchmark.measure import small, time_loop
from dqn_cli.hardware import resolve_hardware
from dqn_cli.schema import RunOptions

HERE = Path(__file__).resolve().parent
PRESETS = {"cartpole": (), "atari/default": ("env.game=Pong", "precision=float32", "replay.storage=dense")}
ENVIRONMENTS = (1, 2, 4, 8, 16, 32, 64)
BATCHES = (16, 32, 64, 128, 256, 512)
CAPACITIES = (10_000, 100_000, 1_000_000)
SAMPLERS = ("uniform", "prioritized")


def options_of(preset: str, *overrides: str) -> RunOptions:
    """Returns the options of a preset on the CPU."""
    own = [*PRESETS[preset], "device=cpu", *overrides]
    options: RunOptions = load_config(preset, own, RunOptions, presets_folder()).options
    return options


def of_run(options: RunOptions, measure: Callable[[Training, RunOptions], float]) -> float:
    """Makes a run's objects, measures, and closes its environments."""
    hardware = resolve_hardware(options)
    hardware.apply()
    environments = make_environments(options)
    try:
        return measure(make_training(options, hardware, environments), options)
    finally:
        environments.close()


def loop_speed(preset: str, num_envs: int, seconds: float) -> float:
    """Returns the agent steps a second of the whole loop."""
    options = small(options_of(preset, f"env.num_envs={num_envs}"))
    device = resolve_hardware(options).device
    return of_run(options, lambda training, run: time_loop(training, run, device, seconds).steps_per_second)


def update_milliseconds(preset: str, batch_size: int, seconds: float) -> float:
    """Returns the milliseconds of an update, as the loop makes them."""
    options = small(options_of(preset, f"learning.batch_size={batch_size}"))
    device = resolve_hardware(options).device

    def measure(training: Training, run: RunOptions) -> float:
        loop = time_loop(training, run, device, seconds)
        assert loop.share_outside_updates is not None
        return 1e3 * (1.0 - loop.share_outside_updates) / loop.updates_per_second

    return of_run(options, measure)


def sample_milliseconds(preset: str, capacity: int, sampler: str, seconds: float) -> float:
    """Returns the median milliseconds to draw and gather a batch from a full replay."""
    options = options_of(preset, f"replay.capacity={capacity}", f"replay.sampler={{kind: {sampler}}}")

    def measure(training: Training, run: RunOptions) -> float:
        environments, replay = training.environments, training.replay
        replay.begin(environments.reset())
        actions = np.zeros(environments.spec.num_envs, np.int64)
        environments.send(actions)
        r = environments.recv()
        nowhere = np.zeros(len(actions), np.bool_)
        for _ in range(capacity // len(actions) + run.replay.n_step + 1):  # the same step again: only places matter
            replay.append(actions, r.reward, nowhere, nowhere, r.successor, nowhere, r.observation)
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            replay.sample(run.learning.batch_size, 0)
            times.append(1e3 * (time.perf_counter() - begun))
        return float(np.median(times))

    return of_run(options, measure)


def main() -> None:
    """Measures every point and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a point in a round")
    arguments = parser.parse_args()
    points = {
        **{("environments", p, n): partial(loop_speed, p, n) for p in PRESETS for n in ENVIRONMENTS},
        **{("batch", p, n): partial(update_milliseconds, p, n) for p in PRESETS for n in BATCHES},
        **{
            (f"replay, {sampler}", p, n): partial(sample_milliseconds, p, n, sampler)
            for p in PRESETS
            for sampler in SAMPLERS
            for n in CAPACITIES
        },
    }
    found: dict[tuple[str, str, int], list[float]] = {key: [] for key in points}
    for number in range(arguments.rounds):
        for key in random.sample(list(points), len(points)):
            found[key].append(points[key](arguments.seconds))
        print(f"round {number + 1} of {arguments.rounds} is done", flush=True)
    rows = [{"what": what, "preset": preset, "at": at, "found": v} for (what, preset, at), v in found.items()]
    record = {"points": rows, "machine": describe_machine()}
    (HERE / "data" / "scaling.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
