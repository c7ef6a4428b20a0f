"""The folder of one run."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from dqn_cli import __version__
from dqn_cli.config.write import dump_config
from dqn_cli.core.errors import UsageError
from dqn_cli.core.files import write_durably
from dqn_cli.core.options import Options
from dqn_cli.training.run_lock import LOCK, locked

PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "lz4")
"""What a result depends on beside this program."""

CONFIG = "config.yaml"
FAILURE = "failure.json"
"""What plays the episode again in which an environment failed."""

_OWN = re.compile(
    r"config\.yaml|(metrics|episodes|evaluations|warnings)\.jsonl|actions\.bin|failure\.json|(checkpoint|best)\.pt"
    r"|checkpoints|replay|events\.out\.tfevents\.\d+|\.lock|\..*\.tmp"
)
"""Names of all that a run writes into its folder."""


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
        taken = not path.is_dir() or holds_a_run(path)
        writable = os.access(path, os.W_OK | os.X_OK)
    except OSError as error:
        raise UsageError(f"cannot make the run folder {path}: {error.strerror}; give another with --run-dir") from error
    if taken:
        raise UsageError(
            f"run folder {path} exists already; give another one with --run-dir, or go on with what is there with "
            "--resume"
        )
    if not writable:
        raise UsageError(f"run folder {path} cannot be written; check its permissions or give another with --run-dir")


def holds_a_run(path: Path) -> bool:
    """Returns whether there is anything in a folder but the lock of who is about to use it; raises ``OSError``."""
    return any(entry.name != LOCK for entry in path.iterdir())


def refuse_foreign(path: Path) -> None:
    """Makes sure that a folder is that of a run; others may have put files of their own beside it.

    Raises:
        UsageError: Nothing says that it is, and there is something in it that no run writes; or it cannot be read.
    """
    try:
        strange = _strange(path)
        recorded = path / CONFIG
        begun = recorded.exists() and recorded.read_bytes().split(b"\n", 1)[0].endswith(b", resolved")
    except OSError as error:
        raise UsageError(f"cannot read the run folder {path}: {error.strerror}") from error
    if begun or not (strange or recorded.exists()):
        return
    what = f"its {CONFIG} was" if recorded.exists() else f"'{strange[0]}' in it was"
    raise UsageError(f"{path} is no run folder: {what} not written by dqn; give another one")


def _strange(path: Path) -> list[str]:
    """Returns the names in a folder that no run gives, sorted; raises ``OSError``."""
    return sorted(entry.name for entry in path.iterdir() if not _OWN.fullmatch(entry.name))


def clear(path: Path) -> None:
    """Empties the folder of a run that has no checkpoint; its lock stays.

    Raises:
        UsageError: It cannot be written, holds something that is not the run's, or there must have been a checkpoint:
            a run writes one before its first line.
    """
    try:
        for name in _strange(path):
            raise UsageError(f"run folder {path} would be emptied, and '{name}' in it was not written by dqn: move it")
        if any(
            (path / name).is_file() and (path / name).stat().st_size for name in ("metrics.jsonl", "episodes.jsonl")
        ):
            raise UsageError(
                f"run folder {path} holds logs of a run whose checkpoints are gone; bring them back, or give another "
                "folder with --run-dir"
            )
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK:
                entry.unlink()
    except OSError as error:
        raise UsageError(f"run folder {path} cannot be written: {error.strerror}; check its permissions") from error


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
            with contextlib.suppress(OSError, UsageError), locked(folder):  # another process may have taken it over
                if not holds_a_run(folder):
                    (folder / LOCK).unlink(missing_ok=True)
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


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
