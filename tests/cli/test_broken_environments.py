"""An environment that breaks ends a run with one line, a saved state, and what plays its episode again."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from dqn_cli.core.errors import RunError
from dqn_cli.envs.gymnasium import GymnasiumBackend
from dqn_cli.evaluation.episodes import episode_seeds
from dqn_cli.run import train
from dqn_cli.training.checkpoint import read_checkpoint
from tests.envs.hostile import MADE, Faulty, env_id
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
    again = f"play that episode again: dqn audit --replay {folder}; go on: dqn resume {folder}"
    assert message.endswith(f"saved up to step {4 * step}; {again}")
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


def environment(faulty: dict[str, Any]) -> list[str]:
    """Returns the overrides that make two of `Faulty`."""
    kwargs = json.dumps(faulty).replace("NaN", ".nan")
    return [f"env.id={env_id('Faulty')}", "env.num_envs=2", f"env.kwargs={kwargs}"]


def trained(dqn: Any, folder: Any, *overrides: str, **faulty: Any) -> str:
    """Trains on a faulty environment from the command line, and returns the one line that it says."""
    result = dqn("train", "cartpole", *SMALL, *QUIET, *environment(faulty), *overrides, "--quiet", "--run-dir", folder)
    assert (result.code, result.out) == (1, "")
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert "internal error" not in line
    return str(line)


RESETS: list[tuple[dict[str, Any], str]] = [
    ({"fault": "raise"}, "ValueError: boom"),
    ({"value": [math.nan, 0.0]}, "values that are no finite numbers"),
    ({"value": [0.5]}, "the observation has shape (1,), its space (2,)"),
]


@pytest.mark.parametrize(
    ("vectorization", "faulty", "words"),
    [
        *(("sync", *fault) for fault in RESETS),
        *(("async", *fault) for fault in RESETS),
        ("async", {"fault": "die"}, " with exit code 7 "),
    ],
)
def test_in_a_later_reset(tmp_path, dqn, vectorization, faulty, words):
    folder = tmp_path / "run"
    # Episodes have 3 steps: the fifth reset follows step 12 of each environment.
    line = trained(dqn, folder, f"env.vectorization={vectorization}", when="reset 4", **faulty)
    failure = json.loads((folder / "failure.json").read_text())
    assert words in line
    assert f"environment {failure['env']} ('{env_id('Faulty')}')" in line
    assert f"in reset with seed {failure['seed']}" in line
    assert "(before episode 4, after episode 3, step 2, action " in line
    again = f"play that episode again: dqn audit --replay {folder}; go on: dqn resume {folder}"
    assert line.endswith(f"; the run is saved up to step 22; {again}")
    training = read_checkpoint(folder).training
    assert training is not None
    assert training["environments"]["length"] == [2, 2]
    assert training["environments"]["episode"] == [3, 3]
    assert len(training["loop"]["pending"]) == 2
    assert failure["seed"] not in training["environments"]["lineages"]["seeds"]

    result = dqn("audit", "--replay", folder)
    assert (result.code, result.err) == (0, "")  # alone, it is a first reset, which goes well
    assert f"the run said: {line.removeprefix('error: ').partition('; the run is saved')[0]}" in result.out


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_in_the_first_reset(tmp_path, dqn, vectorization):
    folder = tmp_path / "run"
    line = trained(dqn, folder, f"env.vectorization={vectorization}", when="reset 0", fault="exit")
    assert "failed in reset with seed" in line
    assert "SystemExit: 0 (before episode 0); nothing was saved yet; play that episode again: dqn audit" in line
    assert not (folder / "checkpoint.pt").exists()
    result = dqn("audit", "--replay", folder)
    assert (result.code, result.err) == (1, "")
    assert "failed again after 0 of 0 steps" in result.out


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize(
    ("faulty", "words"),
    [
        ({"fault": "exit"}, "failed in step: SystemExit: 0 ("),
        ({"fault": "local class"}, "failed in step: LocalError: boom ("),
        ({"fault": "many words"}, r"failed in step: ValueError: 100% \x1b[31mred\x1b[0m and more more "),
        ({"reward": 1e39}, "gave the reward 1e+39, more than float32 holds ("),
        ({"reward": "1.5"}, "failed in step: the reward is '1.5', no real number ("),
        ({"space": "bytes", "value": [300, 0]}, "the observation [300, 0] does not fit the uint8 of its space ("),
        ({"space": "codes", "value": 4}, "the observation 4 is not in Discrete(3, start=1) ("),
    ],
    ids=["exit", "class", "words", "large", "text", "bytes", "codes"],
)
def test_in_a_step_from_the_command_line(tmp_path, dqn, faulty, words, vectorization):
    line = trained(dqn, tmp_path / "run", f"env.vectorization={vectorization}", when="step 10", **faulty)
    assert words in line
    assert "episode 3, step 1, action " in line
    assert "; the run is saved up to step 20; play that episode again: " in line
    assert len(line) < 1_000


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("faulty", [{"info": "varying"}, {"info": "none"}, {"fault": "raise", "when": "close"}])
def test_what_is_not_broken(tmp_path, dqn, faulty, vectorization):
    overrides = [*SMALL, *QUIET, *environment(faulty), f"env.vectorization={vectorization}", "total_steps=120"]
    result = dqn("train", "cartpole", *overrides, "--quiet", "--run-dir", tmp_path / "run")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("fault", ["exit", "raise"])
def test_an_audit_of_it(dqn, fault):
    kwargs = json.dumps({"fault": fault, "when": "step 10"})
    result = dqn("audit", "--env", env_id("Faulty"), f"env.kwargs={kwargs}", "--steps", 100)
    assert (result.code, result.err) == (1, "")
    assert "steps without errors: environment 0" in result.out


class TestInAnEvaluation:
    """It has environments of its own; training is whole, whatever becomes of them."""

    EVALUATED = ("evaluation={every_steps: 10, episodes: 1}", "total_steps=120")
    WHERE = "in the evaluation at step 10, which has environments and episodes of its own: "

    def test_a_step(self, tmp_path, dqn):
        """An episode of training is cut before it fails, one of an evaluation is not."""
        plan = small_plan(*SMALL, *self.EVALUATED, f"env.id={env_id('RaisesInStep')}")
        environment = plan.options.env.model_copy(update={"kwargs": {"after": 6}})
        plan = replace(plan, options=plan.options.model_copy(update={"env": environment}))
        folder = tmp_path / "run"
        with pytest.raises(RunError) as error:
            train(plan, "broken", folder, quiet=True)
        failure = json.loads((folder / "failure.json").read_text())
        assert str(error.value).startswith(f"{self.WHERE.replace('10', '12')}environment 0 ")
        assert f"(episode 0, step 5, action {failure['actions'][-1]}, lineage seed {failure['seed']})" in str(
            error.value
        )
        assert "; the run is saved up to step 12; play that episode again: " in str(error.value)
        assert failure["seed"] == episode_seeds(0, 1, "training evaluation")[0]
        training = read_checkpoint(folder).training
        assert training is not None
        assert training["loop"]["step"] == training["keeper"]["interrupted"] == 12
        assert training["loop"]["pending"] is None
        assert dqn("audit", "--replay", folder).code == 1

    @pytest.mark.parametrize("vectorization", ["sync", "async"])
    @pytest.mark.parametrize("fault", ["raise", "exit"])
    def test_its_environments_cannot_be_made(self, tmp_path, dqn, fault, vectorization):
        # The plan makes one, training two; where workers do, this process makes two for each of both, for the spaces.
        made = 3 if vectorization == "sync" else 4
        line = trained(
            dqn,
            tmp_path / "run",
            *self.EVALUATED,
            f"env.vectorization={vectorization}",
            fault=fault,
            when=f"made {len(MADE) + made}",
        )
        assert self.WHERE in line
        assert "cannot be made" in line
        assert line.endswith(f"; the run is saved up to step 10; go on: dqn resume {tmp_path / 'run'}")
        assert read_checkpoint(tmp_path / "run").step == 10

    def test_its_first_reset(self, tmp_path, dqn, monkeypatch):
        reset = Faulty.reset

        def failing(self: Faulty, **arguments: Any) -> Any:
            if self in MADE[before + 3 :]:
                raise ValueError("boom")
            return reset(self, **arguments)

        before = len(MADE)
        monkeypatch.setattr(Faulty, "reset", failing)
        line = trained(dqn, tmp_path / "run", *self.EVALUATED)
        assert f"{self.WHERE}environment 0 " in line
        assert "failed in reset with seed" in line
        assert "; the run is saved up to step 10; " in line


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
