"""Steps a second on CartPole, ours and the DQNs of stable-baselines3 and Tianshou at the same settings, in alternation.

    python benchmarks/cartpole_speed.py --peer-python .venv-peers/bin/python  # make bench-peers

Network, batch, bursts of updates, target copies, optimiser, loss and exploration are those of rl-baselines3-zoo. Ours
runs with one environment, as the zoo's does, and with four. The warm-up is left out: the time is of learning steps
only. Ours uses one thread, its default for such a network; the others run with their default, a thread a core, and with
one. Results go to ``benchmarks/data/cartpole_speed.json``. ``pong_speed.py`` says why the others have an environment of
their own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from peer_rounds import measure, ours, print_ratios, theirs, write_record  # type: ignore[import-not-found]

HERE = Path(__file__).resolve().parent
OVERRIDES = (
    "stop=null",
    "replay={capacity: 100_000, warmup_steps: 1_000, n_step: 1}",
    "learning.bootstrap={kind: greedy}",
    "learning.lr_schedule=null",
    "exploration={kind: epsilon_greedy, start: 1.0, end: 0.04, begin_steps: 0, decay_steps: 8_000}",
    "evaluation.every_steps=null",
)
UPDATES_PER_STEP = 128 / 256


def main() -> None:
    """Measures rounds of all sides and prints the ratios with their spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True, help="a Python with stable-baselines3 and Tianshou")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12_800, help="learning steps of a run, a multiple of 256")
    parser.add_argument("--out", type=Path, default=HERE / "data" / "cartpole_speed.json")
    arguments = parser.parse_args()
    python, steps = arguments.peer_python, arguments.steps
    commands = {
        "ours, 1 environment": ours("cartpole/double", steps, *OVERRIDES, "env.num_envs=1"),
        "ours, 4 environments": ours("cartpole/double", steps, *OVERRIDES, "env.num_envs=4"),
    }
    for library, script in (
        ("stable-baselines3", "stable_baselines3_cartpole.py"),
        ("Tianshou", "tianshou_cartpole.py"),
    ):
        commands[library] = theirs(python, script, steps)
        commands[f"{library}, 1 thread"] = theirs(python, script, steps, threads=1)
    speeds = measure(commands, arguments.rounds, UPDATES_PER_STEP)
    print_ratios(speeds)
    write_record(arguments.out, python, steps, speeds)


if __name__ == "__main__":
    main()
