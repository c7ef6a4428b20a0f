"""A run that goes on ends with the bytes of one that was never stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv

from dqn_cli.agent.learner import Learner
from dqn_cli.cli.main import main
from dqn_cli.cli.options import presets_folder
from dqn_cli.config import load_config
from dqn_cli.core.errors import DivergedError, UsageError
from dqn_cli.core.files import Fingerprint, fingerprint
from dqn_cli.evaluate import Evaluator
from dqn_cli.plan import Plan, make_plan
from dqn_cli.resume import differences as option_differences
from dqn_cli.resume import find_saved, resume
from dqn_cli.run import train
from dqn_cli.schema import RunOptions
from dqn_cli.telemetry.jsonl import read_jsonl
from dqn_cli.training import generations as generations_module
from dqn_cli.training import signals as signals_module
from dqn_cli.training.checkpoint import read_checkpoint
from dqn_cli.training.checkpoint_writer import CheckpointWriter
from tests.crash.compare import content, differences
from tests.envs.hostile import env_id
from tests.golden.make import RUNS
from tests.small_runs import PONG, SMALL, cartpole_run, signalling, small_plan

SAVED_AND_EVALUATED = ("checkpoint={every_steps: 300, keep: 9}", "evaluation.every_steps=450")


def notes() -> list[str]:
    return []


def back_to(run: Path, folder: Path, step: int) -> Path:
    """Returns a copy of a run that stands where it was when the checkpoint at ``step`` had been written."""
    shutil.copytree(run, folder)
    for generation in (folder / "checkpoints").iterdir():
        if int(generation.name) > step:
            shutil.rmtree(generation)
    assert [int(g.name) for g in (folder / "checkpoints").iterdir()].count(step) == 1
    return folder


def assert_same(one: Path, other: Path) -> None:
    assert differences(content(one), content(other)) == []


@pytest.mark.parametrize("name", RUNS)
def test_600_steps_are_300_and_300_more(name, tmp_path):
    """For each preset: networks, optimiser, replay, random streams, counters, schedules and logs."""
    preset, *overrides = RUNS[name]
    options = load_config(
        preset,
        [*overrides, "total_steps=600", "replay.warmup_steps=100", *SAVED_AND_EVALUATED],
        RunOptions,
        presets_folder(),
    ).options
    whole = tmp_path / "whole"
    train(make_plan(options), preset, whole, quiet=True)
    said = notes()
    steps = sorted(int(generation.name) for generation in (whole / "checkpoints").iterdir())
    begin = next(step for step in steps if step >= 300)
    assert 300 <= begin < 600
    half = back_to(whole, tmp_path / "half", begin)
    outcome = resume(half, said.append, quiet=True)
    assert (outcome.reason, outcome.exit_code) == ("all steps done", 0)
    assert said == []
    assert_same(whole, half)


def test_a_compressed_replay_whose_frames_leave_for_want_of_memory(tmp_path):
    """It goes on with the same items, which follow from how the frames pack; with room for all it is as a dense one."""
    overrides = (*PONG, "total_steps=900", "replay.capacity=900", "checkpoint={every_steps: 300, keep: 9}")
    runs = {
        name: small_plan(*overrides, f"replay.storage={storage}", *budget, config="atari/default")
        for name, storage, *budget in (
            ("dense", "dense"),
            ("ample", "compressed"),
            ("tight", "compressed", "replay.compressed_bytes=40_000"),
        )
    }
    for name, plan in runs.items():
        train(plan, "pong", tmp_path / name, quiet=True)
    weights = {name: read_checkpoint(tmp_path / name).weights for name in runs}
    same = {
        name: all(torch.equal(weights["dense"][key], found[key]) for key in found) for name, found in weights.items()
    }
    assert same == {"dense": True, "ample": True, "tight": False}
    half = back_to(tmp_path / "tight", tmp_path / "half", 300)
    resume(half, notes().append, quiet=True)
    assert_same(tmp_path / "tight", half)
    training = read_checkpoint(half).training
    assert training is not None
    assert 0 < training["replay"]["head"] - training["replay"]["tail"] < 700  # fewer than the capacity


def with_gpu(plan: Callable[[RunOptions], Plan]) -> Callable[[RunOptions], Plan]:
    """Plans as on a machine with a GPU, where the replay is to lie on it."""

    def planned(options: RunOptions) -> Plan:
        found = plan(options)
        on_gpu = replace(found.hardware, device=torch.device("cuda"))
        return replace(found, hardware=on_gpu) if options.replay.storage == "device" else found

    return planned


DEVICE_REPLAY = (*PONG, "total_steps=900", "replay.capacity=900", "checkpoint={every_steps: 300, keep: 9}")


def test_a_replay_on_the_device_is_as_a_dense_one(tmp_path):
    for storage in ("dense", "device"):
        plan = small_plan(*DEVICE_REPLAY, f"replay.storage={storage}", config="atari/default")
        train(plan, "pong", tmp_path / storage, quiet=True)
    dense, device = (read_checkpoint(tmp_path / name) for name in ("dense", "device"))
    assert all(torch.equal(dense.weights[key], device.weights[key]) for key in dense.weights)


@pytest.mark.parametrize("room", [True, False])
def test_a_replay_on_the_device_goes_on_anywhere(tmp_path, monkeypatch, room):
    """A machine without a GPU goes on with the same state, bit for bit; a GPU without room with dense frames."""
    overrides = (*DEVICE_REPLAY, "replay.sampler.kind=prioritized")
    plan = small_plan(*overrides, "replay.storage=device", config="atari/default")
    train(plan, "pong", tmp_path / "device", quiet=True)
    half = back_to(tmp_path / "device", tmp_path / "half", 300)
    if not room:
        monkeypatch.setattr("dqn_cli.resume.has_room", lambda _: False)
        monkeypatch.setattr("dqn_cli.resume.make_plan", with_gpu(make_plan))
    told = notes()
    resume(half, told.append, quiet=True)
    whole, resumed = (read_checkpoint(tmp_path / name) for name in ("device", "half"))
    assert resumed.config["replay"]["storage"] == ("device" if room else "dense")
    assert any("goes on in host memory" in text for text in told) is not room
    assert all(torch.equal(whole.weights[key], resumed.weights[key]) for key in whole.weights)
    priorities = [each.training["replay"]["sampler"]["priorities"] for each in (whole, resumed) if each.training]
    if room:
        assert torch.equal(*priorities)
    torch.testing.assert_close(*priorities)
    saved = find_saved(half, told.append)
    assert saved is not None
    assert option_differences(plan.options, saved) == []


def test_another_machine_may_have_other_threads(tmp_path, monkeypatch):
    monkeypatch.setattr("dqn_cli.envs.atari.available_cores", lambda: 2)
    plan = small_plan(*PONG, "total_steps=200", config="atari/default")
    train(plan, "pong", tmp_path / "run", quiet=True)
    saved = find_saved(tmp_path / "run", print)
    assert saved is not None
    monkeypatch.setattr("dqn_cli.envs.atari.available_cores", lambda: 1)
    assert option_differences(plan.options, saved) == []
    asked = small_plan(*PONG, "total_steps=200", "env.threads=7", config="atari/default")
    assert option_differences(asked.options, saved) == ["env.threads=7 (the run has 2)"]


def test_sigusr1_saves_and_changes_nothing(tmp_path, monkeypatch):
    saved: list[int] = []
    save = CheckpointWriter.save

    def recorded(self: Any, step: int, *arguments: Any) -> Path:
        saved.append(step)
        return save(self, step, *arguments)

    monkeypatch.setattr(CheckpointWriter, "save", recorded)
    steps = set(random.Random(0).sample(range(1, 900), 20))
    signalling(monkeypatch, steps, signal.SIGUSR1)
    outcome = train(small_plan(*SMALL), "cartpole", tmp_path / "run", quiet=True)
    assert outcome.exit_code == 0
    assert len(saved) >= 20
    assert_same(cartpole_run(), tmp_path / "run")


@pytest.mark.parametrize("seed", range(3))
def test_stopped_many_times(tmp_path, monkeypatch, seed):
    """By signals in steps of training and of evaluations, and before the first step."""
    folder, rng = tmp_path / "run", random.Random(seed)
    stops = 0
    while True:
        with monkeypatch.context() as patch:
            signalling(patch, {rng.randint(1, 400)}, signal.SIGTERM)
            if not folder.exists():
                outcome = train(small_plan(*SMALL), "cartpole", folder, quiet=True)
            else:
                outcome = resume(folder, notes().append, quiet=True)
        if outcome.exit_code == 0:
            break
        assert outcome.exit_code == 143
        assert outcome.text().splitlines()[-1].split() == ["go", "on", "dqn", "resume", str(folder)]
        stops += 1
    assert stops > 1
    assert_same(cartpole_run(), folder)


def test_stopped_in_a_burst_of_updates(tmp_path, monkeypatch):
    """The step that was sent counts as not taken; the updates that were made are not made again."""
    update, calls = Learner.update, [0]
    bursts = (*SMALL, "learning.updates=20")  # calls of eight, eight and four

    def signalled(self: Any, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 14:
            signal.raise_signal(signal.SIGTERM)
        return update(self, *arguments)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", signalled)
        outcome = train(small_plan(*bursts), "cartpole", folder, quiet=True)
    state = read_checkpoint(folder).training
    assert outcome.exit_code == 143
    assert state is not None
    assert state["learner"]["updates"] == 4 * 20 + 16
    assert state["loop"]["pending"] is not None
    resume(folder, notes().append, quiet=True)
    train(small_plan(*bursts), "cartpole", tmp_path / "straight", quiet=True)
    assert_same(tmp_path / "straight", folder)


def test_a_save_in_an_evaluation_repeats_it(tmp_path, monkeypatch):
    """SIGUSR1 while an evaluation runs, and then a kill: who goes on evaluates first."""
    evaluate = Evaluator.evaluate
    folder, copy = tmp_path / "run", tmp_path / "copy"

    def saving(self: Any, network: Any, stopped: Any) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        assert not stopped()
        if not copy.exists():
            shutil.copytree(folder, copy)
        return evaluate(self, network, stopped)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "evaluate", saving)
        train(small_plan(*SMALL), "cartpole", folder, quiet=True)
    state = read_checkpoint(copy).training
    assert state is not None
    assert state["keeper"]["interrupted"] == 400
    resume(copy, notes().append, quiet=True)
    assert_same(folder, copy)
    assert_same(cartpole_run(), folder)


def test_a_run_that_is_done(capfd):
    run = cartpole_run()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    for arguments in (["resume", str(run)], ["train", "cartpole", *SMALL, "--run-dir", str(run), "--resume"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        out, err = capfd.readouterr()
        assert (end.value.code, out) == (0, f"{run}\n")
        assert "all steps done, before this command" in err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"} == before


def test_a_run_that_was_killed_when_all_was_done(tmp_path):
    """Behind its last manifest, and before `checkpoint.pt` was the newest."""
    run = tmp_path / "run"
    shutil.copytree(cartpole_run(), run)
    (run / "checkpoint.pt").unlink()
    shutil.copyfile(run / "checkpoints/000000600/checkpoint.pt", run / "checkpoint.pt")
    (run / ".checkpoint.pt.77.tmp").touch()
    assert resume(run, notes().append).reason == "all steps done, before this command"
    assert_same(cartpole_run(), run)
    assert not list(run.glob(".*.tmp"))


def test_train_resume_starts_and_goes_on(tmp_path):
    run = tmp_path / "run"
    command = ["train", "cartpole", *SMALL, "--run-dir", str(run), "--resume", "--quiet"]
    for expected in (0, 0):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == expected
    assert_same(cartpole_run(), run)
    back = back_to(run, tmp_path / "back", 600)
    with pytest.raises(SystemExit) as end:
        main(["train", "cartpole", *SMALL, "--run-dir", str(back), "--resume", "--quiet"])
    assert end.value.code == 0
    assert_same(run, back)


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capfd.readouterr()
    assert (end.value.code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if not line.strip().startswith("note")]
    assert line.startswith("error: ")
    return line


def test_other_options_are_refused(capfd):
    run = cartpole_run()
    command = ["train", "cartpole", *SMALL, "learning.gamma=0.5", "seed=3", "--run-dir", str(run), "--resume"]
    line = refused(command, capfd)
    assert "learning.gamma=0.5 (the run has 0.99)" in line
    assert "seed=3 (the run has 0)" in line
    assert "threads" not in line


def test_resume_needs_a_folder(capfd):
    assert "--run-dir" in refused(["train", "cartpole", "--resume"], capfd)


def test_what_is_no_run(tmp_path, capfd):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "notes.txt", tmp_path / "empty"):
        assert str(path) in refused(["resume", str(path)], capfd)
    assert "'empty' in it" in refused(["train", "cartpole", "--run-dir", str(tmp_path), "--resume"], capfd)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "empty"}
    (tmp_path / "config.yaml").write_text("env: {}\n")
    (tmp_path / "notes.txt").unlink()
    (tmp_path / "empty").rmdir()
    assert "config.yaml" in refused(["train", "cartpole", "--run-dir", str(tmp_path), "--resume"], capfd)
    assert (tmp_path / "config.yaml").exists()


def test_a_run_that_was_killed_before_its_first_checkpoint(tmp_path, capfd):
    run = tmp_path / "run"
    shutil.copytree(cartpole_run(), run)
    shutil.rmtree(run / "checkpoints")
    for arguments in (["resume", str(run)], ["train", "cartpole", *SMALL, "--run-dir", str(run), "--resume"]):
        assert "checkpoint" in refused(arguments, capfd)
    assert (run / "metrics.jsonl").stat().st_size > 0  # there were checkpoints: nothing may be deleted
    for name in ("metrics", "episodes"):
        (run / f"{name}.jsonl").write_text("")
    with pytest.raises(SystemExit) as end:
        main(["train", "cartpole", *SMALL, "--run-dir", str(run), "--resume", "--quiet"])
    assert end.value.code == 0
    assert_same(cartpole_run(), run)


def damage(path: Path, way: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    if way == "torn":
        path.unlink()  # others may be hard links to it
        path.write_bytes(content[:middle])
    elif way == "flipped":
        path.unlink()
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.unlink()


@pytest.mark.parametrize("way", ["torn", "flipped", "missing"])
@pytest.mark.parametrize("what", ["checkpoint.pt", "manifest.json", "segment"])
def test_a_damaged_generation_is_named_and_the_one_before_used(tmp_path, way, what):
    run = tmp_path / "run"
    shutil.copytree(cartpole_run(), run)
    newest = run / "checkpoints" / "000000800"
    own = json.loads((newest / "manifest.json").read_text())
    older = json.loads((run / "checkpoints" / "000000600" / "manifest.json").read_text())
    if what == "segment":
        (name,) = set(own["segments"]) - set(older["segments"])
        path = run / "replay" / name
    else:
        path = newest / (own["checkpoint"]["name"] if what == "checkpoint.pt" else what)
    damage(path, way)
    said = notes()
    outcome = resume(run, said.append, quiet=True)
    assert outcome.reason == "all steps done"
    if (what, way) != ("manifest.json", "missing"):  # then it was never finished
        assert str(path) in said[0]
        assert "step 600" in said[1]
    assert_same(cartpole_run(), run)


def test_when_all_are_damaged(tmp_path, capfd):
    run = tmp_path / "run"
    shutil.copytree(cartpole_run(), run)
    for path in run.glob("checkpoints/*/manifest.json"):
        damage(path, "flipped")
    line = refused(["resume", str(run)], capfd)
    assert "no whole checkpoint" in line
    assert "manifest.json" in line


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no more"), RuntimeError("DefaultCPUAllocator: no more")])
@pytest.mark.parametrize(
    "place", ["dqn_cli.replay.items.ItemTable.restore", "dqn_cli.resume._load", "dqn_cli.core.loading.torch.load"]
)
def test_memory_that_runs_out_is_not_called_damage(tmp_path, monkeypatch, capfd, place, error):
    """Who reads that a run is damaged may delete it."""
    run = back_to(cartpole_run(), tmp_path / "run", 600)

    def exhausted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(place, exhausted)
    with pytest.raises(SystemExit) as end:
        main(["resume", str(run), "--quiet"])
    _, err = capfd.readouterr()
    assert end.value.code == 1
    assert "out of memory" in err
    assert "damaged" not in err


def test_a_log_that_was_cut(tmp_path):
    """It is told before anything is changed."""
    run = back_to(cartpole_run(), tmp_path / "run", 600)
    (run / "warnings.jsonl").write_text('{"step": 1}\n')  # beyond the checkpoint: it would be cut
    (run / "episodes.jsonl").write_text("")
    (run / ".lock").unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(SystemExit) as end:
        main(["resume", str(run)])
    assert end.value.code == 1
    after = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert {name: content for name, content in after.items() if name != ".lock"} == before


def test_events_that_were_deleted(tmp_path):
    """TensorBoard's files can be had again from the other logs: a run goes on without."""
    run = back_to(cartpole_run(), tmp_path / "run", 600)
    (events,) = run.glob("events.out.tfevents.*")
    events.unlink()
    said = notes()
    resume(run, said.append, quiet=True)
    assert [line for line in said if "TensorBoard" in line] == [
        "the TensorBoard events from before are gone: its curves begin here"
    ]
    assert (run / "metrics.jsonl").read_text().count("\n") == (cartpole_run() / "metrics.jsonl").read_text().count("\n")


