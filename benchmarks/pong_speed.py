"""Steps a second on Pong, ours and the DQNs of stable-baselines3 and Tianshou at the same settings, in alternation.

    python benchmarks/pong_speed.py --peer-python .venv-peers/bin/python  # make bench-peers

All train the NatureCNN on 84x84 Pong with batches of 32 and one update in 4 agent steps, eight environments, Adam,
float32, all cores; a round of runs gives one ratio for each library. Where the processor has bfloat16, ours runs with
it too. The warm-up is left out: the time is of learning steps only. Without ``--peer-python`` only our side is
measured. Results go to ``benchmarks/data/pong_speed.json``.

The other libraries live in an environment of their own, made by ``make bench-peers`` from the extra ``peers``: Tianshou
2.0 wants pandas and virtualenv of earlier major versions than those of ``constraints.txt``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from peer_rounds import measure, ours, print_ratios, theirs, write_record  # type: ignore[import-not-found]

from dqn_cli.hardware import has_bfloat16

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
    "evaluation.every_steps=null",
)
UPDATES_PER_STEP = 1 / 4


def main() -> None:
    """Measures rounds and prints the ratios with their spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="a Python with stable-baselines3 and Tianshou")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3_000, help="learning steps of a run")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "pong_speed.json")
    arguments = parser.parse_args()
    python, steps = arguments.peer_python, arguments.steps
    precisions = ("float32", "bfloat16") if has_bfloat16(torch.device("cpu")) else ("float32",)
    commands = {
        f"ours, {precision}": ours("atari/default", steps, *OVERRIDES, f"precision={precision}")
        for precision in precisions
    }
    if python:
        commands["stable-baselines3"] = theirs(python, "stable_baselines3_pong.py", steps)
        commands["Tianshou"] = theirs(python, "tianshou_pong.py", steps)
    speeds = measure(commands, arguments.rounds, UPDATES_PER_STEP)
    print_ratios(speeds)
    if python:
        write_record(arguments.out, python, steps, speeds)


if __name__ == "__main__":
    main()
