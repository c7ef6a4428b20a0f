"""What checkpoints of a full Atari replay cost: stall, bytes, size of the folder, and the time to read it back.

    python benchmarks/checkpoint_cost.py --game Breakout

Fills a replay of one million transitions with frames of random play, repeated, saves a checkpoint, and goes on for two
hundred thousand transitions with a checkpoint every hundred thousand, as a run does. No network learns meanwhile: what
is measured is what a checkpoint adds. The last generation is then checked and read into a fresh replay.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.config import load_config
from dqn_cli.core.machine import describe_machine
from dqn_cli.hardware import resolve_hardware
from dqn_cli.schema import RunOptions
from dqn_cli.training.checkpoint_writer import CheckpointWriter
from dqn_cli.training.generations import check_whole, read_manifest

HERE = Path(__file__).resolve().parent
RECORDED_STEPS = 2_500
"""Vector steps of random play that are repeated."""


def record(training: Training) -> list[tuple[Any, ...]]:
    """Returns the arguments of ``Replay.append`` for some thousand vector steps of random play."""
    environments, rng = training.environments, np.random.default_rng(0)
    environments.reset()
    steps = []
    for _ in range(RECORDED_STEPS):
        actions = rng.integers(environments.spec.num_actions, size=environments.spec.num_envs)
        environments.send(actions)
        r = environments.recv()
        frames, first = r.successor[:, -1:].copy(), r.observation[:, -1:].copy()
        steps.append((actions, r.reward, r.terminal, r.truncated, frames, r.restarted, first))
    return steps


class Filler:
    """Appends recorded steps over and over, and writes segments as a run does."""

    def __init__(self, training: Training, writer: CheckpointWriter) -> None:
        self._training, self._writer = training, writer
        self._steps, self._next = record(training), 0
        self.longest_stream = 0.0
        training.replay.begin(training.environments.observation)

    def fill(self, transitions: int) -> float:
        """Appends so many transitions; returns the seconds that streaming took."""
        streamed, replay = 0.0, self._training.replay
        for _ in range(0, transitions, self._training.environments.spec.num_envs):
            replay.append(*self._steps[self._next % RECORDED_STEPS])
            self._next += 1
            begun = time.perf_counter()
            self._writer.stream(replay)
            seconds = time.perf_counter() - begun
            streamed += seconds
            self.longest_stream = max(self.longest_stream, seconds)
        return streamed


def save(training: Training, writer: CheckpointWriter, step: int) -> float:
    """Writes a checkpoint as a run does; returns the seconds that it took."""
    begun = time.perf_counter()
    learner = training.learner.state_dict()
    state = {
        "learner": learner,
        "explorer": training.actor.explorer.state_dict(),
        "replay": training.replay.state_dict(),
        "environments": training.environments.state_dict(),
        "loop": training.loop.state_dict(),
    }
    writer.save(step, learner["online"], state, training.replay)
    return time.perf_counter() - begun


def folder_bytes(folder: Path) -> int:
    """Returns the bytes of all files, each once."""
    return sum({s.st_ino: s.st_size for s in (p.stat() for p in folder.rglob("*") if p.is_file())}.values())


def make(overrides: list[str]) -> Training:
    """Returns the objects of a run."""
    options = load_config("atari/nature", overrides, RunOptions, presets_folder()).options
    hardware = resolve_hardware(options)
    hardware.apply()
    return make_training(options, hardware, make_environments(options))


def main() -> None:
    """Measures, prints, and writes ``data/checkpoint_cost-GAME-SAMPLER.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Breakout")
    parser.add_argument("--sampler", default="prioritized")
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=100_000)
    options = parser.parse_args()
    overrides = [f"env.game={options.game}", "env.num_envs=8", f"replay.capacity={options.capacity}"]
    overrides += ["replay.warmup_steps=1000", f"replay.sampler={{kind: {options.sampler}}}"]
    training = make(overrides)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        writer = CheckpointWriter(run, 2, lambda: {"name": "benchmark", "config": {}, "versions": {}})
        filler = Filler(training, writer)
        filler.fill(options.capacity + options.capacity // 20)
        first = save(training, writer, 1)
        stalls, streamed, written = [], [], []
        for number in (2, 3):
            before = {path.name for path in (run / "replay").iterdir()}
            streamed.append(filler.fill(options.every))
            stalls.append(save(training, writer, number))
            new = [path for path in (run / "replay").iterdir() if path.name not in before]
            written.append(sum(path.stat().st_size for path in new))
        generation = read_manifest(run / "checkpoints" / "000000003")
        kept = [read_manifest(path) for path in (run / "checkpoints").iterdir()]
        needed = {g.checkpoint + str(g.step): g.written.size for g in kept}
        needed |= {name: entry.size for g in kept for name, entry in g.segments.items()}
        twin = make(overrides)
        begun = time.perf_counter()
        check_whole(generation)
        checked = time.perf_counter() - begun
        reader = CheckpointWriter(run, 2, dict)
        begun = time.perf_counter()
        reader.load(generation, twin.replay)
        twin.replay.load_state_dict(training.replay.state_dict())
        read = time.perf_counter() - begun
        result = {
            "game": options.game,
            "sampler": options.sampler,
            "capacity": options.capacity,
            "items": len(training.replay),
            "every_steps": options.every,
            "first_checkpoint_seconds": round(first, 3),
            "stall_seconds": [round(stall, 3) for stall in stalls],
            "streaming_seconds_between": [round(seconds, 3) for seconds in streamed],
            "longest_stream_seconds": round(filler.longest_stream, 3),
            "segment_bytes_written": written,
            "checkpoint_bytes": generation.written.size,
            "folder_bytes": folder_bytes(run),
            "needed_bytes": sum(needed.values()),
            "check_seconds": round(checked, 3),
            "read_seconds": round(read, 3),
            "machine": describe_machine(),
        }
    training.environments.close()
    twin.environments.close()
    path = HERE / "data" / f"checkpoint_cost-{options.game}-{options.sampler}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
