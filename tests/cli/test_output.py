"""Data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
import yaml

from dqn_cli.cli.options import presets_folder
from dqn_cli.config import list_presets, load_config
from dqn_cli.schema import RunOptions
from dqn_cli.training.checkpoint import read_checkpoint
from tests.small_runs import PONG, SMALL, cartpole_run


def document(text: str) -> Any:
    """Returns the one JSON document of ``text``, in which no number may be NaN or infinite."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_quiet_training_prints_the_run_folder_alone(dqn, tmp_path):
    result = dqn("train", "cartpole", *SMALL, "total_steps=120", "--quiet", "--run-dir", tmp_path / "run")
    assert result == (0, f"{tmp_path / 'run'}\n", "")


class Talkative(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Prints, as many environments do, from Python and from below."""

    def reset(self, **options: Any) -> Any:
        print("hello from python")
        os.write(1, b"hello from below\n")
        return self.env.reset(**options)


def test_what_environments_print_does_not_reach_stdout(dqn, tmp_path):
    talkative = f"env.wrappers=['{__name__}:Talkative']"
    folder = tmp_path / "run"
    result = dqn("train", "cartpole", *SMALL, talkative, "total_steps=120", "--quiet", "--run-dir", folder)
    assert (result.code, result.out) == (0, f"{folder}\n")
    greetings = {"hello from python", "hello from below"}
    assert set(result.err.splitlines()) == greetings
    result = dqn("eval", folder, "--episodes", "1", "--json", "--trust")
    assert document(result.out)["episodes"] == 1
    assert set(result.err.splitlines()) == greetings


def test_training_tells_its_story_on_stderr(dqn, tmp_path, monkeypatch):
    monkeypatch.setenv("DQN_RUNS_DIR", str(tmp_path))
    result = dqn("train", "cartpole", *SMALL, "total_steps=120", "--seed", "3")
    assert result.code == 0
    folder = Path(result.out.removesuffix("\n"))
    assert folder.parent == tmp_path
    assert folder.name.startswith("cartpole-s3-")
    assert (folder / "checkpoint.pt").is_file()
    for word in ("parameters", "transitions", "all steps done", "mean return", "dqn eval", str(folder), "step 120"):
        assert word in result.err, word


def test_plan(dqn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = dqn("plan", "cartpole", *SMALL, "--json", "--run-dir", "here")
    plan = document(result.out)
    assert (result.code, result.err) == (0, "")
    assert plan == {
        "environment": "CartPole-v1",
        "num_envs": 4,
        "total_steps": 800,
        "total_frames": 800,
        "parameters": 4 * 16 + 16 + 16 * 2 + 2,
        "network_bytes": 9 * 4 * (4 * 16 + 16 + 16 * 2 + 2),
        "replay_capacity": 500,
        "replay_bytes": plan["replay_bytes"],
        "replay_storage": "dense",
        "updates": (800 - 100) // 16 * 8,
        "target_copies": plan["target_copies"],
        "device": "cpu",
        "threads": 1,
        "emulator_threads": None,
        "precision": "float32",
        "memory_format": "contiguous",
        "gradients": "written out",
        "run_dir": "here",
    }
    text = dqn("plan", "cartpole", *SMALL, "--run-dir", "here").out
    assert "114 parameters" in text
    assert not list(tmp_path.iterdir())


def test_the_plan_is_kept(dqn):
    """What the plan says is what the run did."""
    plan = document(dqn("plan", "cartpole", *SMALL, "--json").out)
    training = read_checkpoint(cartpole_run()).training
    assert training is not None
    assert training["learner"]["updates"] == plan["updates"]
    assert training["loop"]["step"] == plan["total_steps"]


def test_eval(dqn):
    run = cartpole_run()
    result = dqn("eval", run, "--episodes", "6", "--json")
    score = document(result.out)
    assert (result.code, result.err) == (0, "")
    assert len(score["returns"]) == score["episodes"] == len(score["lengths"]) == 6
    assert score["returns"] == score["lengths"]  # CartPole pays 1 a step
    assert score["return_mean"] == pytest.approx(sum(score["returns"]) / 6)
    low, high = score["return_ci95"]
    assert low <= score["return_mean"] <= high
    for name in ("return_std", "return_iqm", "return_median"):
        assert math.isfinite(score[name])
    assert score["human_normalized"] is None
    assert score["stalled"] == 0
    assert (score["checkpoint"], score["checkpoint_step"]) == (str(run / "checkpoint.pt"), 800)
    protocol = score["protocol"]
    assert protocol["environment"]["id"] == "CartPole-v1"
    assert (protocol["episodes"], protocol["epsilon"], protocol["seed"]) == (6, 0.0, 0)
    assert protocol["max_episode_frames"] == 108_000
    text = dqn("eval", run, "--episodes", "6").out
    assert f"mean {score['return_mean']:.2f}" in text
    assert protocol["stamp"] in text


def test_eval_options_are_the_protocol(dqn):
    run = cartpole_run()

    def evaluated(*options: str) -> Any:
        return document(dqn("eval", run, "--episodes", "3", "--json", *options).out)

    base = evaluated()
    assert evaluated() == base
    other_seed, random = evaluated("--seed", "1"), evaluated("--epsilon", "1")
    assert other_seed["returns"] != base["returns"]
    assert random["returns"] != base["returns"]
    stamps = {score["protocol"]["stamp"] for score in (base, other_seed, random)}
    assert len(stamps) == 3


def test_eval_of_any_checkpoint_of_a_run(dqn, tmp_path):
    run = cartpole_run()
    newest = dqn("eval", run, "--episodes", "2", "--json")
    alone = tmp_path / "alone.pt"
    alone.write_bytes((run / "checkpoint.pt").read_bytes())
    score = document(dqn("eval", alone, "--episodes", "2", "--json").out)
    assert score["returns"] == document(newest.out)["returns"]
    for other in (run / "best.pt", run / "checkpoints" / "000000600", run / "checkpoints/000000600/checkpoint.pt"):
        assert dqn("eval", other, "--episodes", "2").code == 0


def test_eval_runs_where_the_training_machine_had_more(dqn, tmp_path):
    """A checkpoint remembers the training machine; evaluation takes the one at hand."""
    content = torch.load(cartpole_run() / "checkpoint.pt", weights_only=True)
    content["config"] |= {"device": "cuda:7", "threads": 96}
    torch.save(content, tmp_path / "a.pt")
    assert dqn("eval", tmp_path / "a.pt", "--episodes", "1", "--device", "cpu").code == 0
    assert torch.get_num_threads() == 1


def test_eval_of_an_atari_game(dqn, tmp_path):
    overrides = [*PONG, "total_steps=120", "replay.warmup_steps=50", "env.max_episode_frames=200"]
    trained = dqn("atari", "--game", "pong", *overrides, "--quiet", "--run-dir", tmp_path / "run")
    assert trained.code == 0, trained
    score = document(dqn("eval", tmp_path / "run", "--episodes", "2", "--json", "--device", "cpu").out)
    assert score["stalled"] == 2
    assert score["protocol"]["max_episode_frames"] == 200
    environment = score["protocol"]["environment"]
    assert (environment["game"], environment["sticky"], environment["fire_on_reset"]) == ("Pong", 0.25, True)
    assert score["human_normalized"] == pytest.approx((score["return_mean"] + 20.7) / (14.6 + 20.7))


def test_config_list(dqn):
    listed = document(dqn("config", "list", "--json").out)
    assert list(listed) == list_presets(presets_folder())
    assert all(listed.values())
    lines = dqn("config", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == list(listed)


def test_config_show_loads_again(dqn, tmp_path):
    shown = tmp_path / "shown.yaml"
    shown.write_text(dqn("config", "show", "atari/default", "env.game=ms_pacman", "seed=4").out)
    loaded = load_config(str(shown), [], RunOptions, presets_folder()).options
    direct = load_config("atari/default", ["env.game=MsPacman", "seed=4"], RunOptions, presets_folder()).options
    assert loaded == direct


def test_config_validate(dqn, tmp_path):
    assert dqn("config", "validate", "cartpole").code == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text("learning: {gamma: 2}\nsede: 1\n")
    result = dqn("config", "validate", bad)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 3


def test_config_schema(dqn):
    result = dqn("config", "schema")
    schema = document(result.out)
    assert (result.code, result.err) == (0, "")
    fields = set(schema["properties"])
    assert fields == {"extends", *RunOptions.model_fields}
    assert set(yaml.safe_load((presets_folder() / "cartpole.yaml").read_text())) <= fields


def test_version(dqn):
    result = dqn("--version")
    assert result.code == 0
    assert result.out.startswith("dqn ")
