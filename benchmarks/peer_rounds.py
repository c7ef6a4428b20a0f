"""Rounds of our side and of other libraries at the same settings, in alternation, and their ratios."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from dqn_cli.core.machine import describe_machine
from dqn_cli.training.run_folder import provenance

PEERS = Path(__file__).resolve().parent / "peers"
OURS = "ours"
"""What the names of our own sides begin with; any other begins with the name of its library and a comma."""

_TOLERANCE = 0.02
"""How far the number of updates of a run may be off, as a share."""


def ours(config: str, steps: int, *overrides: str) -> list[str]:
    """Returns the command of our side."""
    return [sys.executable, str(PEERS / "ours.py"), config, str(steps), *overrides]


def theirs(python: Path, script: str, steps: int, threads: int | None = None) -> list[str]:
    """Returns the command of a script of ``peers``; None leaves the number of threads to the library."""
    limit = [] if threads is None else ["env", f"OMP_NUM_THREADS={threads}"]
    return [*limit, str(python), str(PEERS / script), str(steps)]


def rate(command: list[str], updates_per_step: float) -> float:
    """Returns the steps a second that a command prints as JSON on its last line.

    Raises:
        SystemExit: It failed, or made another number of updates than belongs to its steps: no speed to compare.
    """
    # Ours sets its threads itself; a limit from outside would hold the others only.
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2_000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    expected = updates_per_step * found["steps"]
    if abs(found["updates"] - expected) > _TOLERANCE * expected:
        raise SystemExit(f"{' '.join(command)} made {found['updates']} updates in {found['steps']} steps")
    return float(found["steps_per_second"])


def measure(commands: dict[str, list[str]], rounds: int, updates_per_step: float) -> dict[str, list[float]]:
    """Returns the steps a second of each side, a value a round; each round runs all sides in an order of its own."""
    speeds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name in random.sample(list(commands), len(commands)):
            speeds[name].append(rate(commands[name], updates_per_step))
        print(
            f"round {number + 1}: " + ", ".join(f"{name} {found[-1]:.0f}" for name, found in speeds.items()), flush=True
        )
    return speeds


def ratios(speeds: dict[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    """Returns, for each library, what each side reaches of it, a value a round.

    A library that runs in several ways counts with the fastest of them in that round.
    """
    libraries = dict.fromkeys(name.split(",")[0] for name in speeds if not name.startswith(OURS))
    found = {}
    for library in libraries:
        own = [values for name, values in speeds.items() if name.split(",")[0] == library]
        fastest = [max(values) for values in zip(*own, strict=True)]
        found[library] = {
            name: [a / b for a, b in zip(values, fastest, strict=True)] for name, values in speeds.items()
        }
    return found


def print_ratios(speeds: dict[str, list[float]]) -> None:
    """Prints what each side reaches of each library, with its spread."""
    for library, sides in ratios(speeds).items():
        for name, found in sides.items():
            print(f"{name}: {statistics.median(found):.2f} of {library}, {min(found):.2f} to {max(found):.2f}")


def write_record(path: Path, python: Path, steps: int, speeds: dict[str, list[float]]) -> None:
    """Writes a measurement with the machine and the versions of the other libraries."""
    names = list(ratios(speeds))
    script = (
        "import json, sys; from importlib.metadata import version; print(json.dumps([*map(version, sys.argv[1:])]))"
    )
    done = subprocess.run([str(python), "-c", script, *names], check=True, capture_output=True, text=True)
    record: dict[str, Any] = {
        "steps": steps,
        "steps_per_second": speeds,
        "versions": dict(zip(names, json.loads(done.stdout), strict=True)),
        "commit": provenance().get("git", ""),
        "machine": describe_machine(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record) + "\n")
