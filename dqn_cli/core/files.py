"""Writing files so that a reader never sees half of one, and knowing them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dqn_cli.core.errors import RunError


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file's content is known by.

    Attributes:
        size: Bytes.
        sha256: In hexadecimal.
    """

    size: int
    sha256: str


def fingerprint(path: Path) -> Fingerprint:
    """Returns the fingerprint of a file; raises ``OSError`` where it cannot be read."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Fingerprint(file.tell(), digest.hexdigest())


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> Fingerprint:
    """Writes through a temporary file, fsync and rename: after a crash ``path`` is the old file or the new one.

    Returns:
        The fingerprint of what was written, as it can be read back.

    Raises:
        RunError: The disk is full, read-only, or fails otherwise; ``path`` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        written = fingerprint(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        _discard(temporary)
        raise RunError(f"cannot write {path}: {error}; the previous file is untouched") from error
    except BaseException:  # a second Ctrl-C
        _discard(temporary)
        raise
    return written


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # a read-only file system; what failed before is the error to tell
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes the temporary files of writers that were killed; nobody else may be writing."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes renames inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