def test_files_of_others_beside_a_run(tmp_path, capfd):
    run = back_to(cartpole_run(), tmp_path / "run", 600)
    (run / "slurm-123.out").write_text("mine")
    (run / "plots").mkdir()
    resume(run, notes().append, quiet=True)
    assert (run / "slurm-123.out").read_text() == "mine"
    assert (run / "plots").is_dir()
    for name in ("metrics", "episodes"):
        (run / f"{name}.jsonl").write_text("")
    shutil.rmtree(run / "checkpoints")
    again = ["train", "cartpole", *SMALL, "--run-dir", str(run), "--resume"]
    assert "'plots' in it was not written by dqn" in refused(again, capfd)  # to start again would delete them
    assert (run / "slurm-123.out").exists()


def test_a_checkpoint_that_cannot_be_read_today(tmp_path, monkeypatch, capfd):
    """Nothing says that it is damaged: to fall back would delete it."""
    run = back_to(cartpole_run(), tmp_path / "run", 800)

    def denied(path: Path) -> Fingerprint:
        if "000000800" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return fingerprint(path)

    monkeypatch.setattr(generations_module, "fingerprint", denied)
    line = refused(["resume", str(run)], capfd)
    assert "000000800" in line
    assert "Permission denied" in line
    assert "Nothing was changed" in line
    assert (run / "checkpoints" / "000000800" / "manifest.json").exists()


