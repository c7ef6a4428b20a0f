"""One process a run folder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dqn_cli.core.errors import UsageError

LOCK = ".lock"


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Holds a run folder while the block runs; a process that dies, however it dies, holds it no longer.

    Where the file system knows no locks nothing is held.

    Raises:
        UsageError: Another process holds it, or the folder cannot be written.
    """
    path = run_dir / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UsageError(f"run folder {run_dir} cannot be written: {error.strerror}; check its permissions") from error
    try:
        _lock(descriptor, run_dir)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, run_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return
        holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
        raise UsageError(
            f"run folder {run_dir} is in use by another process{f' ({holder})' if holder else ''}; wait until it has "
            "ended, or give another folder with --run-dir"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
    except OSError:  # a full disk; the lock holds without
        pass
