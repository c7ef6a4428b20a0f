"""``make crash-test``: kills runs of many kinds at random moments, and fills up a real file system under one.

Corners: CartPole and Atari, uniform and prioritized, n of 1 and 3, 1 and 8 environments, sync and async. Each is killed
several times, resumed until it ends, and compared with a run that was never killed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from tests.crash.campaign import Campaign, Zygote, overrides_of, zygote
from tests.crash.compare import content, differences
from tests.small_runs import SMALL

CORNERS = [
    *product([False], [False, True], [1, 3], [1, 8], ["sync", "async"]),
    *product([True], [False, True], [1, 3], [1, 8], ["sync"]),
]


def describe(corner: tuple[bool, bool, int, int, str]) -> str:
    """Returns a corner in words."""
    game, prioritized, n_step, num_envs, vectorization = corner
    words = ["Breakout" if game else "CartPole", "prioritized" if prioritized else "uniform"]
    return ", ".join([*words, f"n {n_step}", f"{num_envs} environments", "threads" if game else vectorization])


def on_a_full_file_system(folder: Path, starter: Zygote) -> str:
    """Trains on a file system of 200 kB until it is full, and goes on elsewhere; returns what it came to."""
    whole, full = folder / "whole", folder / "full"
    arguments = ["train", "cartpole", *SMALL]
    starter.run([*arguments, "--run-dir", str(whole)], folder / "log")
    mount, log = folder / "mount", folder / "full.log"
    mount.mkdir()
    dqn = [
        sys.executable,
        "-c",
        "from dqn_cli.cli.main import main; main()",
        *arguments,
        "--run-dir",
        str(mount / "run"),
    ]
    script = (
        'mount -t tmpfs -o size=200k none "$0" && "${@:2}" > "$1" 2>&1; echo "exit $?" >> "$1"; '
        'cp -a "$0/run" "$0.copy"'
    )
    command = ["unshare", "-rm", "bash", "-c", script, str(mount), str(log), *dqn]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 or not log.exists():
        return f"skipped: no file system can be mounted here ({done.stderr.strip()})"
    said = log.read_text()
    assert "exit 1" in said, said
    assert "No space left on device" in said, said
    assert "Traceback" not in said, said
    shutil.move(f"{mount}.copy", full)
    answer = starter.run(["resume", str(full)], folder / "log")
    assert answer["code"] == 0, (folder / "log").read_text()
    differing = differences(content(whole), content(full))
    assert differing == [], differing
    return "equal"


def main() -> None:
    """Runs the corners."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3, help="of each corner")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, kills, failed, begun = random.Random(options.seed), 0, 0, time.monotonic()
    with zygote() as starter, tempfile.TemporaryDirectory() as temporary:
        for number, corner in enumerate(CORNERS):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            config, overrides = overrides_of(*corner)
            campaign = Campaign(config, overrides, folder, starter)
            for _ in range(options.kills):
                campaign.kill(rng)
            kills += sum(not kill.endswith(": 0") for kill in campaign.kills)
            differing = campaign.finish()
            failed += bool(differing)
            print(
                f"{describe(corner):60} {'DIFFERS ' + str(differing) if differing else 'equal'}",
                *campaign.kills,
                sep="  ",
                flush=True,
            )
            shutil.rmtree(folder)
        folder = Path(temporary) / "full"
        folder.mkdir()
        print(f"{'CartPole on a file system that runs full':60}  {on_a_full_file_system(folder, starter)}")
    print(f"{len(CORNERS)} runs, {kills} killed or failed, {failed} differ, {time.monotonic() - begun:.0f} s")
    sys.exit(1 if failed or kills < 50 else 0)


if __name__ == "__main__":
    main()
