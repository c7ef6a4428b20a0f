"""A long run with checkpoints, and the memory of its process while it goes on.

    python benchmarks/soak.py cartpole/double total_steps=2_000_000 --name cartpole
    python benchmarks/soak.py atari/pong-cpu replay.capacity=50_000 total_steps=100_000_000 --name pong --hours 1

Starts ``dqn train``, looks at its resident memory every ten seconds, ends it with SIGTERM when its time is over, and
resumes it for a moment, to see that it can be. Growth is that of the median of the last tenth of the samples over the
median of the tenth that follows the moment when the ring of frames was full.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dqn_cli.core.machine import describe_machine
from dqn_cli.training.generations import check_whole, newest_whole

HERE = Path(__file__).resolve().parent
DQN = shutil.which("dqn", path=str(Path(sys.executable).parent)) or "dqn"
PERIOD_SECONDS = 10.0


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no memory")


def last_step(run_dir: Path) -> int:
    """Returns the agent steps of the last report."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def watch(process: subprocess.Popen[bytes], run_dir: Path, seconds: float) -> list[tuple[float, int, int]]:
    """Returns (seconds, step, resident bytes) until the process has ended or its time is over."""
    samples, begun = [], time.monotonic()
    while process.poll() is None and time.monotonic() - begun < seconds:
        time.sleep(PERIOD_SECONDS)
        try:
            samples.append((time.monotonic() - begun, last_step(run_dir), resident_bytes(process.pid)))
        except (OSError, ValueError):  # it has just ended
            break
    return samples


def growth(samples: list[tuple[float, int, int]], full_step: int) -> float:
    """Returns by which share the memory has grown since the ring was full."""
    sizes = [size for _, step, size in samples if step >= full_step]
    tenth = max(1, len(sizes) // 10)
    return statistics.median(sizes[-tenth:]) / statistics.median(sizes[:tenth]) - 1.0


def main() -> None:
    """Trains, watches, prints, and writes ``data/soak-NAME.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--name", required=True)
    parser.add_argument("--hours", type=float, default=1e9)
    parser.add_argument(
        "--full-step", type=int, default=0, help="step at which the ring is full; 0: twice the capacity"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [DQN, "train", options.preset, *options.overrides, "--run-dir", str(run_dir), "--quiet"]
        process = subprocess.Popen(command)
        samples = watch(process, run_dir, 3600 * options.hours)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait()
        seconds_to_end = time.monotonic() - asked
        state = newest_whole(run_dir, print)
        assert state is not None
        check_whole(state)
        config = (run_dir / "config.yaml").read_text()
        capacity = next(int(line.split()[1]) for line in config.splitlines() if line.strip().startswith("capacity:"))
        full_step = options.full_step or 2 * capacity
        resumed = None
        if code == 143:
            again = subprocess.Popen([DQN, "resume", str(run_dir), "--quiet"])
            time.sleep(30)
            again.send_signal(signal.SIGTERM)
            resumed = again.wait()
        result: dict[str, Any] = {
            "command": " ".join(["dqn", "train", options.preset, *options.overrides]),
            "steps": state.step,
            "hours": round(samples[-1][0] / 3600, 3),
            "exit_code": code,
            "seconds_from_sigterm_to_end": round(seconds_to_end, 2),
            "exit_code_of_a_resume_and_sigterm": resumed,
            "full_step": full_step,
            "growth_since_full": round(growth(samples, full_step), 5),
            "samples": [[round(s), step, size] for s, step, size in samples[:: max(1, len(samples) // 200)]],
            "machine": describe_machine(),
        }
    (HERE / "data" / f"soak-{options.name}.json").write_text(json.dumps(result) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "samples"}, indent=1))


if __name__ == "__main__":
    main()
