"""Bad input gets one clear line, exit code 2 and no traceback, and starts nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from dqn_cli import plan as plan_module
from dqn_cli import run as run_module
from tests.envs.hostile import env_id
from tests.small_runs import SMALL, small_plan

LEAKS = ("Traceback", "KeyError", "ValidationError", "pydantic", "RuntimeError", "internal error")


@pytest.fixture
def refused(dqn, tmp_path, monkeypatch):
    """Runs a command that must be refused, and returns the lines on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, lines: int = 1) -> list[str]:
        before = sorted(tmp_path.rglob("*"))
        result = dqn(*arguments)
        assert result.code == 2, result
        assert result.out == ""
        assert not any(leak in result.err for leak in LEAKS), result.err
        found: list[str] = result.err.splitlines()
        assert len(found) == lines, result.err
        assert found[0].startswith("error: ")
        assert sorted(tmp_path.rglob("*")) == before
        return found

    return run


def test_no_such_config(refused):
    (line,) = refused("train", "cartpol")
    assert "'cartpol'" in line
    assert "'cartpole'" in line


def test_no_such_file(refused):
    (line,) = refused("train", "missing.yaml")
    assert "'missing.yaml'" in line


def test_yaml_that_does_not_parse(refused, tmp_path):
    (tmp_path / "a.yaml").write_text("seed: 1\nenv: {id: CartPole-v1\n")
    (line,) = refused("train", "a.yaml")
    assert re.search(r"a\.yaml:3:1: ", line)


def test_all_problems_of_a_config_at_once(refused, tmp_path):
    (tmp_path / "a.yaml").write_text("sede: 1\nlearning:\n  gamma: 2\n  batch_size: many\n")
    count, *problems = refused("train", "a.yaml", lines=4)
    assert "3 problems" in count
    assert "a.yaml:1: unknown key 'sede'" in problems[0]
    assert "'seed'" in problems[0]
    assert "a.yaml:3: learning.gamma" in problems[1]
    assert "a.yaml:4: learning.batch_size" in problems[2]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("total_step=1", ["total_step", "total_steps"]),
        ("seed=one", ["seed", "one"]),
        ("learning.gamma=1.5", ["learning.gamma", "1.5"]),
        ("env=atary", ["env"]),
        ("learning.batch_size=200000", ["batch_size 200000", "capacity 100000"]),
        ("gamma", ["gamma", "="]),
    ],
)
def test_overrides(refused, override, words):
    text = " ".join(refused("train", "cartpole", override, lines=1 if override == "gamma" else 2))
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["env.id=CartPole-v7"], ["CartPole-v7", "CartPole-v1"]),
        (["env.id=CartPol-v1"], ["CartPol-v1", "CartPole-v1"]),
        (["env.id=nothing.here:Foo-v0"], ["nothing.here"]),
        (["env.id=ALE/Pong-v5"], ["Atari", "kind: atari"]),
        (["env.id=Pendulum-v1"], ["Pendulum-v1", "continuous", "DiscretizeAction"]),
        ([f"env.id={env_id('DictObs')}"], ["FlattenObservation"]),
        ([f"env.id={env_id('TextObs')}"], ["Text", "wrapper"]),
        (["env.kwargs.gravty=1"], ["gravty"]),
        (["network.torso={kind: cnn}"], ["cnn", "mlp"]),
        (["device=cuda:99"], ["cuda:99"]),
    ],
)
def test_environments_networks_and_devices(refused, arguments, words):
    for command in ("plan", "train"):
        (line,) = refused(command, "cartpole", *arguments)
        assert all(word in line for word in words), line


def test_a_game_that_is_not_there(refused):
    (line,) = refused("atari", "--game", "Pogn")
    assert "'Pogn'" in line
    assert "'Pong'" in line
    (line,) = refused("atari", "--game", "Pong", "--preset", "natur")
    assert "'atari/nature'" in line


