"""Generations of a run: which files belong to a checkpoint, and whether they are what was written.

A manifest is the last file of a generation that is written: with its rename the generation is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dqn_cli.core.errors import UsageError
from dqn_cli.core.files import Fingerprint, fingerprint, sync_folder, write_durably

GENERATIONS = "checkpoints"
MANIFEST = "manifest.json"
SEGMENTS = "replay"

_FORMAT, _SCHEMA = "dqn_cli manifest", 1
_CHECKPOINTS = ("checkpoint.pt", "checkpoint-2.pt")
"""Names in turn, where one step is saved more than once: what was there stays until the manifest names the other."""

_SEGMENT_NAME = re.compile(r"\d{12}-\d{12}\.segment")
_MOST_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Generation:
    """One checkpoint with all that it needs.

    Attributes:
        folder: ``RUN/checkpoints/STEP``.
        step: Agent steps behind it.
        checkpoint: Name of the checkpoint file in ``folder``.
        written: Fingerprint of that file.
        segments: Names and fingerprints of the replay's segments.
    """

    folder: Path
    step: int
    checkpoint: str
    written: Fingerprint
    segments: Mapping[str, Fingerprint]

    @property
    def path(self) -> Path:
        """The checkpoint file."""
        return self.folder / self.checkpoint

    @property
    def run_dir(self) -> Path:
        """The run folder."""
        return self.folder.parent.parent


def generation_folder(run_dir: Path, step: int) -> Path:
    """Returns the folder of the generation at agent step ``step``."""
    return run_dir / GENERATIONS / f"{step:09d}"


def free_name(folder: Path) -> str:
    """Returns the name of a checkpoint file that the manifest in ``folder``, if there is one, does not name."""
    try:
        taken = read_manifest(folder).checkpoint
    except UsageError:
        taken = ""
    return next(name for name in _CHECKPOINTS if name != taken)


def write_manifest(generation: Generation) -> None:
    """Makes a generation whose other files are on the disk the one of its folder.

    Raises:
        RunError: The disk is full or fails otherwise; the generation that was there before is still whole.
    """
    content = {
        "format": _FORMAT,
        "schema": _SCHEMA,
        "step": generation.step,
        "checkpoint": {"name": generation.checkpoint, **asdict(generation.written)},
        "segments": {name: asdict(written) for name, written in generation.segments.items()},
    }
    text = json.dumps(content | {"seal": _seal(content)}, indent=1) + "\n"
    write_durably(generation.folder / MANIFEST, lambda file: file.write(text.encode()))
    for name in _CHECKPOINTS:
        if name != generation.checkpoint:
            (generation.folder / name).unlink(missing_ok=True)


def read_manifest(folder: Path) -> Generation:
    """Reads the manifest of a generation; its files are not looked at.

    Raises:
        UsageError: It is missing, damaged, or of a later version.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} is damaged: no manifest is as large")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, folder, error) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: it is no JSON") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UsageError(f"{path} is damaged: it is no manifest of dqn")
    if content.pop("seal", None) != _seal(content):
        raise UsageError(f"{path} is damaged: it is not what its seal was made for")
    schema = content.get("schema")
    if type(schema) is not int:
        raise UsageError(f"{path} is damaged: its 'schema' is no number")
    if schema != _SCHEMA:
        raise _NotDamagedError(
            f"{path} has schema {schema}, this version of dqn reads {_SCHEMA}: use the version that wrote it"
        )
    try:
        return _generation(folder, content)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is damaged: it does not say what a manifest says") from error


class _NotDamagedError(UsageError):
    """Nothing is known to be damaged: an older generation must not take the place of this one."""