def test_an_environment_that_is_not_reproducible(tmp_path):
    """It is said, its windows are cut as truncated, and it begins a new episode; the run goes on to its end."""
    plan = small_plan(
        *SMALL, f"env.id={env_id('Counting')}", "replay.n_step=3", "replay.reward_clip=null", "checkpoint.keep=9"
    )
    run = tmp_path / "run"
    train(plan, "counting", run, quiet=True)
    half = back_to(run, tmp_path / "half", 400)
    said = notes()
    outcome = resume(half, said.append, quiet=True)
    assert outcome.reason == "all steps done"
    assert "environments 0, 1, 2, 3 are not reproducible" in said[0]
    (warning,) = read_jsonl(half / "warnings.jsonl")
    assert (warning["step"], warning["name"]) == (400, "not_reproducible")
    episodes = list(read_jsonl(half / "episodes.jsonl"))
    assert all(episode["episode_return"] == 15.0 for episode in episodes)
    numbers = [(episode["env"], episode["episode"]) for episode in episodes]
    assert len(set(numbers)) == len(numbers)


def test_two_processes_on_one_folder(tmp_path, capfd):
    program = "import sys, time\nfrom pathlib import Path\nfrom dqn_cli.training.run_lock import locked\n"
    program += "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
    run = tmp_path / "run"
    shutil.copytree(cartpole_run(), run)
    holder = subprocess.Popen([sys.executable, "-c", program, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for arguments in (["resume", str(run)], ["train", "cartpole", *SMALL, "--run-dir", str(run), "--resume"]):
            line = refused(arguments, capfd)
            assert "in use by another process" in line
            assert str(holder.pid) in line
    finally:
        holder.kill()
        holder.communicate()
    with pytest.raises(SystemExit) as end:
        main(["resume", str(run)])
    assert end.value.code == 0


@pytest.mark.parametrize("place", ["step", "reset", "evaluation"])
def test_a_wait_without_end_is_ended(tmp_path, monkeypatch, place):
    """An environment that hangs: the signal is noticed, the step counts as not taken, all is saved in time."""
    monkeypatch.setattr(signals_module, "GRACE_SECONDS", 0.2)
    method = "reset" if place == "reset" else "step"
    calls, original = [0], getattr(CartPoleEnv, method)
    begun: list[float] = []

    @wraps(original)
    def hanging(self: Any, *arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == {"step": 333, "reset": 20, "evaluation": 403}[place]:
            begun.append(time.monotonic())
            signal.raise_signal(signal.SIGTERM)
            time.sleep(60)
        return original(self, *arguments, **options)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(CartPoleEnv, method, hanging)
        outcome = train(small_plan(*SMALL), "cartpole", folder, quiet=True)
    assert outcome.exit_code == 143
    assert time.monotonic() - begun[0] < 5
    assert outcome.step == read_checkpoint(folder).step
    resume(folder, notes().append, quiet=True)
    assert_same(cartpole_run(), folder)


def test_what_diverges_stops_and_keeps_the_checkpoint_from_before(tmp_path, monkeypatch):
    update, count = Learner.update, [0]

    def poisoned(self: Any, *arguments: Any) -> Any:
        count[0] += 1
        if count[0] == 31:  # of about forty
            next(self.online.parameters()).data.fill_(float("nan"))
        return update(self, *arguments)

    monkeypatch.setattr(Learner, "update", poisoned)
    folder = tmp_path / "run"
    with pytest.raises(DivergedError, match=r"(?s)^(?!.*\n)training has diverged.*step \d+, from before"):
        train(small_plan(*SMALL), "cartpole", folder, quiet=True)
    read = read_checkpoint(folder)
    assert 0 < read.step < 800
    assert all(bool(torch.isfinite(weight).all()) for weight in read.weights.values())


def test_what_has_diverged_is_never_the_best(tmp_path, monkeypatch):
    update = Learner.update

    def poisoned(self: Any, *arguments: Any) -> Any:
        next(self.online.parameters()).data.fill_(float("nan"))
        return update(self, *arguments)

    monkeypatch.setattr(Learner, "update", poisoned)
    folder = tmp_path / "run"
    # Reports are rare in a long run: the evaluation comes first.
    overrides = ("evaluation.every_steps=120", "checkpoint.every_steps=100000", "total_steps=100000")
    with pytest.raises(DivergedError, match="no finite numbers"):
        train(small_plan(*SMALL, *overrides), "cartpole", folder, quiet=True)
    assert not (folder / "best.pt").exists()
    assert read_checkpoint(folder).step == 0


def test_weights_alone_are_no_run(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(cartpole_run(), run)
    fixture = Path(__file__).parent / "training/fixtures/schema-1.pt"
    generation = run / "checkpoints" / "000000800"
    manifest = json.loads((generation / "manifest.json").read_text())
    assert manifest["step"] == 800
    read = read_checkpoint(fixture)
    assert (read.step, read.training) == (400, None)
    with pytest.raises(UsageError, match="no run folder"):
        resume(fixture, notes().append)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_an_environment_that_hangs_in_a_worker(tmp_path, monkeypatch, vectorization):
    """The signal comes from outside while a step sleeps for an hour, in this process or in one of its own."""
    monkeypatch.setattr(signals_module, "GRACE_SECONDS", 0.2)
    overrides = [f"env.id={env_id('Faulty')}", "env.num_envs=2", f"env.vectorization={vectorization}"]
    overrides += ['env.kwargs={fault: hang, when: "step 20"}', "evaluation.every_steps=null"]
    folder = tmp_path / "run"

    def stop_when_it_runs() -> None:
        while not (folder / "checkpoints/000000000/manifest.json").exists():
            time.sleep(0.05)
        time.sleep(1.0)  # it hangs by now; where it does not yet, it is stopped before
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_it_runs, daemon=True).start()
    outcome = train(small_plan(*SMALL, *overrides), "hanging", folder, quiet=True)
    assert outcome.exit_code == 143
    assert outcome.step == read_checkpoint(folder).step < 100
