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


def train_and_score(preset: str, seed: int, overrides: list[str], episodes: int, keep: Path | None) -> dict[str, Any]:
    """Trains one seed and returns its record."""
    folder = Path(tempfile.mkdtemp(prefix="dqn-learning-")) if keep is None else keep
    run_dir = folder / f"{preset.replace('/', '-')}-s{seed}"
    command = ["dqn", "train", preset, f"seed={seed}", *overrides]
    started = time.monotonic()
    subprocess.run([DQN, *command[1:], "--run-dir", str(run_dir), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    wall_seconds = time.monotonic() - started
    scored = subprocess.run(
        [DQN, "eval", str(run_dir), "--episodes", str(episodes), "--json"], check=True, capture_output=True, text=True
    )
    score = json.loads(scored.stdout)
    evaluations = run_dir / "evaluations.jsonl"
    record = {
        "preset": preset,
        "seed": seed,
        "command": shlex.join(command),
        "wall_seconds": round(wall_seconds, 1),
        "steps": score["checkpoint_step"],
        "score": {name: score[name] for name in ("episodes", "return_mean", "return_std", "return_ci95", "return_iqm")},
        "protocol": score["protocol"],
        "evaluations": [
            [line["step"], line["return_mean"]] for line in map(json.loads, evaluations.read_text().splitlines())
        ],
        "training_returns": returns_of_training(run_dir),
        "machine": describe_machine(),
    }
    if keep is None:
        shutil.rmtree(folder)
    return record


def main() -> None:
    """Parses the command line and runs the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*", help="changes to the preset, key=value")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--episodes", type=int, default=100, help="episodes of the final evaluation")
    parser.add_argument("--jobs", type=int, default=1, help="seeds that train at once; above 1, wall times mean less")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "learning")
    arguments = parser.parse_args()

    def one(seed: int) -> None:
        record = train_and_score(arguments.preset, seed, arguments.overrides, arguments.episodes, arguments.keep)
        record["jobs"] = arguments.jobs
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / f"{arguments.preset.replace('/', '-')}-s{seed}.json"
        path.write_text(json.dumps(record) + "\n")
        print(f"{arguments.preset} seed {seed}: {record['score']['return_mean']:.2f} in {record['wall_seconds']:.0f} s")

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(one, arguments.seeds))


if __name__ == "__main__":
    main()
