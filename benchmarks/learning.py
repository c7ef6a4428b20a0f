"""Trains a preset on several seeds and scores the final checkpoints: the evidence behind ``benchmarks/RESULTS.md``.

    python benchmarks/learning.py cartpole --seeds 0 1 2 3 4

Each seed is a process of its own: ``dqn train PRESET seed=N``, then ``dqn eval RUN --episodes 100``, which plays
episodes that training never saw. What came out goes to ``benchmarks/data/learning/PRESET-sN.json``;
``python benchmarks/report.py`` makes the tables and pictures from those files.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dqn_cli.core.machine import describe_machine

HERE = Path(__file__).resolve().parent
DQN = shutil.which("dqn", path=str(Path(sys.executable).parent)) or "dqn"


def returns_of_training(run_dir: Path) -> list[list[float]]:
    """Returns (agent step, raw return) of every training episode."""
    lines = (run_dir / "episodes.jsonl").read_text().splitlines()
    return [[e["step"], e["episode_return"]] for e in map(json.loads, lines)]


def commit(run_dir: Path) -> str:
    """Returns the commit that trained a run, from the head of its config; empty if it was no checkout."""
    lines = (run_dir / "config.yaml").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("# git: ")), "")


def train(preset: str, seed: int, overrides: list[str], folder: Path) -> tuple[Path, float]:
    """Trains one seed; returns its run folder and the seconds from the start of the process to its end."""
    run_dir = folder / f"{preset.replace('/', '-')}-s{seed}"
    command = [DQN, "train", preset, f"seed={seed}", *overrides, "--run-dir", str(run_dir), "--quiet"]
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run_dir, time.monotonic() - started


def score(run_dir: Path, preset: str, seed: int, overrides: list[str], protocol: list[str]) -> dict[str, Any]:
    """Returns the record of a finished run; ``protocol`` are options of ``dqn eval``."""
    command = [DQN, "eval", str(run_dir), *protocol, "--json"]
    scored = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(scored.stdout)
    evaluations = [json.loads(line) for line in (run_dir / "evaluations.jsonl").read_text().splitlines()]
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "preset": preset,
        "seed": seed,
        "command": shlex.join(["dqn", "train", preset, f"seed={seed}", *overrides]),
        "wall_seconds": last["wall_seconds"],
        "steps": result["checkpoint_step"],
        "score": {name: result[name] for name in ("return_mean", "return_std", "return_ci95", "return_iqm")},
        "protocol": result["protocol"],
        "evaluations": [[line["step"], line["return_mean"]] for line in evaluations],
        "training_returns": returns_of_training(run_dir),
        "commit": commit(run_dir),
        "machine": describe_machine(),
    }


def main() -> None:
    """Parses the command line and runs the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*", help="changes to the preset, key=value")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--episodes", type=int, default=100, help="episodes of the final evaluation")
    parser.add_argument("--jobs", type=int, default=1, help="seeds that train at once; above 1, wall times mean less")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    parser.add_argument("--finished", action="store_true", help="score the run folders in --keep, without training")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "learning")
    parser.add_argument("--epsilon", type=float, help="epsilon of the final evaluation  [default: the preset's]")
    arguments = parser.parse_args()
    protocol = ["--episodes", str(arguments.episodes)]
    if arguments.epsilon is not None:
        protocol += ["--epsilon", str(arguments.epsilon)]

    def one(seed: int, folder: Path) -> None:
        preset, overrides = arguments.preset, arguments.overrides
        run_dir = folder / f"{preset.replace('/', '-')}-s{seed}"
        measured: dict[str, Any] = {"jobs": arguments.jobs}
        if not arguments.finished:
            run_dir, measured["process_seconds"] = train(preset, seed, overrides, folder)
        record = score(run_dir, preset, seed, overrides, protocol) | measured
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"{run_dir.name}.json").write_text(json.dumps(record) + "\n")
        seconds = record.get("process_seconds", record["wall_seconds"])
        print(f"{preset} seed {seed}: {record['score']['return_mean']:.2f} in {seconds:.1f} s", flush=True)

    with tempfile.TemporaryDirectory(prefix="dqn-learning-") as scratch, ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda seed: one(seed, arguments.keep or Path(scratch)), arguments.seeds))


if __name__ == "__main__":
    main()
