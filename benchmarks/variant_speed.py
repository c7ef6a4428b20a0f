"""Times an update of every Atari preset beside plain DQN: sampling, gradient step, new priorities.

    python benchmarks/variant_speed.py

All learners stand in one process and take turns, so that each ratio is of neighbours in time. What came out goes to
``benchmarks/data/variant_speed.json``; ``python benchmarks/report.py`` makes the table from it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.config import list_presets, load_config
from dqn_cli.core.machine import describe_machine
from dqn_cli.hardware import resolve_hardware
from dqn_cli.schema import RunOptions
from dqn_cli.training.run_folder import provenance

HERE = Path(__file__).resolve().parent
BASE = "atari/nature"
UPDATES = 3
"""Of one learner in a row."""


class Subject:
    """The learner and the replay of one preset, with some hundred steps of random play in it."""

    def __init__(self, preset: str, threads: int | None) -> None:
        sizes = ["replay.capacity=2_000", "replay.warmup_steps=0", "env.num_envs=8", "device=cpu"]
        sizes += [] if threads is None else [f"threads={threads}"]
        self.options = load_config(preset, sizes, RunOptions, presets_folder()).options
        self.hardware = hardware = resolve_hardware(self.options)
        hardware.apply()
        environments = make_environments(self.options)
        self.training: Training = make_training(self.options, hardware, environments)
        replay, rng = self.training.replay, np.random.default_rng(0)
        observation = environments.reset()
        replay.begin(observation)
        for _ in range(100):
            actions = rng.integers(environments.spec.num_actions, size=8)
            environments.send(actions)
            result = environments.recv()
            told = (result.reward, result.terminal, result.truncated, result.successor, result.restarted)
            replay.append(actions, *told, result.observation)
        environments.close()
        self.parameters = sum(parameter.numel() for parameter in self.training.learner.online.parameters())

    def seconds(self) -> float:
        """Returns the mean time of an update."""
        replay, learner = self.training.replay, self.training.learner
        begun = time.perf_counter()
        for _ in range(UPDATES):
            batch = replay.sample(self.options.learning.batch_size, 1_000)
            replay.reprioritize(batch.key, learner.update(batch, 1_000))
        return (time.perf_counter() - begun) / UPDATES


def main() -> None:
    """Parses the command line and takes turns."""
    every = [name for name in list_presets(presets_folder()) if name.startswith("atari") and "/pong-" not in name]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", help="presets  [default: every Atari preset with 84x84 frames]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="learner threads  [default: as in training]")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "variant_speed.json")
    arguments = parser.parse_args()
    subjects = {name: Subject(name, arguments.threads) for name in arguments.presets or every}
    base = subjects.setdefault(BASE, Subject(BASE, arguments.threads))
    ratios: dict[str, list[float]] = {name: [] for name in subjects}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(arguments.rounds + 1):
        for name, subject in subjects.items():
            plain, own = base.seconds(), subject.seconds()
            ratios[name].append(own / plain)
            times[name].append(own)
    rows = {
        name: {
            "batch_size": subject.options.learning.batch_size,
            "torso": cast("Any", subject.options.network.torso).kind,
            "parameters": subject.parameters,
            "milliseconds": 1e3 * statistics.median(times[name][1:]),
            "ratio": statistics.median(ratios[name][1:]),  # the first round warms up
            "ratios": ratios[name][1:],
        }
        for name, subject in subjects.items()
    }
    for name, row in rows.items():
        print(f"{name}: {row['milliseconds']:.1f} ms, {row['ratio']:.2f} of {BASE}")
    content = {
        "base": BASE,
        "rounds": arguments.rounds,
        "threads": base.hardware.threads,
        "precision": base.hardware.precision,
        "commit": provenance().get("git", ""),
        "machine": describe_machine(),
        "presets": rows,
    }
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
