"""A checkpoint that is missing, foreign, damaged or hostile: one line, exit code 2, nothing of it is executed."""

from __future__ import annotations

import os
import sys

import pytest

from tests.bad_checkpoints import BAD, MISFITS, victim
from tests.small_runs import SMALL, cartpole_run

ALL = BAD | MISFITS
OF_THE_CONFIG = ("wrong config", "more layers than anyone has", "a layer of any width", "words for a terminal")
LEAKS = ("Traceback", "KeyError", "internal error", "Unpickling")


def assert_refused(result, *words: str, lines: int = 1) -> None:
    assert result.code == 2, result
    assert result.out == ""
    assert len(result.err.splitlines()) == lines, result.err
    assert not any(leak in result.err for leak in LEAKS), result.err
    assert all(word in result.err for word in words), result.err


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module on the Python path that creates a file when it is imported."""
    (tmp_path / "dqn_trap.py").write_text("from pathlib import Path\nPath(__file__).with_name('hacked').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("dqn_trap", None)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("trap")
def test_eval_refuses_it(dqn, tmp_path, name):
    write, word = ALL[name]
    bad = tmp_path / "bad.pt"
    write(bad, cartpole_run() / "checkpoint.pt")
    lines = 2 if name in OF_THE_CONFIG else 1
    assert_refused(dqn("eval", bad), "bad.pt" if name != "no such environment" else "", word, lines=lines)
    assert not victim(bad).exists()


@pytest.mark.parametrize(
    "name", ["text", "truncated", "hostile", "state dict", "fewer weights", "weights that are no numbers"]
)
def test_train_init_refuses_it(dqn, tmp_path, name):
    write, word = ALL[name]
    bad = tmp_path / "bad.pt"
    write(bad, cartpole_run() / "checkpoint.pt")
    folder = tmp_path / "run"
    assert_refused(dqn("train", "cartpole", *SMALL, "--init", bad, "--run-dir", folder, "--quiet"), "bad.pt", word)
    assert not victim(bad).exists()
    assert not folder.exists()


@pytest.mark.usefixtures("trap")
def test_a_trusted_module_is_imported(dqn, tmp_path):
    write, _ = ALL["a module to import"]
    write(tmp_path / "mine.pt", cartpole_run() / "checkpoint.pt")
    assert_refused(dqn("eval", tmp_path / "mine.pt", "--trust"), "dqn_trap:Trap-v0", "there is no environment")
    assert victim(tmp_path / "mine.pt").exists()


def test_the_hostile_files_are_hostile(tmp_path):
    """The test of the tests: whoever unpickles them does create the file."""
    import pickle

    BAD["hostile pickle"][0](tmp_path / "bad.pt", tmp_path)
    with (tmp_path / "bad.pt").open("rb") as file:
        pickle.load(file).close()
    assert victim(tmp_path / "bad.pt").exists()


def test_missing(dqn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1\n")
    os.mkfifo(tmp_path / "pipe")
    assert_refused(dqn("eval", "missing.pt"), "missing.pt", "no such file", "run folder")
    assert_refused(dqn("eval", "empty"), "empty/checkpoint.pt", "run folder")
    assert_refused(dqn("eval", "run"), "run/checkpoint.pt", "has not saved")
    assert_refused(dqn("eval", "pipe"), "pipe", "no file")
    assert_refused(dqn("eval", "x" * 5000), "name too long")
    assert_refused(dqn("eval", "run/config.yaml/checkpoint.pt"), "no such file")
