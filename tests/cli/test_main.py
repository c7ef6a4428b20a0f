"""Failures that nobody foresaw, and readers that go away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import mkstemp
from types import SimpleNamespace

import pytest
import torch

from dqn_cli import plan as plan_module
from dqn_cli import run as run_module
from dqn_cli.cli import main as main_module
from dqn_cli.core.errors import RunError
from tests.small_runs import SMALL


def failing(error: BaseException):
    def fail(*_: object) -> None:
        raise error

    return fail


def test_an_unexpected_error_keeps_its_traceback(dqn, monkeypatch, tmp_path):
    def make(prefix: str, suffix: str) -> tuple[int, str]:
        return mkstemp(suffix, prefix, str(tmp_path))

    monkeypatch.setattr(main_module, "tempfile", SimpleNamespace(mkstemp=make))
    monkeypatch.setattr(plan_module, "make_plan", failing(ZeroDivisionError("of\nnothing")))
    result = dqn("plan", "cartpole")
    assert (result.code, result.out) == (1, "")
    (line,) = result.err.splitlines()
    assert "ZeroDivisionError: of nothing" in line
    match = re.search(r"report it with (\S+)$", line)
    assert match is not None
    kept = Path(match[1])
    assert kept.parent == tmp_path
    text = kept.read_text()
    assert "Traceback" in text
    assert "in failing" not in text
    assert "in fail" in text


def test_an_unexpected_error_where_nothing_can_be_kept(dqn, monkeypatch):
    def full(**_: str) -> tuple[int, str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(main_module, "tempfile", SimpleNamespace(mkstemp=full))
    monkeypatch.setattr(plan_module, "make_plan", failing(ZeroDivisionError()))
    result = dqn("plan", "cartpole")
    assert result.code == 1
    assert "DQN_DEBUG=1" in result.err
    assert len(result.err.splitlines()) == 1
    monkeypatch.setenv("DQN_DEBUG", "1")
    assert "Traceback" in dqn("plan", "cartpole").err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RunError("the disk is full"), ["the disk is full"]),
        (MemoryError(), ["out of memory", "replay.capacity"]),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), ["out of memory", "Tried", "learning.batch_size"]),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ["out of memory"]),
    ],
)
def test_failures_while_running(dqn, monkeypatch, tmp_path, error, words):
    monkeypatch.setattr(run_module, "train", failing(error))
    result = dqn("train", "cartpole", "--quiet", "--run-dir", tmp_path / "run")
    assert (result.code, result.out) == (1, "")
    (line,) = result.err.splitlines()
    assert all(word in line for word in words), line
    assert "internal error" not in line


def test_interrupted_before_it_can_save(dqn, monkeypatch, tmp_path):
    monkeypatch.setattr(run_module, "train", failing(KeyboardInterrupt()))
    result = dqn("train", "cartpole", *SMALL, "--quiet", "--run-dir", tmp_path / "run")
    assert result == (130, "", "stopped at once; nothing had begun\n")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(plan_module, "make_plan", failing(KeyboardInterrupt()))
    assert dqn("plan", "cartpole").code == 130


def test_a_reader_that_has_gone_is_no_error_to_tell():
    reading, writing = os.pipe()
    os.close(reading)
    program = "from dqn_cli.cli.main import main; main(['config', 'list', '--json'])"
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


EARLY = """
import os, signal
from dqn_cli.cli import main as module

def main():
    print("begun", flush=True)
    os.kill(os.getpid(), signal.{name})
    print("went on", flush=True)

signal.signal(signal.SIGHUP, signal.{before})
module.main = main
module.script()
"""


@pytest.mark.parametrize(
    ("name", "before", "code", "out", "err"),
    [
        ("SIGTERM", "SIG_DFL", 143, "begun\n", "stopped at once\n"),
        ("SIGHUP", "SIG_DFL", 129, "begun\n", "stopped at once\n"),
        ("SIGHUP", "SIG_IGN", 0, "begun\nwent on\n", ""),
        ("SIGUSR1", "SIG_DFL", 0, "begun\nwent on\n", ""),
    ],
)
def test_a_signal_before_a_run_listens(name, before, code, out, err):
    assert signal.Signals[name]
    done = subprocess.run(
        [sys.executable, "-c", EARLY.format(name=name, before=before)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)
