"""An environment that breaks ends a run with one line, a saved state, and what plays its episode again."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from dqn_cli.core.errors import RunError
from dqn_cli.envs.gymnasium import GymnasiumBackend
from dqn_cli.run import train
from dqn_cli.training.checkpoint import read_checkpoint
from tests.envs.hostile import env_id
from tests.small_runs import SMALL, small_plan

QUIET = ("evaluation.every_steps=null", "checkpoint.every_steps=100000")


def broken(folder: Any, name: str, *overrides: str) -> str:
    """Trains on an environment that breaks, and returns the message."""
    plan = small_plan(*SMALL, *QUIET, f"env.id={env_id(name)}", *overrides)
    with pytest.raises(RunError) as error:
        train(plan, "broken", folder, quiet=True)
    return str(error.value)


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize(
    ("name", "words", "step"), [("RaisesInStep", "ValueError: boom", 2), ("NanReward", "gave the reward nan", 6)]
)
def test_in_a_step(tmp_path, dqn, name, words, step, vectorization):
    folder = tmp_path / "run"
    message = broken(folder, name, f"env.vectorization={vectorization}")
    failure = json.loads((folder / "failure.json").read_text())
    assert words in message
    assert f"(episode 0, step {step}, action {failure['actions'][-1]}, lineage seed {failure['seed']})" in message
    assert message.endswith(f"saved up to step {4 * step}; play that episode again: dqn audit --replay {folder}")
    read = read_checkpoint(folder)
    assert read.step == 4 * step  # four environments; the step that failed counts as not taken
    assert read.training is not None
    lengths = [len(actions) for actions in read.training["environments"]["lineages"]["actions"]]
    assert lengths == [step] * 4 == [len(failure["actions"]) - 1] * 4

    result = dqn("audit", "--replay", folder)
    assert (result.code, result.err) == (1, "")
    assert f"failed again after {step} of {step + 1} steps" in result.out
    assert words in result.out


def test_in_a_later_episode(tmp_path, dqn):
    """Each episode of CartPole begins a lineage of its own, so that the failing one is played again alone."""
    folder = tmp_path / "run"
    message = broken(folder, "FailsLater")
    failure = json.loads((folder / "failure.json").read_text())
    assert failure["episode"] == 3
    assert "episode 3, step 6" in message
    result = dqn("audit", "--replay", folder, "--json")
    played = json.loads(result.out)
    # It fails in its fourth episode, whatever the seed: alone, the episode goes well.
    assert (result.code, played["found"], played["steps"]) == (0, None, 7)
    assert "does not depend on its seed and" in dqn("audit", "--replay", folder).out


def test_in_an_evaluation(tmp_path):
    plan = small_plan(*SMALL, "evaluation={every_steps: 20, episodes: 1}", f"env.id={env_id('RaisesInStep')}")
    environment = plan.options.env.model_copy(update={"kwargs": {"after": 6}})
    plan = replace(plan, options=plan.options.model_copy(update={"env": environment}))
    folder = tmp_path / "run"
    with pytest.raises(RunError, match="the run is saved up to step 20"):
        train(plan, "broken", folder, quiet=True)
    assert read_checkpoint(folder).step == 20


def test_in_a_reset(tmp_path):
    folder = tmp_path / "run"
    message = broken(folder, "RaisesInReset")
    assert "failed in reset with seed" in message
    assert message.endswith("nothing was saved yet")
    assert not (folder / "checkpoint.pt").exists()


def test_a_worker_that_is_killed(tmp_path, monkeypatch, dqn):
    send = GymnasiumBackend.send
    sent = [0]

    def killing(self: Any, actions: Any) -> None:
        sent[0] += 1
        if sent[0] == 5:
            os.kill(self._stepper._vector.processes[2].pid, signal.SIGKILL)
            self._stepper._vector.processes[2].join()
        send(self, actions)

    monkeypatch.setattr(GymnasiumBackend, "send", killing)
    folder = tmp_path / "run"
    message = broken(folder, "None", "env.vectorization=async")
    monkeypatch.undo()
    assert "the worker process of environment 2" in message
    assert "died" in message
    assert read_checkpoint(folder).step == 16
    result = dqn("audit", "--replay", folder)
    assert result.code == 0
    assert "all 5 steps went well this time" in result.out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no environment failed in this run"),
        ("{", "cannot read"),
        ("[]", "is damaged"),
        ('{"actions": [1, "x"], "seed": 1, "message": "m"}', "is damaged"),
        ('{"actions": [1], "seed": "1", "message": "m"}', "is damaged"),
    ],
)
def test_a_run_in_which_nothing_failed(tmp_path, dqn, content, words):
    if content is not None:
        (tmp_path / "failure.json").write_text(content)
    result = dqn("audit", "--replay", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
