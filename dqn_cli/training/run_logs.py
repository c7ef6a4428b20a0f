"""The logs of one run: what happened, in the order in which it happened, cut back where a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dqn_cli.core.stateful import State
from dqn_cli.envs.contract import EpisodeEnd
from dqn_cli.telemetry.append_file import AppendFile
from dqn_cli.telemetry.jsonl import JsonlLog
from dqn_cli.telemetry.tensorboard import TensorBoardLog, check_mark

_TIME_FIELDS = ("steps_per_second", "wall_seconds")


class RunLogs:
    """Everything that a run writes beside checkpoints; a run that goes on has no line twice.

    ``metrics.jsonl``, ``episodes.jsonl`` with ``actions.bin`` (the actions of every episode, one byte each, two where
    there are more than 256 actions), ``evaluations.jsonl``, ``warnings.jsonl``, and TensorBoard events of the same
    numbers.

    Args:
        folder: The run folder.
        frames_per_step: Emulator frames of an agent step.
        marks: What `marks` returned when the checkpoint was written from which the run goes on; None for a new run.
        step: Agent steps behind that checkpoint.

    Raises:
        RunError: A log cannot be opened, or is shorter than it was then.
    """

    def __init__(self, folder: Path, frames_per_step: int, marks: State | None = None, step: int = 0) -> None:
        self._metrics = JsonlLog(folder / "metrics.jsonl")
        self._episodes = JsonlLog(folder / "episodes.jsonl")
        self._evaluations = JsonlLog(folder / "evaluations.jsonl")
        self._warnings = JsonlLog(folder / "warnings.jsonl")
        self._actions = AppendFile(folder / "actions.bin")
        self._frames_per_step = frames_per_step
        if marks is None:
            self._tensorboard = TensorBoardLog(folder)
            return
        events, offset = marks["tensorboard"]
        mark = str(events), int(offset)
        check_mark(folder, mark)
        for name, log in self._files().items():  # all are looked at before the first is cut
            log.check(int(marks[name]))
        for name, log in self._files().items():
            log.truncate(int(marks[name]))
        self._tensorboard = TensorBoardLog(folder, step, mark)

    @property
    def events_lost(self) -> bool:
        """Whether TensorBoard's events from before the checkpoint are gone."""
        return self._tensorboard.lost

    def text(self, tag: str, markdown: str) -> None:
        """Writes a text into TensorBoard."""
        self._tensorboard.text(tag, markdown)

    def metrics(self, step: int, record: Mapping[str, float | int | None]) -> None:
        """Writes a line of metrics; TensorBoard has the same numbers under ``train/`` and ``time/``."""
        self._metrics.write({"step": step, "frames": step * self._frames_per_step, **record})
        self._scalars(step, "train/", record)

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
        self._scalars(step, "eval/", {name: value for name, value in record.items() if name not in _TIME_FIELDS})

    def warning(self, step: int, name: str, message: str) -> None:
        """Writes a warning; TensorBoard has it as a text under ``warnings/``."""
        self._warnings.write({"step": step, "name": name, "message": message})
        self._tensorboard.text(f"warnings/{name}", message, step)

    def marks(self) -> State:
        """Returns how long the logs are, in bytes, which a checkpoint remembers."""
        sizes = {name: log.offset for name, log in self._files().items()}
        return {**sizes, "tensorboard": [self._tensorboard.path.name, self._tensorboard.offset]}

    def flush(self) -> None:
        """Waits until everything written is on the disk: a checkpoint must not remember more than there is."""
        for log in (*self._files().values(), self._tensorboard):
            log.flush()

    def close(self) -> None:
        """Closes all files."""
        for log in (*self._files().values(), self._tensorboard):
            log.close()

    def _files(self) -> dict[str, JsonlLog | AppendFile]:
        return {
            "metrics": self._metrics,
            "episodes": self._episodes,
            "evaluations": self._evaluations,
            "warnings": self._warnings,
            "actions": self._actions,
        }

    def _scalars(self, step: int, prefix: str, record: Mapping[str, Any]) -> None:
        tags = {
            ("time/" if name in _TIME_FIELDS else prefix) + name: float(value)
            for name, value in record.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        self._tensorboard.scalars(step, tags)
