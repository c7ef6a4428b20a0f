"""One whole run: what it leaves in its folder, and what it does when it is stopped or cannot write."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from dqn_cli import keeper as keeper_module
from dqn_cli import run as run_module
from dqn_cli.agent.learner import Learner
from dqn_cli.cli.main import main
from dqn_cli.cli.options import presets_folder
from dqn_cli.config import load_config
from dqn_cli.core.errors import RunError, UsageError
from dqn_cli.evaluate import Evaluation, Evaluator
from dqn_cli.evaluation.episodes import PlayedEpisode
from dqn_cli.evaluation.protocol import EvaluationProtocol
from dqn_cli.evaluation.statistics import summarize
from dqn_cli.hardware import resolve_hardware
from dqn_cli.replay.segments import ReplaySegments
from dqn_cli.run import Outcome, recorded_options, train
from dqn_cli.schema import RunOptions
from dqn_cli.telemetry.jsonl import read_jsonl
from dqn_cli.training.checkpoint import read_checkpoint
from dqn_cli.training.checkpoint_writer import CheckpointWriter
from dqn_cli.training.generations import check_whole, read_manifest
from dqn_cli.training.run_logs import RunLogs
from tests.small_runs import PONG, SMALL, cartpole_run, signalling, small_plan

FILES = {
    ".lock",
    "actions.bin",
    "best.pt",
    "checkpoint.pt",
    "checkpoints",
    "config.yaml",
    "episodes.jsonl",
    "evaluations.jsonl",
    "events.out.tfevents.000001",
    "metrics.jsonl",
    "replay",
    "warnings.jsonl",
}


def records(folder: Path, name: str) -> list[dict[str, Any]]:
    return list(read_jsonl(folder / f"{name}.jsonl"))


def trained(folder: Path, *overrides: str, **options: Any) -> Outcome:
    return train(small_plan(*SMALL, *overrides), "cartpole", folder, quiet=True, **options)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path).weights


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_folder():
    run = cartpole_run()
    assert {file.name for file in run.iterdir()} == FILES
    assert sorted(folder.name for folder in (run / "checkpoints").iterdir()) == ["000000600", "000000800"]
    assert (run / "checkpoint.pt").samefile(read_manifest(run / "checkpoints/000000800").path)
    generations = [read_manifest(folder) for folder in (run / "checkpoints").iterdir()]
    for generation in generations:
        check_whole(generation)
        assert {file.name for file in generation.folder.iterdir()} == {"manifest.json", generation.checkpoint}
    needed = {name for generation in generations for name in generation.segments}
    assert {file.name for file in (run / "replay").iterdir()} == needed


def test_the_config_is_what_was_run():
    run = cartpole_run()
    plan = small_plan(*SMALL)
    expected = recorded_options(plan.options, plan.hardware)
    assert load_config(str(run / "config.yaml"), [], RunOptions, presets_folder()).options == expected
    assert (expected.device, expected.threads, expected.precision) == ("cpu", 1, "float32")
    assert expected.memory_format == "contiguous"
    read = read_checkpoint(run)
    assert RunOptions.model_validate(read.config) == expected
    assert (read.name, read.step) == ("cartpole", 800)
    comments = [line for line in (run / "config.yaml").read_text().splitlines() if line.startswith("#")]
    assert comments[0] == "# cartpole, resolved"
    assert any(line.startswith("# torch: ") for line in comments)


def test_metrics():
    metrics = records(cartpole_run(), "metrics")
    names = (
        "step frames updates episodes wall_seconds steps_per_second episode_return episode_length loss q_mean epsilon"
    )
    assert all(list(line) == names.split() for line in metrics)
    steps = [line["step"] for line in metrics]
    assert steps == sorted(set(steps))
    assert steps[-1] == 800
    last = metrics[-1]
    assert (last["frames"], last["updates"]) == (800, (800 - 100) // 16 * 8)
    assert last["epsilon"] == pytest.approx(0.04)
    assert metrics[0]["loss"] is None
    losses = [line["loss"] for line in metrics if line["loss"] is not None]
    assert losses
    assert all(loss > 0 for loss in losses)
    episodes = records(cartpole_run(), "episodes")
    assert last["episodes"] == len(episodes)
    # Each episode is in the mean of one line.
    before = 0
    for line in metrics:
        between = [episode for episode in episodes if before < episode["step"] <= line["step"]]
        mean = sum(episode["episode_return"] for episode in between) / len(between) if between else None
        assert line["episode_return"] == (None if mean is None else pytest.approx(mean))
        before = line["step"]


def test_every_episode_can_be_played_again():
    """The seed and the actions in the logs give the logged return, in a fresh environment."""
    run = cartpole_run()
    actions = np.fromfile(run / "actions.bin", dtype=np.uint8)
    episodes = records(run, "episodes")
    assert len(episodes) > 10
    env = gymnasium.make("CartPole-v1")
    for episode in episodes:
        assert episode["lineage_steps"] == 0  # CartPole is seeded at every episode
        env.reset(seed=episode["seed"])
        start = episode["actions_offset"]
        score, ended, terminated = 0.0, False, False
        for action in actions[start : start + episode["actions_bytes"]]:
            assert not ended
            _, reward, terminated, truncated, _ = env.step(int(action))
            score, ended = score + float(reward), terminated or truncated
        assert ended
        assert (score, terminated) == (episode["episode_return"], episode["terminated"])
        assert episode["episode_length"] == episode["episode_frames"] == episode["actions_bytes"]
    env.close()
    last = episodes[-1]
    assert len(actions) == last["actions_offset"] + last["actions_bytes"]
    assert len({episode["seed"] for episode in episodes}) == len(episodes)


def test_evaluations():
    evaluations = records(cartpole_run(), "evaluations")
    assert [line["step"] for line in evaluations] == [400, 800]
    for line in evaluations:
        assert {"return_mean", "return_ci95", "returns", "protocol", "wall_seconds", "frames"} <= set(line)
        assert len(line["returns"]) == line["episodes"] == 3
    assert evaluations[0]["protocol"] == evaluations[1]["protocol"]
    best = read_checkpoint(cartpole_run() / "best.pt")
    means = {line["step"]: line["return_mean"] for line in evaluations}
    assert means[best.step] == max(means.values())
    assert best.training is None


def test_tensorboard():
    (path,) = cartpole_run().glob("events.out.tfevents.*")
    curves: dict[str, list[int]] = {}
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            curves.setdefault(value.tag, []).append(event.step)
    training = ("updates", "episodes", "episode_return", "episode_length", "loss", "q_mean", "epsilon")
    evaluation = ("episodes", "return_mean", "return_std", "return_iqm", "return_median", "stalled")
    expected = {f"train/{name}" for name in training} | {f"eval/{name}" for name in evaluation}
    assert {tag.removesuffix("/text_summary") for tag in curves} == {
        *expected,
        "time/wall_seconds",
        "time/steps_per_second",
        "config",
    }
    assert curves["train/epsilon"] == [line["step"] for line in records(cartpole_run(), "metrics")]
    assert curves["eval/return_mean"] == [400, 800]


def test_the_log_offsets_are_those_of_the_checkpoint():
    run = cartpole_run()
    offsets = [read_checkpoint(run / "checkpoints" / name).training for name in ("000000600", "000000800")]
    assert None not in offsets
    for name in ("metrics", "episodes", "evaluations"):
        data = (run / f"{name}.jsonl").read_bytes()
        older, newest = (state["log_marks"][name] for state in offsets if state is not None)
        assert older <= newest == len(data)
        assert data[:older].endswith(b"\n") or older == 0
        steps = [json.loads(line)["step"] for line in data[:older].splitlines()]
        assert all(step <= 600 for step in steps)


def test_logs_reach_the_disk_before_a_checkpoint_remembers_them(tmp_path, monkeypatch):
    """After a power failure a log must not be shorter than a checkpoint says."""
    log = []
    flush, save = RunLogs.flush, CheckpointWriter.save

    def logged_flush(self: Any) -> None:
        log.append(("flush", self.marks()))
        flush(self)

    def logged_save(self: Any, step: int, weights: Any, training: Any, replay: Any) -> Path:
        log.append(("save", training["log_marks"]))
        return save(self, step, weights, training, replay)

    monkeypatch.setattr(RunLogs, "flush", logged_flush)
    monkeypatch.setattr(CheckpointWriter, "save", logged_save)
    trained(tmp_path / "run", "total_steps=404", "evaluation.every_steps=null")
    assert [kind for kind, _ in log] == ["flush", "save"] * 4
    assert all(log[index][1] == log[index + 1][1] for index in range(0, len(log), 2))


def test_the_last_checkpoint_is_behind_all_updates(tmp_path):
    """The updates that belong to the last steps come after them; a checkpoint is due at the same step."""
    overrides = ["total_steps=116", "checkpoint.every_steps=4", "evaluation.every_steps=4", "evaluation.episodes=1"]
    outcome = trained(tmp_path / "run", *overrides)
    read = read_checkpoint(tmp_path / "run")
    assert read.training is not None
    assert (read.step, read.training["learner"]["updates"], outcome.step) == (116, 8, 116)
    metrics = records(tmp_path / "run", "metrics")
    assert [line["step"] for line in metrics] == sorted({line["step"] for line in metrics})
    assert metrics[-1]["updates"] == 8
    assert metrics[-1]["loss"] is not None
    steps = [line["step"] for line in records(tmp_path / "run", "evaluations")]
    assert steps == list(range(4, 117, 4))


def test_two_runs_of_one_config_are_the_same(tmp_path):
    trained(tmp_path / "again")
    assert same(weights_of(tmp_path / "again"), weights_of(cartpole_run()))
    assert (tmp_path / "again/actions.bin").read_bytes() == (cartpole_run() / "actions.bin").read_bytes()
    trained(tmp_path / "other", "seed=1", "total_steps=200")
    assert not same(weights_of(tmp_path / "other"), weights_of(cartpole_run()))


def test_evaluations_and_checkpoints_do_not_perturb_a_run(tmp_path):
    trained(tmp_path / "alone", "evaluation.every_steps=null", "checkpoint.every_steps=10000")
    assert same(weights_of(tmp_path / "alone"), weights_of(cartpole_run()))
    assert not (tmp_path / "alone/best.pt").exists()
    assert (tmp_path / "alone/evaluations.jsonl").read_bytes() == b""


def test_the_best_is_the_first_of_the_best(tmp_path, monkeypatch):
    means = iter([1.0, 7.0, 5.0, 7.0])

    def scripted(self: Evaluator, *_: Any) -> Evaluation:
        score = next(means)
        protocol = EvaluationProtocol({}, "training evaluation", 1, 0.0, 0, 1, "float32", {})
        return Evaluation(protocol, (PlayedEpisode(0, score, 1, 1, True),), summarize([score]), None)

    monkeypatch.setattr(Evaluator, "evaluate", scripted)
    trained(tmp_path / "run", "evaluation.every_steps=200")
    assert [line["return_mean"] for line in records(tmp_path / "run", "evaluations")] == [1.0, 7.0, 5.0, 7.0]
    assert read_checkpoint(tmp_path / "run/best.pt").step == 400


def test_nothing_automatic_is_recorded():
    plan = small_plan()
    assert "auto" in (plan.options.device, plan.options.threads)
    recorded = recorded_options(plan.options, plan.hardware)
    found = {name: getattr(recorded, name) for name in ("device", "threads", "precision", "memory_format")}
    hardware = plan.hardware
    assert found == {
        "device": str(hardware.device),
        "threads": hardware.threads,
        "precision": hardware.precision,
        "memory_format": hardware.memory_format,
    }
    assert "auto" not in found.values()


def test_the_threads_of_emulators_are_recorded(monkeypatch):
    monkeypatch.setattr("dqn_cli.envs.atari.available_cores", lambda: 5)
    options = load_config("atari/default", ["env.num_envs=8"], RunOptions, presets_folder()).options
    assert recorded_options(options, resolve_hardware(options)).env.model_dump()["threads"] == 5
    few = load_config("atari/default", ["env.num_envs=3"], RunOptions, presets_folder()).options
    assert recorded_options(few, resolve_hardware(few)).env.model_dump()["threads"] == 3


def test_no_best_where_none_is_wanted(tmp_path):
    trained(tmp_path / "run", "total_steps=400", "checkpoint.keep_best=false", "checkpoint.keep=1")
    assert not (tmp_path / "run/best.pt").exists()
    assert [folder.name for folder in (tmp_path / "run/checkpoints").iterdir()] == ["000000400"]


def test_init(tmp_path):
    """Both networks begin with the given weights."""
    never = ["total_steps=104", "replay.warmup_steps=103"]
    trained(tmp_path / "new", *never, init=cartpole_run())
    state = read_checkpoint(tmp_path / "new").training
    assert state is not None
    assert state["learner"]["updates"] == 0
    assert f"# init: {cartpole_run() / 'checkpoint.pt'}, step 800\n" in (tmp_path / "new/config.yaml").read_text()
    for network in ("online", "target"):
        assert same(state["learner"][network], weights_of(cartpole_run()))


def test_a_goal_ends_a_run(tmp_path):
    outcome = trained(tmp_path / "run", "stop={return_mean: 1, window: 2}")
    assert (outcome.reason, outcome.exit_code) == ("goal reached", 0)
    assert read_checkpoint(tmp_path / "run").step == outcome.step < 800
    assert records(tmp_path / "run", "evaluations")[-1]["step"] == outcome.step
    assert "goal reached" in outcome.text()


def test_a_folder_that_is_taken(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="exists already"):
        trained(tmp_path)


def test_the_outcome_for_people(tmp_path):
    folder = tmp_path / "a run"
    text = trained(folder, "total_steps=104", "evaluation.every_steps=100").text()
    for words in ("all steps done", "over 3 evaluation episodes", f"dqn eval '{folder}'", "checkpoint.pt, step 104"):
        assert words in text
    assert "at step 104" in text


@pytest.fixture(autouse=True)
def _interruptible():
    """Whoever started the tests may ignore SIGINT, as a shell does for its background jobs."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_ends(tmp_path, monkeypatch, number, code):
    signalling(monkeypatch, {333}, number=number)
    outcome = trained(tmp_path / "run", "checkpoint.every_steps=10000", "evaluation.every_steps=100")
    assert (outcome.exit_code, outcome.reason) == (code, "stopped")
    # The signal may come in a training or in an evaluation episode: the vector step in hand is finished.
    read = read_checkpoint(tmp_path / "run")
    assert 100 <= read.step == outcome.step < 400
    assert read.training is not None
    assert records(tmp_path / "run", "metrics")[-1]["step"] == read.step
    evaluated = [line["step"] for line in records(tmp_path / "run", "evaluations")]
    assert evaluated == [100, 200, 300][: len(evaluated)]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_in_an_evaluation_ends_it(tmp_path, monkeypatch):
    """The first evaluation begins after 100 steps of training and is given up."""
    signalling(monkeypatch, {103})
    outcome = trained(tmp_path / "run", "evaluation.every_steps=100")
    assert (outcome.exit_code, outcome.step, outcome.evaluation) == (130, 100, None)
    assert records(tmp_path / "run", "evaluations") == []
    read = read_checkpoint(tmp_path / "run")
    assert read.step == 100
    assert read.training is not None
    assert read.training["keeper"]["interrupted"] == 100  # a resumed run begins with it


