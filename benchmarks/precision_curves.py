"""Whether bfloat16 learns what float32 learns: returns while training, several seeds of each.

    python benchmarks/precision_curves.py minatar/dqn --steps 300_000 --seeds 0 1 2 3 4 --jobs 2

Each seed and precision is a process of its own, the precisions in alternation; of several at once each has one thread.
What came out goes to ``benchmarks/data/precision-PRESET.json``; ``python benchmarks/report.py`` makes table and picture
from it. With ``--keep`` the runs stay, and a second call goes on with those that were cut off.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from learning import DQN, HERE, commit, returns_of_training  # type: ignore[import-not-found]

from dqn_cli.core.machine import describe_machine

PRECISIONS = ("float32", "bfloat16")


def train(preset: str, overrides: list[str], seed: int, precision: str, folder: Path) -> dict[str, Any]:
    """Trains one seed in one precision, or goes on with it, and returns its record."""
    run_dir = folder / f"{preset.replace('/', '-')}-{precision}-s{seed}"  # dqn refuses one of other settings
    command = ["dqn", "train", preset, f"seed={seed}", f"precision={precision}", *overrides]
    subprocess.run(
        [DQN, *command[1:], "--run-dir", str(run_dir), "--resume", "--quiet"], check=True, stdout=subprocess.DEVNULL
    )
    returns = returns_of_training(run_dir)
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    print(f"{preset} {precision} seed {seed}: {len(returns)} episodes, {last['wall_seconds']:.0f} s", flush=True)
    return {
        "seed": seed,
        "precision": precision,
        "command": shlex.join(command),
        "training_returns": returns,
        "wall_seconds": last["wall_seconds"],
        "commit": commit(run_dir),
    }


def main() -> None:
    """Trains all and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*", help="changes to the preset, key=value")
    parser.add_argument("--steps", type=int, required=True, help="agent steps of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    parser.add_argument("--out", type=Path, default=HERE / "data")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides, f"total_steps={arguments.steps}", "evaluation.every_steps=null"]
    overrides += ["threads=1"] if arguments.jobs > 1 else []
    with tempfile.TemporaryDirectory(prefix="dqn-precision-") as scratch, ThreadPoolExecutor(arguments.jobs) as pool:
        folder = arguments.keep or Path(scratch)
        runs = [(seed, precision) for seed in arguments.seeds for precision in PRECISIONS]
        records = list(pool.map(lambda run: train(arguments.preset, overrides, run[0], run[1], folder), runs))
    record = {
        "preset": arguments.preset,
        "steps": arguments.steps,
        "runs": records,
        "machine": describe_machine(),
        "jobs": arguments.jobs,
    }
    path = arguments.out / f"precision-{arguments.preset.replace('/', '-')}.json"
    path.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
