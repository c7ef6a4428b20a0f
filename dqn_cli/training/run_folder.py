"""The folder of one run and the logs in it."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from dqn_cli import __version__
from dqn_cli.config.write import dump_config
from dqn_cli.core.errors import UsageError
from dqn_cli.core.files import write_durably
from dqn_cli.core.options import Options
from dqn_cli.envs.contract import EpisodeEnd
from dqn_cli.telemetry.append_file import AppendFile
from dqn_cli.telemetry.jsonl import JsonlLog
from dqn_cli.telemetry.tensorboard import TensorBoardLog

PACKAGES = ("torch", "numpy", "gymnasium", "ale-py")
"""What a result depends on beside this program."""

FAILURE = "failure.json"
"""What plays the episode again in which an environment failed."""

_TIME_FIELDS = ("steps_per_second", "wall_seconds")


def runs_root() -> Path:
    """Returns the folder of all runs: ``DQN_RUNS_DIR``, or ``runs`` here."""
    return Path(os.environ.get("DQN_RUNS_DIR") or "runs")


def default_run_dir(config_name: str, seed: int, now: datetime) -> Path:
    """Returns the folder of a run that was given none: config, seed and time."""
    return runs_root() / f"{config_name}-s{seed}-{now:%Y%m%d-%H%M%S}"


def make_run_dir(path: Path) -> None:
    """Makes the folder of a new run; one that is there and empty will do.

    Raises:
        UsageError: It holds something already, or cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()
        taken = not path.is_dir() or any(path.iterdir())
        writable = os.access(path, os.W_OK | os.X_OK)
    except OSError as error:
        raise UsageError(f"cannot make the run folder {path}: {error.strerror}; give another with --run-dir") from error
    if taken:
        raise UsageError(f"run folder {path} exists already; give another one with --run-dir")
    if not writable:
        raise UsageError(f"run folder {path} cannot be written; check its permissions or give another with --run-dir")


@contextmanager
def new_run_dir(chosen: Path | None, config_name: str, seed: int, now: datetime) -> Iterator[Path]:
    """Makes the folder of a new run; if the block fails before it has written anything, the folder goes again.

    Without a ``chosen`` folder it is the default one; runs that are started in the same second get folders of their
    own.

    Raises:
        UsageError: The chosen folder holds something already, or the folder cannot be made or written.
    """
    existed = chosen is not None and chosen.exists()
    folder = chosen if chosen is not None else _claim(default_run_dir(config_name, seed, now))
    make_run_dir(folder)
    try:
        yield folder
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


def _claim(path: Path) -> Path:
    """Makes ``path``, or ``path-2`` where another run has it, and so on; to make a folder is atomic."""
    number = 1
    while True:
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.exists():  # something on the way to it is a file
                return folder
            number += 1
        except OSError:
            return folder  # make_run_dir says why
        else:
            return folder


def provenance() -> dict[str, str]:
    """Returns the versions of what computes, and the state of the source where it is a git checkout."""
    facts = {"dqn_cli": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts[package] = metadata.version(package)
    source = Path(__file__).resolve().parents[2]
    commit = _git(source, "rev-parse", "HEAD") if (source / ".git").exists() else None
    if commit:
        facts["git"] = commit + ("-dirty" if _git(source, "status", "--porcelain") else "")
    return facts


def write_config(path: Path, options: Options, name: str, facts: Mapping[str, str]) -> None:
    """Writes the resolved config, with what wrote it as comments."""
    header = f"# {name}, resolved\n" + "".join(f"# {key}: {value}\n" for key, value in facts.items())
    content = (header + dump_config(options)).encode()

    def write(file: BinaryIO) -> None:
        file.write(content)

    write_durably(path, write)


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

    def offsets(self) -> dict[str, int]:
        """Returns the sizes of the logs in bytes, which a checkpoint remembers."""
        return {
            "metrics": self._metrics.offset,
            "episodes": self._episodes.offset,
            "evaluations": self._evaluations.offset,
            "actions": self._actions.offset,
        }

    def flush(self) -> None:
        """Waits until everything written is on the disk: a checkpoint must not remember more than there is."""
        for log in (self._metrics, self._episodes, self._evaluations, self._actions, self._tensorboard):
            log.flush()

    def close(self) -> None:
        """Closes all files."""
        for log in (self._metrics, self._episodes, self._evaluations, self._actions, self._tensorboard):
            log.close()

    def _scalars(self, step: int, prefix: str, record: Mapping[str, Any]) -> None:
        tags = {
            ("time/" if name in _TIME_FIELDS else prefix) + name: float(value)
            for name, value in record.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        self._tensorboard.scalars(step, tags)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
