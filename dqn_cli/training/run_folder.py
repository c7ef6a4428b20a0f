"""The folder of one run and the logs in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dqn_cli.core.errors import UsageError
from dqn_cli.envs.contract import EpisodeEnd
from dqn_cli.telemetry.append_file import AppendFile
from dqn_cli.telemetry.jsonl import JsonlLog
from dqn_cli.telemetry.tensorboard import TensorBoardLog


def runs_root() -> Path:
    """Returns the folder of all runs: ``DQN_RUNS_DIR``, or ``runs`` here."""
    return Path(os.environ.get("DQN_RUNS_DIR") or "runs")


def default_run_dir(config_name: str, seed: int, now: datetime) -> Path:
    """Returns the folder of a run that was given none: config, seed and time."""
    return runs_root() / f"{config_name}-s{seed}-{now:%Y%m%d-%H%M%S}"


def make_run_dir(path: Path) -> None:
    """Makes the folder of a new run.

    Raises:
        UsageError: It exists already, or cannot be made.
    """
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise UsageError(f"run folder {path} exists already; give another one with --run-dir")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the run folder {path}: {error.strerror}; give another with --run-dir") from error


class RunLogs:
    """Everything that a run writes beside checkpoints.

    ``metrics.jsonl``, ``episodes.jsonl`` with ``actions.bin`` (the actions of every episode, one byte each, two where
    there are more than 256 actions), ``evaluations.jsonl``, and TensorBoard events of the same numbers.

    Args:
        folder: The run folder.
        frames_per_step: Emulator frames of an agent step.
    """

    def __init__(self, folder: Path, frames_per_step: int) -> None:
        self._metrics = JsonlLog(folder / "metrics.jsonl")
        self._episodes = JsonlLog(folder / "episodes.jsonl")
        self._evaluations = JsonlLog(folder / "evaluations.jsonl")
        self._actions = AppendFile(folder / "actions.bin")
        self._tensorboard = TensorBoardLog(folder)
        self._frames_per_step = frames_per_step

    def text(self, tag: str, markdown: str) -> None:
        """Writes a text into TensorBoard."""
        self._tensorboard.text(tag, markdown)

    def metrics(self, step: int, record: Mapping[str, float | int | None]) -> None:
        """Writes a line of metrics; TensorBoard has the same numbers under ``train/`` and ``time/``."""
        self._metrics.write({"step": step, "frames": step * self._frames_per_step, **record})
        tags = {
            ("time/" if name in ("steps_per_second", "wall_seconds") else "train/") + name: float(value)
            for name, value in record.items()
            if value is not None
        }
        self._tensorboard.scalars(step, tags)

    def episode(self, step: int, end: EpisodeEnd) -> None:
        """Writes a finished episode and its actions."""
        offset = self._actions.offset
        self._actions.write(end.actions)
        self._episodes.write(
            {
                "step": step,
                "env": end.env_index,
                "episode": end.episode,
                "episode_return": end.score,
                "episode_length": end.length,
                "episode_frames": end.frames,
                "terminated": end.terminated,
                "seed": end.seed,
                "lineage_steps": end.lineage_steps,
                "actions_offset": offset,
                "actions_bytes": len(end.actions),
            }
        )

    def evaluation(self, step: int, record: Mapping[str, Any]) -> None:
        """Writes an evaluation; TensorBoard has its numbers under ``eval/``."""
        self._evaluations.write({"step": step, "frames": step * self._frames_per_step, **record})
        numbers = {
            f"eval/{name}": float(value)
            for name, value in record.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        self._tensorboard.scalars(step, numbers)

    def offsets(self) -> dict[str, int]:
        """Returns the sizes of the logs in bytes, which a checkpoint remembers."""
        return {
            "metrics": self._metrics.offset,
            "episodes": self._episodes.offset,
            "evaluations": self._evaluations.offset,
            "actions": self._actions.offset,
        }

    def close(self) -> None:
        """Closes all files."""
        for log in (self._metrics, self._episodes, self._evaluations, self._actions, self._tensorboard):
            log.close()
