"""Steps a second on CartPole, ours against stable-baselines3's DQN with rl-baselines3-zoo's settings, in alternation.

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install torch==2.13.0 stable-baselines3
    python benchmarks/cartpole_speed.py --peer-python /tmp/peers/bin/python

Network, batch, bursts of updates, target copies, optimiser, loss and exploration are those of the zoo. Ours runs with
one environment, as the zoo's does, and with four. The warm-up is left out: the time is of learning steps only. Ours
uses one thread, its default for such a network; the peer runs with its default, a thread a core, and with one.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from pathlib import Path

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from pong_speed import rate  # type: ignore[import-not-found]

from dqn_cli.core.machine import describe_machine

HERE = Path(__file__).resolve().parent
OVERRIDES = (
    "stop=null",
    "replay={capacity: 100_000, warmup_steps: 1_000, n_step: 1}",
    "learning.bootstrap={kind: greedy}",
    "learning.lr_schedule=null",
    "exploration={kind: epsilon_greedy, start: 1.0, end: 0.04, begin_steps: 0, decay_steps: 8_000}",
    "evaluation.every_steps=null",
)


def main() -> None:
    """Measures rounds of all four and prints the ratios with their spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True, help="a Python with stable-baselines3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12_800, help="learning steps of a run")
    arguments = parser.parse_args()
    own = [sys.executable, str(HERE / "peers" / "ours.py"), "cartpole", str(arguments.steps), *OVERRIDES]
    peer = str(HERE / "peers" / "stable_baselines3_cartpole.py")
    commands = {
        "ours, 1 environment": [*own, "env.num_envs=1"],
        "ours, 4 environments": [*own, "env.num_envs=4"],
        "stable-baselines3": [str(arguments.peer_python), peer, str(arguments.steps)],
        "stable-baselines3, 1 thread": [
            "env",
            "OMP_NUM_THREADS=1",
            str(arguments.peer_python),
            peer,
            str(arguments.steps),
        ],
    }
    speeds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(arguments.rounds):
        for name in random.sample(list(commands), len(commands)):
            speeds[name].append(rate(commands[name]))
        print(
            f"round {number + 1}: " + ", ".join(f"{name} {found[-1]:.0f}" for name, found in speeds.items()), flush=True
        )
    peers = [found for name, found in speeds.items() if name.startswith("stable")]
    fastest = [max(round_) for round_ in zip(*peers, strict=True)]
    for name in commands:
        ratios = [a / b for a, b in zip(speeds[name], fastest, strict=True)]
        print(f"{name}: {statistics.median(ratios):.2f} of the faster peer, {min(ratios):.2f} to {max(ratios):.2f}")
    record = {"steps": arguments.steps, "steps_per_second": speeds, "machine": describe_machine()}
    (HERE / "data" / "cartpole_speed.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
