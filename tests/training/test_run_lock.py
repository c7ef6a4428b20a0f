"""One process a run folder."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from dqn_cli.core.errors import UsageError
from dqn_cli.training.run_lock import LOCK, locked


def test_the_second_is_refused_and_the_third_is_not(tmp_path):
    with locked(tmp_path):
        with (
            pytest.raises(UsageError, match=rf"in use by another process \(process {os.getpid()} on "),
            locked(tmp_path),
        ):
            pass
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()}")
    with locked(tmp_path):
        pass


def test_it_is_free_after_a_failure(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="cannot be written: No such file"), locked(tmp_path / "nothing"):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path), locked(tmp_path):
        pass


def test_a_full_disk_does_not_matter(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with locked(tmp_path), pytest.raises(UsageError, match="by another process;"), locked(tmp_path):
        pass
