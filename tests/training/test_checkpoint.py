"""Checkpoints: whole, safe to open, and never half written."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.config import load_config
from dqn_cli.core.errors import RunError, UsageError
from dqn_cli.hardware import Hardware
from dqn_cli.replay import segments as segments_module
from dqn_cli.replay.segments import ReplaySegments
from dqn_cli.schema import RunOptions
from dqn_cli.training import checkpoint_writer as checkpoint_module
from dqn_cli.training.checkpoint import read_checkpoint
from dqn_cli.training.checkpoint_writer import CheckpointWriter
from dqn_cli.training.generations import check_whole, newest_whole, read_manifest
from dqn_cli.training.loop import CheckpointDue, EvaluationDue
from tests.bad_checkpoints import BAD, victim
from tests.small_runs import SMALL, cartpole_run

CPU = Hardware(torch.device("cpu"), 1, "float32", "contiguous")
SHORT_MEMORY = "replay.capacity=120"  # old segments are soon of no use to anyone
DESCRIPTION: dict[str, Any] = {"name": "test", "config": {"seed": 3}, "versions": {"torch": "x"}}


def fresh(*overrides: str) -> Training:
    options = load_config("cartpole", [*SMALL, *overrides], RunOptions, presets_folder()).options
    return make_training(options, CPU, make_environments(options))


def state_of(training: Training) -> dict[str, Any]:
    return {
        "learner": training.learner.state_dict(),
        "explorer": training.actor.explorer.state_dict(),
        "replay": training.replay.state_dict(),
        "environments": training.environments.state_dict(),
        "loop": training.loop.state_dict(),
    }


def load_replay(folder: Path, training: Training, step: int) -> None:
    """Restores frames and items as they were at a checkpoint."""
    generation = read_manifest(folder / "checkpoints" / f"{step:09d}")
    check_whole(generation)
    ReplaySegments(folder / "replay").load(training.replay, generation.segments)


def writer_in(folder: Path, keep: int = 2) -> CheckpointWriter:
    return CheckpointWriter(folder, keep, lambda: DESCRIPTION)


def save(writer: CheckpointWriter, training: Training, step: int | None = None) -> Path:
    state = state_of(training)
    return writer.save(training.loop.step if step is None else step, state["learner"]["online"], state, training.replay)


@pytest.fixture
def training():
    """CartPole after its warm-up and some updates."""
    made = fresh()
    for event in made.loop.run():
        if isinstance(event, EvaluationDue):
            break
    yield made
    made.environments.close()


def assert_equal(found: Any, expected: Any, place: str = "state") -> None:
    """Compares nested states bit for bit."""
    assert type(found) is type(expected), place
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype, place
        assert torch.equal(found, expected), place
    elif isinstance(expected, dict):
        assert list(found) == list(expected), place
        for key, value in expected.items():
            assert_equal(found[key], value, f"{place}[{key!r}]")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), place
        for index, value in enumerate(expected):
            assert_equal(found[index], value, f"{place}[{index}]")
    else:
        assert found == expected, place


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) in (str, int) and plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return isinstance(value, torch.Tensor) or type(value) in (str, int, float, bool, type(None))


def test_what_is_saved_is_what_is_read(training, tmp_path):
    state = state_of(training)
    path = save(writer_in(tmp_path), training)
    assert path == tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    assert plain(content)
    assert content["versions"] == {"torch": "x"}
    for place in (path, tmp_path, tmp_path / "checkpoints" / f"{training.loop.step:09d}"):
        read = read_checkpoint(place)
        assert (read.name, read.config, read.step) == ("test", {"seed": 3}, training.loop.step)
        assert_equal(read.weights, state["learner"]["online"])
        assert_equal(read.training, state)
    generation = read_manifest(tmp_path / "checkpoints" / f"{training.loop.step:09d}")
    check_whole(generation)
    assert sorted(generation.segments) == sorted(file.name for file in (tmp_path / "replay").iterdir())
    assert path.samefile(generation.path)


def test_the_state_is_whole(training, tmp_path):
    """Fresh objects that take over the state do from then on what the saved ones do, bit for bit."""
    saved = read_checkpoint(save(writer_in(tmp_path), training)).training
    assert saved is not None
    twin = fresh()
    load_replay(tmp_path, twin, training.loop.step)
    twin.learner.load_state_dict(saved["learner"])
    twin.actor.explorer.load_state_dict(saved["explorer"])
    twin.replay.load_state_dict(saved["replay"])
    twin.environments.load_state_dict(saved["environments"])
    twin.loop.load_state_dict(saved["loop"])
    assert_equal(state_of(twin), state_of(training))
    rng = np.random.default_rng(0)
    for step in range(training.loop.step, training.loop.step + 80, 4):
        observation = rng.normal(size=(4, 1, 4)).astype(np.float32)
        assert twin.actor.act(observation, step).tolist() == training.actor.act(observation, step).tolist()
        for each in (training, twin):
            actions, ended = np.arange(4) % 2, np.arange(4) == step % 7
            restarted = observation + 1
            each.replay.append(actions, np.ones(4), ended, np.zeros(4, bool), observation, ended, restarted)
            batch = each.replay.sample(16, step)
            each.learner.update(batch, step)
        assert_equal(state_of(twin)["replay"], state_of(training)["replay"])
    assert_equal(state_of(twin)["learner"], state_of(training)["learner"])
    twin.environments.close()


def test_only_the_newest_are_kept(tmp_path):
    training, writer = fresh(SHORT_MEMORY), writer_in(tmp_path, keep=2)
    steps: list[int] = []
    for event in training.loop.run():
        if isinstance(event, CheckpointDue):
            save(writer, training)
            steps.append(event.step)
            kept = [f"{step:09d}" for step in steps[-2:]]
            assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == kept
            assert read_checkpoint(tmp_path).step == steps[-1]
            needed: set[str] = set()
            for name in kept:
                needed |= set(read_manifest(tmp_path / "checkpoints" / name).segments)
            assert {file.name for file in (tmp_path / "replay").iterdir()} == needed
    training.environments.close()
    assert len(steps) == 5
    assert not [name for name in needed if name.startswith("000000000001-")]
    everything = [file.name for file in tmp_path.rglob("*") if file.is_file()]
    assert not [name for name in everything if name.endswith(".tmp")]


def test_frames_between_two_checkpoints_take_no_more_room_than_the_ring(tmp_path, monkeypatch):
    """They stream out as they arrive; those that are overwritten before the next checkpoint go again."""
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES", 16 * 20)
    training, writer = fresh(SHORT_MEMORY), writer_in(tmp_path)
    most = 0
    for _ in training.loop.run():
        writer.stream(training.replay)
        folder = tmp_path / "replay"
        most = max(most, len(list(folder.iterdir())) if folder.exists() else 0)
    ring = training.replay.frames.capacity
    assert training.replay.frames.written > 2 * ring
    assert 2 < most <= ring // 20 + 2
    training.environments.close()


def test_each_kept_checkpoint_can_be_resumed(tmp_path):
    """The older generation too: its segments are still there."""
    training, writer = fresh(SHORT_MEMORY), writer_in(tmp_path, keep=2)
    replays = {}
    for event in training.loop.run():
        if isinstance(event, CheckpointDue):
            save(writer, training)
            replays[event.step] = training.replay.items.gather(
                np.arange(training.replay.items.tail, training.replay.items.head)
            )
    training.environments.close()
    for generation in (tmp_path / "checkpoints").iterdir():
        read = read_checkpoint(generation)
        assert read.training is not None
        twin = fresh(SHORT_MEMORY)
        load_replay(tmp_path, twin, read.step)
        twin.replay.load_state_dict(read.training["replay"])
        items = twin.replay.items.gather(np.arange(twin.replay.items.tail, twin.replay.items.head))
        expected = replays[read.step]
        for name in ("stack", "next_stack", "action", "reward", "discount"):
            assert np.array_equal(getattr(items, name), getattr(expected, name))
        twin.environments.close()


def test_the_best_is_weights_only_and_pins_nothing(training, tmp_path):
    writer = writer_in(tmp_path)
    path = writer.save_best(400, training.learner.online.state_dict())
    assert path == tmp_path / "best.pt"
    read = read_checkpoint(path)
    assert (read.step, read.training) == (400, None)
    assert_equal(read.weights, dict(training.learner.online.state_dict()))
    assert [file.name for file in tmp_path.iterdir()] == ["best.pt"]


def test_a_checkpoint_is_saved_again(training, tmp_path):
    writer = writer_in(tmp_path)
    save(writer, training, step=400)
    save(writer, training, step=400)
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["000000400"]
    assert read_checkpoint(tmp_path).training is not None


def test_where_there_are_no_hard_links(training, tmp_path, monkeypatch):
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = save(writer_in(tmp_path), training)
    generation = tmp_path / "checkpoints" / f"{training.loop.step:09d}" / "checkpoint.pt"
    assert not path.samefile(generation)
    assert path.read_bytes() == generation.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_everything_reaches_the_disk_before_it_gets_its_name(training, tmp_path, monkeypatch):
    """Each file is synced before its rename, and each folder that got a new name after it."""
    log: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def logged_fsync(descriptor: int) -> None:
        log.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def logged_replace(self: Path, target: Path) -> Path:
        log.append(("rename", str(target)))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(Path, "replace", logged_replace)
    save(writer_in(tmp_path), training)
    generation = tmp_path / "checkpoints" / f"{training.loop.step:09d}"
    (segment,) = (tmp_path / "replay").iterdir()
    events = [(kind, re.sub(r"/\.(.*)\.\d+\.tmp$", r"/\1", path)) for kind, path in log]
    pointed = events.index(("rename", str(tmp_path / "checkpoint.pt")))
    for path in (segment, generation / "checkpoint.pt"):
        synced, renamed = events.index(("sync", str(path))), events.index(("rename", str(path)))
        assert synced < renamed < events.index(("sync", str(path.parent)), renamed) < pointed
    assert ("sync", str(tmp_path / "checkpoints")) in events[:pointed]
    assert ("sync", str(tmp_path)) in events[:pointed]
    assert events[-1] == ("sync", str(tmp_path))


class Crashed(BaseException):
    """The machine went down."""


@pytest.mark.parametrize("renames", [0, 1, 2])  # the next would be that of the newest
def test_a_crash_at_any_rename_leaves_the_checkpoint_before(training, tmp_path, monkeypatch, renames):
    """Of a segment, of a checkpoint, of a manifest: what is there can be read, and is whole."""
    writer = writer_in(tmp_path)
    save(writer, training, step=400)
    observation = np.zeros((4, 1, 4), np.float32)
    none = np.zeros(4, bool)
    training.replay.append(np.zeros(4, np.int64), np.ones(4), none, none, observation, none, observation)
    left = [renames]
    replace = Path.replace

    def crash(self: Path, target: Path) -> Path:
        if not left[0]:
            raise Crashed
        left[0] -= 1
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(Crashed):
            save(writer, training, step=600)
    read = read_checkpoint(tmp_path)
    assert read.step == 400
    assert read.training is not None
    twin = fresh()
    load_replay(tmp_path, twin, 400)
    assert newest_whole(tmp_path, print) == read_manifest(tmp_path / "checkpoints/000000400")
    twin.replay.load_state_dict(read.training["replay"])
    twin.environments.close()


@pytest.mark.parametrize("failing", ["fsync", "mkdir", "link"])
def test_a_disk_that_fails(training, tmp_path, monkeypatch, failing):
    writer = writer_in(tmp_path)
    save(writer, training, step=400)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if failing == "fsync":
            patch.setattr(os, "fsync", full)
        elif failing == "mkdir":
            patch.setattr(Path, "mkdir", full)
        else:
            patch.setattr(Path, "hardlink_to", full)
            patch.setattr(checkpoint_module, "_copy", full)
        with pytest.raises(RunError, match=r"(?s)^(?!.*\n).*No space left on device.*untouched"):
            save(writer, training, step=600)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert read_checkpoint(tmp_path).step == 400
    assert not list(tmp_path.rglob("*.tmp"))
    if failing != "link":
        assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["000000400"]
    save(writer, training, step=600)
    assert read_checkpoint(tmp_path).step == 600


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file(tmp_path, name):
    write, words = BAD[name]
    bad = tmp_path / "bad.pt"
    write(bad, cartpole_run() / "checkpoint.pt")
    with pytest.raises(UsageError, match=re.escape(words)) as error:
        read_checkpoint(bad)
    assert "\n" not in str(error.value)
    assert "bad.pt" in str(error.value)
    assert not victim(bad).exists()


@pytest.mark.parametrize("place", range(8))
def test_a_truncated_file_at_any_length(tmp_path, place):
    data = (cartpole_run() / "checkpoint.pt").read_bytes()
    (tmp_path / "bad.pt").write_bytes(data[: len(data) * place // 8])
    with pytest.raises(UsageError, match="truncated"):
        read_checkpoint(tmp_path / "bad.pt")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    shutil.copyfile(cartpole_run() / "checkpoint.pt", tmp_path / "a.pt")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    with pytest.raises(UsageError, match=r"a\.pt cannot be read: Permission denied"):
        read_checkpoint(tmp_path / "a.pt")
