"""How speed changes with the number of environments, the size of a batch, and the length of the replay.

    python benchmarks/scaling.py

For `cartpole` and `atari/default` (Pong, float32): agent steps a second with 1 to 64 environments, milliseconds of an
update with batches of 16 to 512, milliseconds to sample a batch from replays of 10,000 to a million items, uniform and
prioritized. Points are measured in random order, ``--seconds`` each, in one round or ``--rounds``; a round takes some
five minutes, more on a busy machine, and 8 GB. Further arguments are overrides (``threads=1``). Writes
``data/scaling.json``; ``python benchmarks/report.py`` makes the picture.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Callable, Sequence
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


def of_run(preset: str, overrides: Sequence[str], measure: Callable[[Training, RunOptions], float]) -> float:
    """Makes the objects of a run on the CPU, measures, and closes its environments."""
    every = [*PRESETS[preset], "device=cpu", "replay.warmup_steps=512", *overrides]
    options: RunOptions = load_config(preset, every, RunOptions, presets_folder()).options
    hardware = resolve_hardware(options)
    hardware.apply()
    environments = make_environments(options)
    try:
        return measure(make_training(options, hardware, environments), options)
    finally:
        environments.close()


def loop_speed(preset: str, num_envs: int, seconds: float, overrides: Sequence[str]) -> float:
    """Returns the agent steps a second of the whole loop."""

    def measure(training: Training, run: RunOptions) -> float:
        return time_loop(training, small(run), resolve_hardware(run).device, seconds).steps_per_second

    return of_run(preset, ["replay.capacity=20_000", f"env.num_envs={num_envs}", *overrides], measure)


def update_milliseconds(preset: str, batch_size: int, seconds: float, overrides: Sequence[str]) -> float:
    """Returns the milliseconds of an update, as the loop makes them."""

    def measure(training: Training, run: RunOptions) -> float:
        loop = time_loop(training, small(run), resolve_hardware(run).device, seconds)
        assert loop.share_outside_updates is not None
        return 1e3 * (1.0 - loop.share_outside_updates) / loop.updates_per_second

    return of_run(preset, ["replay.capacity=20_000", f"learning.batch_size={batch_size}", *overrides], measure)


def sample_milliseconds(sampler: str, preset: str, capacity: int, seconds: float, overrides: Sequence[str]) -> float:
    """Returns the median milliseconds to draw and gather a batch from a full replay."""

    def measure(training: Training, run: RunOptions) -> float:
        environments, replay = training.environments, training.replay
        replay.begin(environments.reset())
        actions = np.zeros(environments.spec.num_envs, np.int64)
        environments.send(actions)
        r = environments.recv()
        nowhere = np.zeros(len(actions), np.bool_)
        for _ in range(capacity // len(actions) + run.replay.n_step + 1):  # the same step again: only places matter
            replay.append(actions, r.reward, nowhere, nowhere, r.successor, nowhere, r.observation)
        if len(replay) < 0.99 * capacity:
            raise SystemExit(f"{preset}: {len(replay)} items in a replay of {capacity}")
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            replay.sample(run.learning.batch_size, 0)
            times.append(1e3 * (time.perf_counter() - begun))
        return float(np.median(times))

    # More environments would fill it in fewer steps, but take longer to make than that saves.
    full = ["env.num_envs=8", f"replay.capacity={capacity}", f"replay.sampler={{kind: {sampler}}}"]
    return of_run(preset, [*full, *overrides], measure)


def main() -> None:
    """Measures every point and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a point in a round, set-up not counted")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "scaling.json")
    arguments = parser.parse_args()
    points: dict[tuple[str, str, int], Callable[[float, Sequence[str]], float]] = {}
    for preset in PRESETS:
        points |= {("environments", preset, n): partial(loop_speed, preset, n) for n in ENVIRONMENTS}
        points |= {("batch", preset, n): partial(update_milliseconds, preset, n) for n in BATCHES}
        for sampler in SAMPLERS:
            points |= {
                (f"replay, {sampler}", preset, n): partial(sample_milliseconds, sampler, preset, n) for n in CAPACITIES
            }
    found: dict[tuple[str, str, int], list[float]] = {key: [] for key in points}
    begun = time.monotonic()
    for number in range(arguments.rounds):
        for key in random.sample(list(points), len(points)):
            started = time.monotonic()
            found[key].append(points[key](arguments.seconds, arguments.overrides))
            print(f"{', '.join(map(str, key))}: {found[key][-1]:.4g} ({time.monotonic() - started:.0f} s)", flush=True)
            gc.collect()  # a replay of a million frames takes 7 GB: never two at once
        print(f"round {number + 1} of {arguments.rounds}: {time.monotonic() - begun:.0f} s so far", flush=True)
    rows = [{"what": what, "preset": preset, "at": at, "found": v} for (what, preset, at), v in found.items()]
    record = {
        "points": rows,
        "seconds": arguments.seconds,
        "overrides": arguments.overrides,
        "machine": describe_machine(),
    }
    arguments.out.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