def test_a_cnn_that_leaves_nothing(refused):
    (line,) = refused("plan", "atari/default", "env.screen=20")
    assert "20x20" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_cuda_without_cuda(refused):
    (line,) = refused("train", "cartpole", "--device", "cuda")
    assert "CUDA" in line
    assert "--device cpu" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "cartpole", "--device", "banana"],
        ["plan", "cartpole", "--device", "banana"],
        ["atari", "--game", "Pong", "--device", "banana"],
        ["eval", "x", "--device", "banana"],
    ],
)
def test_a_device_that_is_none(refused, arguments):
    (line,) = refused(*arguments)
    assert "banana" in line
    assert "cuda:N" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian", "train", "dqn --help"]),
        (["train"], ["CONFIG", "dqn train --help"]),
        (["atari"], ["--game", "dqn atari --help"]),
        (["config", "lst"], ["lst", "list", "dqn config --help"]),
        (["train", "cartpole", "--sede", "1"], ["--sede", "dqn train --help"]),
        (["train", "cartpole", "--seed", "-1"], ["--seed"]),
        (["train", "cartpole", "--seed", "one"], ["--seed"]),
        (["eval", "x", "--episodes", "0"], ["--episodes"]),
        (["eval", "x", "--episodes", "many"], ["--episodes"]),
        (["eval", "x", "--epsilon", "2"], ["--epsilon"]),
        (["eval", "x", "--epsilon", "nan"], ["--epsilon"]),
        (["eval", "x", "--seed", "-1"], ["--seed"]),
    ],
)
def test_command_lines(refused, arguments, words):
    (line,) = refused(*arguments)
    assert all(word in line for word in words), line


def test_nothing_asked_for_shows_the_help(dqn):
    result = dqn()
    assert (result.code, result.out) == (2, "")
    assert "train" in result.err
    assert result.err.startswith("Usage: dqn")


@pytest.fixture
def little_memory(monkeypatch):
    """2 GB are left, and nothing of a run may be made."""

    def made(*_: object) -> None:
        raise AssertionError("something was allocated")

    monkeypatch.setattr(plan_module, "available_memory", lambda: 2_000_000_000)
    monkeypatch.setattr(run_module, "make_training", made)
    monkeypatch.setattr(run_module, "make_environments", made)


def refusal_of_a_replay(result) -> tuple[str, int]:
    """Returns the line that refuses a replay, and the capacity that it says would fit."""
    assert result.code == 2
    line = result.err.splitlines()[-1]
    match = re.search(r"replay\.capacity=(\d+) fits", line)
    assert match is not None, line
    return line, int(match[1])


@pytest.mark.usefixtures("little_memory")
def test_a_replay_that_does_not_fit(dqn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = dqn("train", "atari/nature", "--quiet")
    line, fits = refusal_of_a_replay(result)
    assert "replay.capacity 1,000,000 needs 2.14 GB compressed" in line
    assert result.out == ""
    assert not list(tmp_path.rglob("*"))
    sizes = ["replay.warmup_steps=100"]
    assert dqn("plan", "atari/nature", f"replay.capacity={fits}", *sizes).code == 0
    assert dqn("plan", "atari/nature", f"replay.capacity={fits + 2_000}", *sizes).code == 2


def test_a_small_replay_that_fits_is_named_exactly(monkeypatch, dqn):
    monkeypatch.setattr(plan_module, "RESERVE_BYTES", 0)
    networks = 67_586 * 36
    for memory in (networks + 300_000, networks + 3_000_000, networks + 30_000_000):
        monkeypatch.setattr(plan_module, "available_memory", lambda: memory)  # noqa: B023 used in this turn
        _, fits = refusal_of_a_replay(dqn("plan", "cartpole", "replay.capacity=1e9"))
        sizes = ["replay.warmup_steps=10", "learning.batch_size=4"]
        assert dqn("plan", "cartpole", f"replay.capacity={fits}", *sizes).code == 0


def test_a_run_folder_that_exists(refused, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "config.yaml").write_text("seed: 1\n")
    (line,) = refused("train", "cartpole", "--run-dir", taken, "--quiet")
    assert str(taken) in line
    assert "--run-dir" in line


def test_a_run_folder_that_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/run", "file/a/run"):
        (line,) = refused("train", "cartpole", "--run-dir", tmp_path / folder, "--quiet")
        assert folder in line


def test_a_default_place_that_is_a_file(refused, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DQN_RUNS_DIR", str(tmp_path / "file"))
    (line,) = refused("train", "cartpole", "--quiet")
    assert str(tmp_path / "file") in line


def test_a_run_that_does_not_begin_leaves_no_folder(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("DQN_RUNS_DIR", str(tmp_path))
    refused("train", "cartpole", "--init", "missing.pt", "--quiet")
    refused("train", "cartpole", "--init", "missing.pt", "--quiet", "--run-dir", tmp_path / "mine")


def test_init_with_another_network(refused, tmp_path):
    run_module.train(small_plan(*SMALL, "total_steps=104"), "cartpole", tmp_path / "other", quiet=True)
    sizes = [*SMALL, "network.torso.hidden=[17]", "--run-dir", tmp_path / "new", "--quiet"]
    (line,) = refused("train", "cartpole", *sizes, "--init", tmp_path / "other")
    assert "[16, 4]" in line
    assert "[17, 4]" in line
    assert not Path(tmp_path / "new").exists()
