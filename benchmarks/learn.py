"""Shows that the head, bootstrap, sampler and noise of every Atari preset learn: CartPole on a small network.

    python benchmarks/learn.py

Each preset keeps what makes it a variant, its head, bootstrap, sampler, noisy layers and value rescaling; sizes, step
sizes and everything else are those of the preset ``cartpole/double``. A seed is a process of its own, ``dqn train``,
then ``dqn eval`` of its last checkpoint on episodes that training never saw. What came out goes to
``benchmarks/data/learn.json``; ``python benchmarks/report.py`` makes the table from it. Exit code 1 if a mean return is
below the bar.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dqn_cli.cli.options import presets_folder
from dqn_cli.config import list_presets, load_config
from dqn_cli.core.machine import describe_machine
from dqn_cli.schema import RunOptions

HERE = Path(__file__).resolve().parent
DATA = HERE / "data" / "learn.json"
DQN = shutil.which("dqn", path=str(Path(sys.executable).parent)) or "dqn"
BAR = 400.0
SIZES = {"v_min": 0.0, "v_max": 100.0, "quantiles": 8, "acting_quantiles": 8}
"""Sizes of a head for CartPole, where it has such options; the discounted return of a whole episode is below 100."""


def variant(preset: str) -> list[str]:
    """Returns the overrides that give ``cartpole/double`` what makes ``preset`` a variant."""
    options = load_config(preset, [], RunOptions, presets_folder()).options
    head = options.network.head.model_dump(mode="json")
    head |= {key: value for key, value in SIZES.items() if key in head}
    # What has a hidden layer behind its noise, its streams or its fractions keeps one.
    head["hidden"] = [64] if head["hidden"] else []
    values: dict[str, Any] = {
        "network.torso.hidden": [256] if head["hidden"] else [256, 256],
        "network.head": head,
        "network.noisy": options.network.noisy and options.network.noisy.model_dump(mode="json"),
        "learning.bootstrap": options.learning.bootstrap.model_dump(mode="json"),
        "learning.value_rescaling": options.learning.value_rescaling,
        "replay.sampler": options.replay.sampler.model_dump(mode="json"),
    }
    return ["learning.loss=auto", *(f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None)]


def learn(preset: str, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and scores one seed of one variant."""
    run_dir = folder / f"{preset.replace('/', '-')}-s{seed}"
    command = ["dqn", "train", "cartpole/double", f"seed={seed}", *variant(preset)]
    subprocess.run([DQN, *command[1:], "--run-dir", str(run_dir), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    scored = subprocess.run(
        [DQN, "eval", str(run_dir), "--episodes", "100", "--json"], check=True, capture_output=True, text=True
    )
    result = json.loads(scored.stdout)
    last = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    record = {
        "preset": preset,
        "seed": seed,
        "command": shlex.join(command),
        "return_mean": result["return_mean"],
        "steps": result["checkpoint_step"],
        "wall_seconds": last["wall_seconds"],
        "machine": describe_machine(),
    }
    print(f"{preset} seed {seed}: {record['return_mean']:.1f} at step {record['steps']:,}", flush=True)
    return record


def main() -> None:
    """Parses the command line and runs the variants."""
    every = [name for name in list_presets(presets_folder()) if name.startswith("atari")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", help="these alone, whose records replace earlier ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, a thread each")
    parser.add_argument("--out", type=Path, default=DATA)
    arguments = parser.parse_args()
    work = [(preset, seed) for preset in arguments.presets or every for seed in arguments.seeds]
    with tempfile.TemporaryDirectory(prefix="dqn-learn-") as scratch, ThreadPoolExecutor(arguments.jobs) as pool:
        records = list(pool.map(lambda one: learn(one[0], one[1], Path(scratch)), work))
    failed = any(record["return_mean"] < BAR for record in records)
    if arguments.presets and arguments.out.exists():
        earlier = json.loads(arguments.out.read_text())["runs"]
        records += [record for record in earlier if record["preset"] not in arguments.presets]
    records.sort(key=lambda record: (record["preset"], record["seed"]))
    content = {"bar": BAR, "runs": records}
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
