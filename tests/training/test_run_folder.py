"""The folder of one run and the logs in it."""

from __future__ import annotations

import contextlib
import json
import os
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from dqn_cli.cli.options import presets_folder
from dqn_cli.config import load_config
from dqn_cli.core.errors import UsageError
from dqn_cli.envs.contract import EpisodeEnd
from dqn_cli.schema import RunOptions
from dqn_cli.telemetry.jsonl import read_jsonl
from dqn_cli.training import run_folder as run_folder_module
from dqn_cli.training.run_folder import (
    default_run_dir,
    make_run_dir,
    new_run_dir,
    provenance,
    write_config,
)
from dqn_cli.training.run_lock import locked
from dqn_cli.training.run_logs import RunLogs

NOON = datetime(2026, 3, 4, 12, 5, 6)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("DQN_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_default_folder(runs, monkeypatch):
    assert default_run_dir("cartpole", 7, NOON) == runs / "cartpole-s7-20260304-120506"
    for empty in ("", None):
        if empty is None:
            monkeypatch.delenv("DQN_RUNS_DIR")
        else:
            monkeypatch.setenv("DQN_RUNS_DIR", empty)
        assert default_run_dir("cartpole", 7, NOON) == Path("runs/cartpole-s7-20260304-120506")


def test_runs_of_the_same_second_have_folders_of_their_own(runs):
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(new_run_dir(None, "cartpole", 0, NOON)) for _ in range(3)]
    names = [folder.name for folder in folders]
    assert names == ["cartpole-s0-20260304-120506" + suffix for suffix in ("", "-2", "-3")]
    assert all(folder.is_dir() for folder in folders)


def test_a_chosen_folder(tmp_path):
    with new_run_dir(tmp_path / "a" / "b", "cartpole", 0, NOON) as folder:
        assert folder == tmp_path / "a" / "b"
        assert folder.is_dir()
        (folder / "config.yaml").touch()
    with pytest.raises(UsageError, match=r"a/b exists already"), new_run_dir(folder, "cartpole", 0, NOON):
        pass


