"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dqn_cli.core.errors import RunError


def write_durably(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes through a temporary file, fsync and rename: after a crash ``path`` is the old file or the new one.

    Raises:
        RunError: The disk is full, read-only, or fails otherwise; ``path`` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error}; the previous file is untouched") from error
    except BaseException:  # a second Ctrl-C
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Makes renames inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
