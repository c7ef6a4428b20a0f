"""``dqn atari`` is ``dqn train`` of an Atari preset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dqn_cli import run as run_module
from dqn_cli.core.errors import RunError
from tests.small_runs import PONG


@pytest.fixture
def started(dqn, monkeypatch, tmp_path):
    """Runs a command whose run does not start, and returns its plan, name and folder."""
    monkeypatch.setenv("DQN_RUNS_DIR", str(tmp_path))
    calls: list[tuple[Any, ...]] = []

    def train(*arguments: Any) -> None:
        calls.append(arguments)
        raise RunError("enough")

    monkeypatch.setattr(run_module, "train", train)

    def run(*arguments: str) -> tuple[Any, str, Path]:
        assert dqn(*arguments).err.endswith("error: enough\n")
        plan, name, folder = calls.pop()[:3]
        return plan, name, folder

    return run


@pytest.mark.parametrize(("game", "preset"), [("pong", "default"), ("Pong", "nature"), ("ALE/Pong-v5", "pong-cpu")])
def test_the_same_as_train(started, game, preset):
    shared = ["replay.capacity=30_000", "replay.warmup_steps=1000", "seed=2", "--device", "cpu"]
    short = [] if preset == "default" else ["--preset", preset]
    plan, name, folder = started("atari", "--game", game, *short, *shared)
    twin, twin_name, twin_folder = started("train", f"atari/{preset}", "env.game=Pong", *shared)
    assert plan == twin
    assert plan.options.env.game == "Pong"
    assert plan.options.seed == 2
    assert name == ("pong" if preset == "default" else f"pong-{preset}")
    assert folder.name.startswith(f"{name}-s2-")
    assert twin_name == f"atari-{preset}"
    assert twin_folder.name.startswith(f"atari-{preset}-s2-")


def test_names_of_two_words(started):
    plan, name, _ = started("atari", "--game", "MsPacman", "replay.capacity=30_000")
    assert (plan.options.env.game, name) == ("MsPacman", "ms_pacman")


def test_an_override_of_the_game_is_what_the_user_said_last(started):
    plan, _, _ = started("atari", "--game", "Pong", "env.game=Breakout", "replay.capacity=30_000")
    assert plan.options.env.game == "Breakout"


def test_a_small_real_run(dqn, tmp_path):
    folder = tmp_path / "run"
    result = dqn("atari", "--game", "pong", "--preset", "default", *PONG, "--run-dir", folder, "--quiet")
    assert result == (0, f"{folder}\n", "")
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["frames"]) == (300, 1_200)
    assert last["updates"] == (300 - 100) // 4
