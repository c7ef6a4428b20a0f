"""A reader sees the old file or the new one, never half of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from dqn_cli.core.errors import RunError
from dqn_cli.core.files import write_durably


def writing(content: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(content)

    return write


def test_a_new_file_and_its_replacement(tmp_path):
    path = tmp_path / "state.bin"
    write_durably(path, writing(b"one"))
    assert path.read_bytes() == b"one"
    write_durably(path, writing(b"two"))
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), RuntimeError("enforce fail")])
def test_a_failure_half_way_leaves_the_old_file(tmp_path, failure):
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")

    def half(file):
        file.write(b"ne")
        raise failure

    with pytest.raises(RunError, match=r"state\.bin.*the previous file is untouched"):
        write_durably(path, half)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_not_visible_before_it_is_whole(tmp_path):
    path = tmp_path / "state.bin"

    def write(file):
        file.write(b"new")
        file.flush()
        assert not path.exists()

    write_durably(path, write)
    assert path.read_bytes() == b"new"


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(RunError, match=r"state\.bin"):
        write_durably(tmp_path / "missing" / "state.bin", writing(b""))


def test_a_file_system_that_became_read_only(tmp_path, monkeypatch):
    """There even the deletion of what is not there fails, and must not hide what failed before."""
    path = tmp_path / "file"

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(RunError, match=r"cannot write .*Read-only file system"):
        write_durably(path, writing(b"new"))