def test_a_run_that_goes_on_has_no_report_where_it_was_stopped(tmp_path, monkeypatch):
    """What the checkpoint remembers of the logs is what an unstopped run would have written until then."""
    signalling(monkeypatch, {333})
    folder = tmp_path / "run"
    # A report every 50 steps: the run is stopped between two of them.
    outcome = trained(folder, "total_steps=10_000", "checkpoint.every_steps=10000", "evaluation.every_steps=null")
    assert outcome.step % 50
    assert records(folder, "metrics")[-1]["step"] == outcome.step
    training = read_checkpoint(folder).training
    assert training is not None
    kept = (folder / "metrics.jsonl").read_bytes()[: training["log_marks"]["metrics"]]
    steps = [json.loads(line)["step"] for line in kept.splitlines()]
    assert [step // 50 for step in steps] == list(range(1, outcome.step // 50 + 1))
    # And what the next report will be made of is there: the episodes since the last one.
    keeper = training["keeper"]
    since = [e for e in records(folder, "episodes") if e["step"] > keeper["reported_step"]]
    assert keeper["episodes"] == [[e["episode_return"], e["episode_length"]] for e in since]


def test_the_last_checkpoint_knows_the_last_evaluation(tmp_path):
    """A checkpoint is due at the last step, before the evaluation that ends a run."""
    trained(tmp_path / "run", "total_steps=404", "checkpoint.every_steps=4", "evaluation.every_steps=1000")
    (evaluation,) = records(tmp_path / "run", "evaluations")
    training = read_checkpoint(tmp_path / "run").training
    assert training is not None
    assert evaluation["step"] == training["keeper"]["evaluated_step"] == 404
    assert training["keeper"]["best"] == evaluation["return_mean"]
    assert training["log_marks"]["evaluations"] == (tmp_path / "run/evaluations.jsonl").stat().st_size


def test_the_state_of_the_keeper_is_whole(tmp_path, monkeypatch):
    """A fresh keeper that takes over the saved state has the same state, the clock apart."""
    keepers = []

    def kept(*arguments: Any) -> Any:
        keepers.append(keeper_module.RunKeeper(*arguments))
        return keepers[-1]

    monkeypatch.setattr(run_module, "RunKeeper", kept)
    trained(tmp_path / "one")
    trained(tmp_path / "two", "total_steps=104", "seed=1")
    set_by_hand = {"finished": "x", "interrupted": 7, "episodes": [[1.0, 2], [3.0, 4]], "seconds": 5_000.0}
    saved = keepers[0].state_dict() | set_by_hand
    other = keepers[1].state_dict()
    assert all(saved[name] != other[name] for name in saved)
    keepers[1].load_state_dict(saved)
    restored = keepers[1].state_dict()
    for clock in ("seconds", "seconds_since_report"):
        assert restored.pop(clock) == pytest.approx(saved.pop(clock), abs=1.0)
    assert restored == saved


@pytest.mark.parametrize("broken", ["evaluation", "nothing"])
def test_the_last_state_is_saved_before_the_last_evaluation(tmp_path, monkeypatch, broken):
    saves = []
    save = CheckpointWriter.save

    def counted(self: Any, step: int, *arguments: Any) -> Path:
        saves.append(step)
        return save(self, step, *arguments)

    def failing(*_: Any) -> None:
        raise RunError("boom")

    monkeypatch.setattr(CheckpointWriter, "save", counted)
    if broken == "evaluation":
        monkeypatch.setattr(Evaluator, "evaluate", failing)
    folder, every = tmp_path / "run", "checkpoint.every_steps=10000"
    if broken == "evaluation":
        with pytest.raises(RunError, match="boom"):
            trained(folder, "total_steps=204", every, "evaluation.every_steps=10000")
        assert saves == [0, 204, 204]  # and again, with the evaluation that is still to be done
        assert read_checkpoint(folder).step == 204
        return
    trained(folder, "total_steps=204", every, "evaluation.every_steps=10000")
    assert saves == [0, 204, 204]  # and again with the score
    trained(tmp_path / "due", "total_steps=200", every, "evaluation.every_steps=200")
    assert saves[3:] == [0, 200]  # the evaluation was due with the last step: there is nothing to add


def test_once_training_has_begun_nothing_is_wrong_with_the_usage(tmp_path, monkeypatch):
    """Exit code 2 means that nothing was started."""

    def failing(*_: Any) -> None:
        raise UsageError("boom")

    monkeypatch.setattr(Learner, "update", failing)
    with pytest.raises(RunError, match=r"^boom; the run is saved up to step 0; go on: dqn resume [^;]*$"):
        trained(tmp_path / "run")


def test_an_evaluation_that_fails_is_left_to_who_goes_on(tmp_path, monkeypatch):
    """Training is whole: it is saved, with the evaluation still to be done."""

    def failing(*_: Any) -> None:
        raise UsageError("boom")

    monkeypatch.setattr(Evaluator, "evaluate", failing)
    folder = tmp_path / "run"
    where = "in the evaluation at step 1,000, which has environments and episodes of its own: boom; "
    with pytest.raises(RunError) as error:
        trained(folder, "total_steps=1_200", "checkpoint.every_steps=10000", "evaluation.every_steps=1_000")
    assert str(error.value) == f"{where}the run is saved up to step 1,000; go on: dqn resume {folder}"
    training = read_checkpoint(folder).training
    assert training is not None
    assert training["loop"]["step"] == training["keeper"]["interrupted"] == 1_000
    assert training["keeper"]["evaluated_step"] == -1


def test_a_signal_while_the_run_is_put_together(tmp_path, monkeypatch):
    keeper = keeper_module.RunKeeper

    def signalled(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return keeper(*arguments)

    monkeypatch.setattr(run_module, "RunKeeper", signalled)
    outcome = trained(tmp_path / "run")
    assert outcome.exit_code == 143
    assert outcome.step in (-1, 0)  # it may be interrupted at once, and may be too quick for that


def test_a_second_interrupt_ends_at_once(tmp_path, monkeypatch, capfd):
    save = CheckpointWriter.save

    def interrupted(self: Any, step: int, *arguments: Any) -> Path:
        if step > 200:
            signal.raise_signal(signal.SIGINT)
        return save(self, step, *arguments)

    signalling(monkeypatch, {333})
    monkeypatch.setattr(CheckpointWriter, "save", interrupted)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        main(["train", "cartpole", *SMALL, "--run-dir", str(folder)])
    out, err = capfd.readouterr()
    assert (end.value.code, out) == (130, "")
    assert "Ctrl-C again" in err
    saved = f"stopped at once; what was saved before is in {folder}; go on: dqn resume {folder}"
    assert err.splitlines()[-1] == saved
    assert "Traceback" not in err
    assert read_checkpoint(folder).step == 200


PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from dqn_cli.cli.main import script
script()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_told_to_stop(tmp_path, number, code):
    """From outside: exit code, the last lines, a checkpoint that loads, data on stdout and the rest on stderr."""
    folder = tmp_path / "run"
    arguments = ["train", "cartpole", *SMALL, "total_steps=100_000_000", "evaluation.every_steps=null"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments, "checkpoint.every_steps=1e9", "--run-dir", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step "):  # it is running
                break
        process.send_signal(number)
        out, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == code
    assert out == f"{folder}\n"
    assert "stopping" in err
    assert "stopped" in err
    assert any("run folder" in line and str(folder) in line for line in err.splitlines()[-5:])
    assert err.splitlines()[-1].split() == ["go", "on", "dqn", "resume", str(folder)]
    assert "Traceback" not in err
    read = read_checkpoint(folder)
    assert f"checkpoint.pt, step {read.step:,}" in err


def failing_after(monkeypatch: pytest.MonkeyPatch, step: int, fail: Callable[[Any], None]) -> None:
    """Does something to the run before its checkpoint at ``step`` is written."""
    save = CheckpointWriter.save

    def failed(self: Any, at: int, *arguments: Any) -> Path:
        if at == step:
            fail(self)
        return save(self, at, *arguments)

    monkeypatch.setattr(CheckpointWriter, "save", failed)


def assert_one_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Runs CartPole into a failure, and returns what stderr says."""
    with pytest.raises(SystemExit) as end:
        main(["train", "cartpole", *SMALL, "--run-dir", str(folder), "--quiet"])
    out, err = capfd.readouterr()
    assert (end.value.code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert "internal error" not in line
    return line


@pytest.mark.parametrize("full_before", ["segment", "checkpoint"])
def test_a_disk_that_is_full(tmp_path, monkeypatch, full_before):
    """The kernel refuses to write more than 2 kB into a file: segments and checkpoints are larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(*_: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))

    if full_before == "segment":
        failing_after(monkeypatch, 400, fill)
    else:
        save_segments = ReplaySegments.save

        def saved(self: Any, replay: Any) -> Any:
            written = save_segments(self, replay)
            if len(written) == 3:
                fill()
            return written

        monkeypatch.setattr(ReplaySegments, "save", saved)
    folder = tmp_path / "run"
    try:
        with pytest.raises(RunError, match=r"(?s)^(?!.*\n)cannot write .*untouched") as error:
            trained(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert full_before in str(error.value)
    assert read_checkpoint(folder).step == 200
    assert sorted(generation.name for generation in (folder / "checkpoints").iterdir()) == ["000000000", "000000200"]
    assert not list(folder.rglob("*.tmp"))


def test_a_run_folder_that_was_deleted(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "run"
    failing_after(monkeypatch, 400, lambda _: shutil.rmtree(folder))
    assert str(folder) in assert_one_line(folder, capfd)


def test_a_run_folder_that_became_read_only(tmp_path, monkeypatch, capfd):
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    failing_after(monkeypatch, 400, lambda _: monkeypatch.setattr(Path, "open", read_only))
    folder = tmp_path / "run"
    line = assert_one_line(folder, capfd)
    monkeypatch.undo()
    assert "Read-only file system" in line
    assert read_checkpoint(folder).step == 200


def test_a_failure_after_a_failure_does_not_hide_it(tmp_path, monkeypatch, capfd):
    """An environment fails, and then the disk is full."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    step: Any = CartPoleEnv.step
    taken = [0]

    def counted(self: Any, action: Any) -> Any:
        taken[0] += 1
        if taken[0] == 333:
            monkeypatch.setattr(Path, "replace", full)
            raise ValueError("boom")
        return step(self, action)

    monkeypatch.setattr(CartPoleEnv, "step", counted)
    line = assert_one_line(tmp_path / "run", capfd)
    monkeypatch.undo()
    assert "boom" in line
    assert "was not saved: cannot write" in line
    assert "No space left" in line
    assert line.count("go on: dqn resume") == 1


GROUP = """
import sys
import time
from dqn_cli.cli.main import script
script()
"""


def test_signals_to_the_whole_group(tmp_path):
    """Job schedulers signal workers and the helpers of multiprocessing too."""
    folder = tmp_path / "run"
    arguments = [*SMALL, "total_steps=100_000_000", "evaluation.every_steps=null", "checkpoint.every_steps=1e9"]
    process = subprocess.Popen(
        [sys.executable, "-c", GROUP, "train", "cartpole", *arguments, "env.vectorization=async", "env.num_envs=2",
         "--run-dir", folder],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step "):
                break
        for _ in range(3):
            saved = (folder / "checkpoint.pt").stat().st_mtime_ns
            os.killpg(process.pid, signal.SIGUSR1)
            while (folder / "checkpoint.pt").stat().st_mtime_ns == saved:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.01)
        os.killpg(process.pid, signal.SIGHUP)
        _, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 129
    for word in ("Traceback", "resource_tracker", "worker process", "leaked"):
        assert word not in err
    assert err.splitlines()[-1].split() == ["go", "on", "dqn", "resume", str(folder)]


def test_atari_scores_are_raw_and_of_whole_games(tmp_path):
    """The logged return is the sum of what the emulator paid, whatever is clipped for learning."""
    overrides = ["env.game=Qbert", "total_steps=900", "env.max_episode_frames=1_600", "env.terminal_on_life_loss=true"]
    plan = small_plan(*PONG, *overrides, "learning.update_every_steps=400", config="atari/default")
    assert plan.options.replay.reward_clip == 1.0
    train(plan, "qbert", tmp_path / "run", quiet=True)
    episodes = records(tmp_path / "run", "episodes")
    assert episodes
    assert max(episode["episode_return"] for episode in episodes) >= 25  # what Qbert pays for a cube
    assert all(episode["episode_frames"] <= 1_604 for episode in episodes)
    metrics = records(tmp_path / "run", "metrics")
    returns = [line["episode_return"] for line in metrics if line["episode_return"] is not None]
    assert max(returns) >= 25
    assert metrics[-1]["frames"] == metrics[-1]["step"] * 4
