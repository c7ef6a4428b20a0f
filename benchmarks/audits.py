"""Audits every shipped preset, and Atari games under pairs of settings: the evidence in ``benchmarks/RESULTS.md``.

    python benchmarks/audits.py

Each audit is a process of its own, ``dqn audit PRESET --json``. The settings of the Atari games are chosen so that
each two values of two different settings meet in some audit. What came out goes to ``benchmarks/data/audits.json``;
``python benchmarks/report.py`` makes the table from it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dqn_cli.core.machine import describe_machine

HERE = Path(__file__).resolve().parent
DQN = shutil.which("dqn", path=str(Path(sys.executable).parent)) or "dqn"
GAMES = ("Pong", "Breakout", "Seaquest", "SpaceInvaders", "MsPacman", "Qbert", "Freeway", "MontezumaRevenge")
SETTINGS: Mapping[str, Sequence[Any]] = {
    "env.sticky": (0.25, 0.0),
    "env.terminal_on_life_loss": (True, False),
    "env.num_envs": (1, 3, 8),
    "env.stack": (4, 1),
    "replay.n_step": (1, 3, 10),
}

Pair = frozenset[tuple[str, Any]]


def pairs_of(row: Mapping[str, Any]) -> set[Pair]:
    """Returns every two values of one row of settings."""
    return {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}


def pairwise(settings: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Returns rows of settings in which each two values of two settings meet: greedily, few but not the fewest."""
    every = [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]
    left = set().union(*map(pairs_of, every))
    rows = []
    while left:
        best = max(every, key=lambda row: len(pairs_of(row) & left))
        left -= pairs_of(best)
        rows.append(best)
    return rows


def audit(preset: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the record of one audit."""
    command = ["dqn", "audit", preset, *overrides]
    begun = time.perf_counter()
    done = subprocess.run([DQN, *command[1:], "--json"], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"{shlex.join(command)}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    failures = {check["name"]: check["failure"] for check in report["checks"] if check["failure"]}
    unseen = [check["name"] for check in report["checks"] if check["verdict"] == "not seen"]
    record = {
        "preset": preset,
        "command": shlex.join(command),
        "environment": report["environment"],
        "steps": report["steps"],
        "episodes": report["episodes"],
        "compared": sum(check["compared"] for check in report["checks"]),
        "failures": failures,
        "unseen": unseen,
        "seconds": seconds,
        "machine": describe_machine(),
    }
    print(f"{record['command']}: {'FAILED ' + str(failures) if failures else 'ok'}, {seconds:.0f} s", flush=True)
    return record


def presets() -> list[str]:
    """Returns the name of every shipped preset."""
    folder = HERE.parent / "configs"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def main() -> None:
    """Parses the command line and runs the audits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", help="these presets alone, whose records replace the earlier ones")
    parser.add_argument("--only", choices=("presets", "atari"), help="one half, whose records replace the earlier ones")
    arguments = parser.parse_args()
    path = HERE / "data" / "audits.json"
    content = json.loads(path.read_text()) if path.exists() else {"presets": [], "atari": []}
    anew: list[dict[str, Any]] = []
    if arguments.only != "atari" or arguments.presets:
        records = {record["preset"]: record for record in content["presets"]}
        for preset in arguments.presets or presets():
            anew.append(audit(preset, []))
            records[preset] = anew[-1]
        content["presets"] = [records[preset] for preset in presets() if preset in records]
    if arguments.only != "presets" and not arguments.presets:
        content["atari"] = [
            audit("atari/default", [f"env.game={game}", *(f"{key}={json.dumps(value)}" for key, value in row.items())])
            for game, row in zip(itertools.cycle(GAMES), pairwise(SETTINGS), strict=False)
        ]
        anew += content["atari"]
    path.write_text(json.dumps(content, indent=1) + "\n")
    raise SystemExit(any(record["failures"] for record in anew))


if __name__ == "__main__":
    main()
