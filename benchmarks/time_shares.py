"""Where the time of a training goes: what ``dqn bench`` says of several configs, and of several splits of threads.

    python benchmarks/time_shares.py

The first rows are the presets as they are on this machine; Pong is that of ``pong_speed.py``, in each precision the
processor has. Behind them Pong again with other splits of the cores between learner and emulators. Each row is measured
``--rounds`` times in alternation. Writes ``data/time_shares.json``; ``python benchmarks/report.py`` makes the table.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
from pathlib import Path

import torch

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from pong_speed import OVERRIDES as PONG  # type: ignore[import-not-found]

from dqn_cli.cli.options import presets_folder
from dqn_cli.config.load import load_config
from dqn_cli.core.machine import available_cores, describe_machine
from dqn_cli.experiments.benchmark.measure import benchmark
from dqn_cli.hardware import has_bfloat16
from dqn_cli.schema import RunOptions
from dqn_cli.training.run_folder import provenance

HERE = Path(__file__).resolve().parent


def rows() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Returns what is measured: the name of a row, preset and overrides."""
    has_it = has_bfloat16(torch.device("cpu"))
    precisions = ("float32", "bfloat16") if has_it else ("float32",)
    found: dict[str, tuple[str, tuple[str, ...]]] = {
        "cartpole": ("cartpole", ()),
        "cartpole/double": ("cartpole/double", ()),
        "atari/pong-speedrun": ("atari/pong-speedrun", ()),
    }
    for precision in precisions:
        found[f"Pong, {precision}"] = ("atari/default", (*PONG, f"precision={precision}"))
    cores = available_cores()
    for learner, emulators in sorted({(cores, 1), (1, cores), (1, 1), (max(1, cores - 1), 1)} - {(cores, cores)}):
        split = (f"threads={learner}", f"env.threads={emulators}")
        found[f"Pong, {precisions[-1]}, {learner} + {emulators} threads"] = (
            "atari/default",
            (*PONG, f"precision={precisions[-1]}", *split),
        )
    return found


def main() -> None:
    """Measures every row and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each part of a row, thrice that for its loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "data" / "time_shares.json")
    arguments = parser.parse_args()
    chosen = rows()
    found: dict[str, list[dict[str, object]]] = {name: [] for name in chosen}
    for number in range(arguments.rounds):
        for name in random.sample(list(chosen), len(chosen)):
            preset, overrides = chosen[name]
            options = load_config(preset, ["device=cpu", *overrides], RunOptions, presets_folder()).options
            report = benchmark(options, arguments.seconds)
            found[name].append(report.as_dict())
            print(f"round {number + 1}, {name}: {report.steps_per_second:.0f} agent steps/s", flush=True)
    record = {
        "rows": [
            {"name": name, "command": shlex.join(["dqn", "bench", preset, *overrides]), "found": found[name]}
            for name, (preset, overrides) in chosen.items()
        ],
        "seconds": arguments.seconds,
        "commit": provenance().get("git", ""),
        "machine": describe_machine(),
    }
    arguments.out.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