def test_an_empty_folder_will_do(tmp_path):
    make_run_dir(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_goes_again_where_nothing_began(runs, tmp_path):
    def failing(chosen: Path | None) -> None:
        with new_run_dir(chosen, "cartpole", 0, NOON):
            raise ValueError("nothing")

    for chosen in (None, tmp_path / "mine"):
        with pytest.raises(ValueError, match="nothing"):
            failing(chosen)
    assert not (tmp_path / "mine").exists()
    assert list(runs.iterdir()) == []
    (tmp_path / "mine").mkdir()  # the user's own empty folder stays
    with pytest.raises(ValueError, match="nothing"):
        failing(tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()


def test_a_folder_stays_where_another_process_has_it(tmp_path):
    def failing() -> None:
        with new_run_dir(tmp_path / "run", "cartpole", 0, NOON) as folder:
            held.enter_context(locked(folder))
            raise ValueError("nothing")

    with ExitStack() as held, pytest.raises(ValueError, match="nothing"):
        failing()
    assert (tmp_path / "run" / ".lock").exists()


def test_a_folder_stays_where_something_was_written(runs):
    def failing() -> None:
        with new_run_dir(None, "cartpole", 0, NOON) as folder:
            (folder / "config.yaml").touch()
            raise ValueError("nothing")

    with pytest.raises(ValueError, match="nothing"):
        failing()
    (folder,) = runs.iterdir()
    assert (folder / "config.yaml").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place, words in (
        ("file", "exists already"),
        ("link", "exists already"),
        ("file/run", "cannot make"),
        ("file/a/run", "cannot make"),
        ("x" * 300, "File name too long"),
    ):
        with pytest.raises(UsageError, match=words):
            make_run_dir(tmp_path / place)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(UsageError, match="cannot be written"):
        make_run_dir(tmp_path)


def test_the_config_loads_again(tmp_path):
    options = load_config("atari/nature", ["env.game=MsPacman", "seed=3"], RunOptions, presets_folder()).options
    path = tmp_path / "config.yaml"
    write_config(path, options, "atari-nature", {"torch": "2.13.0", "git": "abc-dirty"})
    assert load_config(str(path), [], RunOptions, presets_folder()).options == options
    assert path.read_text().startswith("# atari-nature, resolved\n# torch: 2.13.0\n# git: abc-dirty\nseed: 3\n")


def test_provenance(monkeypatch):
    facts = provenance()
    assert {"dqn_cli", "python", "torch", "numpy", "gymnasium", "ale-py"} <= set(facts)
    assert all(isinstance(fact, str) and fact and fact.isprintable() for fact in facts.values())
    monkeypatch.setattr(run_folder_module, "PACKAGES", ("torch", "no-such-package"))
    assert "no-such-package" not in provenance()


@pytest.mark.parametrize(("status", "suffix"), [("", ""), (" M file", "-dirty")])
def test_provenance_of_a_checkout(monkeypatch, tmp_path, status, suffix):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(run_folder_module, "__file__", str(tmp_path / "dqn_cli" / "training" / "run_folder.py"))
    answers = {"rev-parse": "abc", "status": status}
    monkeypatch.setattr(run_folder_module, "_git", lambda folder, command, *_: answers[command])
    assert provenance()["git"] == "abc" + suffix
    monkeypatch.setattr(run_folder_module, "_git", lambda *_: None)
    assert "git" not in provenance()


def episode_end(actions: bytes) -> EpisodeEnd:
    return EpisodeEnd(
        env_index=1,
        episode=4,
        seed=99,
        lineage_steps=2,
        score=-3.5,
        length=len(actions),
        frames=len(actions) * 4,
        terminated=True,
        actions=actions,
    )


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns the curves of a run as TensorBoard reads them."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    curves.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return curves


def test_logs(tmp_path):
    logs = RunLogs(tmp_path, frames_per_step=4)
    metrics = {"updates": 3, "loss": None, "q_mean": 0.5, "wall_seconds": 1.25, "steps_per_second": 8.0}
    logs.metrics(10, metrics)
    logs.episode(11, episode_end(b"\0\1"))
    logs.episode(12, episode_end(b"\2\2\2"))
    logs.evaluation(20, {"wall_seconds": 2.0, "return_mean": 7.0, "returns": [6.0, 8.0], "human_normalized": None})
    logs.text("config", "seed: 1")
    logs.flush()
    logs.close()
    assert list(read_jsonl(tmp_path / "metrics.jsonl")) == [{"step": 10, "frames": 40} | metrics]
    first, second = read_jsonl(tmp_path / "episodes.jsonl")
    assert first == {
        "step": 11,
        "env": 1,
        "episode": 4,
        "episode_return": -3.5,
        "episode_length": 2,
        "episode_frames": 8,
        "terminated": True,
        "seed": 99,
        "lineage_steps": 2,
        "actions_offset": 0,
        "actions_bytes": 2,
    }
    assert (second["actions_offset"], second["actions_bytes"]) == (2, 3)
    assert (tmp_path / "actions.bin").read_bytes() == b"\0\1\2\2\2"
    (evaluation,) = read_jsonl(tmp_path / "evaluations.jsonl")
    assert (evaluation["step"], evaluation["frames"], evaluation["returns"]) == (20, 80, [6.0, 8.0])
    assert scalars(tmp_path) == {
        "train/updates": [(10, 3.0)],
        "train/q_mean": [(10, 0.5)],
        "time/wall_seconds": [(10, 1.25)],
        "time/steps_per_second": [(10, 8.0)],
        "eval/return_mean": [(20, 7.0)],
    }


def test_offsets_are_the_sizes_of_the_files(tmp_path):
    logs = RunLogs(tmp_path, 1)
    events, offset = logs.marks().pop("tensorboard")
    assert offset == (tmp_path / events).stat().st_size
    assert {size for name, size in logs.marks().items() if name != "tensorboard"} == {0}
    logs.metrics(1, {"loss": float("nan")})
    logs.episode(1, episode_end(b"\1"))
    logs.evaluation(1, {})
    logs.warning(1, "exploding_q", "too much")
    names = {"metrics": "metrics.jsonl", "episodes": "episodes.jsonl", "evaluations": "evaluations.jsonl"}
    names["warnings"] = "warnings.jsonl"
    for name, file in (names | {"actions": "actions.bin"}).items():
        assert logs.marks()[name] == (tmp_path / file).stat().st_size > 0
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] is None
    logs.close()
    logs.close()


def test_flush_reaches_the_disk(tmp_path, monkeypatch):
    logs = RunLogs(tmp_path, 1)
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
    )
    logs.flush()
    logs.close()
    names = {name.split(".0")[0] for name in synced}
    logs_of_json = {"metrics.jsonl", "episodes.jsonl", "evaluations.jsonl", "warnings.jsonl"}
    assert names == logs_of_json | {"actions.bin", "events.out.tfevents"}