def _unreadable(path: Path, folder: Path, error: OSError) -> UsageError:
    """Returns what to say of a file that cannot be read; only one that is not there is known to be lost."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return UsageError(f"{path} cannot be read: {error.strerror}")
    return _NotDamagedError(
        f"{path} cannot be read: {error.strerror}. Nothing was changed: try again when it can be, or delete {folder} "
        "to go on from the checkpoint before"
    )


def _generation(folder: Path, content: dict[str, Any]) -> Generation:
    step, checkpoint, segments = content["step"], content["checkpoint"], content["segments"]
    if type(step) is not int or folder.name != generation_folder(Path(), step).name:
        raise ValueError("the step is not that of the folder")
    if checkpoint["name"] not in _CHECKPOINTS or not all(map(_SEGMENT_NAME.fullmatch, segments)):
        raise ValueError("a name is none that dqn gives")
    written = {name: Fingerprint(int(entry["size"]), str(entry["sha256"])) for name, entry in segments.items()}
    own = Fingerprint(int(checkpoint["size"]), str(checkpoint["sha256"]))
    return Generation(folder, step, checkpoint["name"], own, written)


def check_whole(generation: Generation) -> None:
    """Compares every file of a generation with its fingerprint.

    Raises:
        UsageError: One is missing or not what was written.
    """
    files = {generation.path: generation.written}
    files |= {generation.run_dir / SEGMENTS / name: written for name, written in generation.segments.items()}
    for path, written in files.items():
        try:
            found = path.stat().st_size
            if found != written.size:
                raise UsageError(f"{path} is damaged: it has {found:,} bytes, {written.size:,} were written")
            if fingerprint(path) != written:
                raise UsageError(f"{path} is damaged: its content is not what was written")
        except OSError as error:
            raise _unreadable(path, generation.folder, error) from error


def newest_whole(run_dir: Path, tell: Callable[[str], None]) -> Generation | None:
    """Returns the newest generation of which every file is what was written; None where there is no generation.

    Args:
        run_dir: The run folder.
        tell: Is told of each damaged generation that is passed over.

    Raises:
        UsageError: There are generations, and all are damaged; or one is of a later version, or cannot be read though
            it is there.
    """
    folders = _folders(run_dir)
    damage = ""
    for folder in folders:
        try:
            generation = read_manifest(folder)
            check_whole(generation)
        except _NotDamagedError:
            raise
        except UsageError as failure:
            damage = damage or str(failure)
            tell(str(failure))
        else:
            if damage:
                tell(f"the checkpoint before is used: step {generation.step:,}")
            return generation
    if damage:
        raise UsageError(f"{run_dir} has no whole checkpoint left; the newest: {damage}")
    return None


def _folders(run_dir: Path) -> list[Path]:
    """Returns the folders of complete generations, newest first: one without a manifest was never finished."""
    try:
        found = [folder for folder in (run_dir / GENERATIONS).iterdir() if _is_generation(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"cannot read {run_dir / GENERATIONS}: {error.strerror}") from error
    return sorted((f for f in found if (f / MANIFEST).exists()), key=lambda folder: -int(folder.name))


def kept_generations(run_dir: Path, newest: Generation) -> list[Generation]:
    """Returns ``newest`` and those before it, oldest first, and deletes all others: half written, damaged, later."""
    kept = [newest]
    for folder in _folders(run_dir):
        if int(folder.name) < newest.step:
            with contextlib.suppress(UsageError):
                kept.insert(0, read_manifest(folder))
    for folder in (run_dir / GENERATIONS).iterdir():
        if _is_generation(folder) and all(folder != generation.folder for generation in kept):
            delete_generation(folder)
    return kept


def delete_generation(folder: Path) -> None:
    """Deletes a generation: its manifest first, so that what is left of it after a crash is none.

    One that somebody else has deleted already will do.
    """
    with contextlib.suppress(FileNotFoundError):
        (folder / MANIFEST).unlink(missing_ok=True)
        sync_folder(folder)
        shutil.rmtree(folder)


def _is_generation(path: Path) -> bool:
    """Returns whether a folder has the name of a generation; everything else there is somebody else's."""
    return re.fullmatch(r"\d{9,18}", path.name) is not None and path.is_dir()


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
