"""Steps a second on Pong, ours against stable-baselines3's DQN at the same settings, in alternation.

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install torch==2.13.0 stable-baselines3 ale-py opencv-python-headless
    python benchmarks/pong_speed.py --peer-python /tmp/peers/bin/python

Both train the NatureCNN on 84x84 Pong with batches of 32 and one update in 4 agent steps, eight environments, Adam,
float32, all cores; a pair of runs gives one ratio. The warm-up is left out: the time is of learning steps only.
Without ``--peer-python`` only our side is measured. Results go to ``benchmarks/data/pong_speed.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from dqn_cli.core.machine import describe_machine

HERE = Path(__file__).resolve().parent
OVERRIDES = (
    "env.sticky=0.0",
    "env.fire_on_reset=false",
    "network.head={kind: scalar, dueling: false, hidden: []}",
    "network.torso={kind: cnn, hidden: [512]}",
    "replay={capacity: 20_000, warmup_steps: 1_000, n_step: 1, reward_clip: 1.0}",
    "learning.bootstrap={kind: greedy}",
    "learning.target={kind: periodic, every_steps: 1_000}",
    "learning.optimizer={kind: adam, lr: 1.0e-4}",
    "exploration={kind: epsilon_greedy, start: 0.1, end: 0.01, decay_steps: 100_000}",
    "precision=float32",
    "evaluation.every_steps=null",
)


def ours(steps: int) -> float:
    """Returns our steps a second."""
    return rate([sys.executable, str(HERE / "peers" / "ours.py"), "atari/default", str(steps), *OVERRIDES])


def theirs(python: Path, steps: int) -> float:
    """Returns the steps a second of stable-baselines3."""
    return rate([str(python), str(HERE / "peers" / "stable_baselines3_pong.py"), str(steps)])


def rate(command: list[str]) -> float:
    """Returns the steps a second that a command prints as JSON on its last line."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["steps_per_second"])


def main() -> None:
    """Measures pairs and prints the ratios with their spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="a Python with stable-baselines3")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3_000, help="learning steps of a run")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "pong_speed.json")
    arguments = parser.parse_args()
    rows = []
    for pair in range(arguments.pairs):
        own = ours(arguments.steps)
        peer = theirs(arguments.peer_python, arguments.steps) if arguments.peer_python else None
        rows.append({"ours": own, "stable_baselines3": peer, "ratio": own / peer if peer else None})
        ratio = f", stable-baselines3 {peer:.0f}, ratio {own / peer:.2f}" if peer else ""
        print(f"pair {pair + 1}: ours {own:.0f} steps/s{ratio}", flush=True)
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    if ratios:
        print(f"ratio: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(
            json.dumps({"steps": arguments.steps, "pairs": rows, "machine": describe_machine()}) + "\n"
        )


if __name__ == "__main__":
    main()
