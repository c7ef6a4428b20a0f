"""The memory of a full dense replay beside what ``dqn plan`` says of it.

    python benchmarks/planned_memory.py atari/nature

Steps of a constant picture go in until the ring of frames has been written over, an episode ending in each environment
after 200 steps; then the growth of the process's resident memory is compared with the plan. Further arguments are
overrides (``replay.capacity=100_000``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import environment_spec
from dqn_cli.config import load_config
from dqn_cli.plan import make_plan
from dqn_cli.schema import RunOptions
from dqn_cli.storage import make_replay

EPISODE_STEPS = 200


def resident_bytes() -> int:
    """Returns the resident memory of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Fills the replay of one config and prints both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    overrides = ["device=cpu", "replay.storage=dense", *arguments.overrides]
    options = load_config(arguments.config, overrides, RunOptions, presets_folder()).options
    plan, spec = make_plan(options), environment_spec(options)
    before = resident_bytes()
    replay = make_replay(options, spec, plan.hardware)
    count, form, rng = spec.num_envs, spec.observation, np.random.default_rng(0)
    observation = np.full((count, form.stack, *form.shape), 7, form.dtype)
    never, every = np.zeros(count, np.bool_), np.ones(count, np.bool_)
    replay.begin(observation)
    for step in range(replay.frames.capacity // count + EPISODE_STEPS):
        ends = every if step % EPISODE_STEPS == EPISODE_STEPS - 1 else never
        actions = rng.integers(spec.num_actions, size=count)
        replay.append(actions, np.ones(count), ends, never, observation, ends, observation)
    found = resident_bytes() - before
    print(
        f"{arguments.config}: {len(replay):,} transitions, {found / 1e9:.2f} GB resident, "
        f"{plan.replay_bytes / 1e9:.2f} GB planned, off by {100 * (plan.replay_bytes / found - 1):+.1f}%"
    )


if __name__ == "__main__":
    main()
