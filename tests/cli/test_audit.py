"""The audit as a user calls it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.envs.hostile import env_id
from tests.experiments.faulty import faulty_id


def test_table(dqn):
    result = dqn("audit", "--env", env_id("None"), "--steps", "300")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("every check holds\n")


def test_failure(dqn):
    result = dqn("audit", "cartpole", f"env.id={env_id('Outside')}", "--steps", "300")
    assert (result.code, result.err) == (1, "")
    assert "FAILED    declared spaces" in result.out
    assert "1 of 19 checks failed" in result.out


def test_json(dqn):
    result = dqn("audit", "--env", env_id("None"), "replay.n_step=5", "--steps", "300", "--json")
    document = json.loads(result.out)
    assert document["passed"]
    assert {check["verdict"] for check in document["checks"]} == {"ok"}
    assert set(document["milliseconds"]) == {"environments", "append", "batch", "update"}


def test_nothing_to_audit(dqn):
    result = dqn("audit")
    assert (result.code, result.out) == (2, "")
    assert "give a config, or an environment with --env" in result.err


def strict(text: str) -> Any:
    """Reads JSON as other languages do."""

    def refuse(literal: str) -> None:
        raise AssertionError(f"{literal} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", ["NanReward", "InfiniteReward"])
def test_json_is_strict_also_with_values_that_are_no_numbers(dqn, name):
    result = dqn("audit", "--env", env_id(name), "--steps", "100", "--json")
    document = strict(result.out)
    assert result.code == 1
    assert not document["passed"]
    assert document["wraps"] >= 0.0


@pytest.mark.parametrize("fault", ["exits", "shouts"])
def test_whatever_an_environment_does_is_told_in_printable_lines(dqn, fault):
    result = dqn("audit", "--env", faulty_id(fault), "--steps", "300")
    assert (result.code, result.err) == (1, "")
    assert all(line.isprintable() for line in result.out.split("\n"))
    assert "1 of 19 checks failed" in result.out


WHOLE = '{"message": "one\\ntwo \\u001b[31m", "seed": 1, "actions": [0, 1, 1]}'


@pytest.fixture
def run(tmp_path):
    """A run folder in which an environment failed."""
    (tmp_path / "config.yaml").write_text(f"env: {{id: '{env_id('None')}'}}")
    (tmp_path / "failure.json").write_text(WHOLE)
    return tmp_path


class TestReplay:
    def test_text(self, dqn, run):
        result = dqn("audit", "--replay", run)
        assert result.code == 0
        assert result.out.startswith("the run said: one two \\x1b[31m\n\n  step       0  action   0  reward 1\n")
        assert "all 3 steps went well this time" in result.out

    def test_json(self, dqn, run):
        document = strict(dqn("audit", "--replay", run, "--json").out)
        assert document["latest"] == [[0, 0, 1.0], [1, 1, 1.0], [2, 1, 1.0]]
        assert document["told"] == "one two \\x1b[31m"

    @pytest.mark.parametrize(("name", "code"), [("None", 0), ("RaisesInReset", 1)])
    def test_a_failure_in_the_first_reset(self, dqn, run, name, code):
        """There is no action then."""
        (run / "failure.json").write_text(WHOLE.replace("[0, 1, 1]", "[]"))
        (run / "config.yaml").write_text(f"env: {{id: '{env_id(name)}'}}")
        result = dqn("audit", "--replay", run)
        assert result.code == code
        assert ("failed again after 0 of 0 steps" if code else "\n\nthe reset went well this time") in result.out

    @pytest.mark.parametrize(
        ("whole", "broken", "words"),
        [
            ("[0, 1, 1]", "[0, 2]", "action 2 is not in 0 to 1"),
            ("[0, 1, 1]", "[99999999999999999999]", "is not in 0 to 1"),
            ("[0, 1, 1]", "[-1]", "no list of numbers from 0"),
            ("[0, 1, 1]", "[true]", "no list of numbers from 0"),
            ("[0, 1, 1]", '"no list"', "no list of numbers from 0"),
            ('"seed": 1', '"seed": -1', "its seed is -1, not in 0 to 2147483647"),
            ('"seed": 1', '"seed": 12345678901234567890123', "not in 0 to 2147483647"),
            ('"seed": 1', '"seed": true', "its seed is True"),
            ('"seed": 1', '"seed": ' + 5_000 * "1", "cannot read"),
            ('"message"', '"words"', "holds no message"),
            (WHOLE, 200_000 * "[", "cannot read"),
            (WHOLE, "\udcff", "cannot read"),
        ],
    )
    def test_a_damaged_file(self, dqn, run, whole, broken, words):
        (run / "failure.json").write_text(WHOLE.replace(whole, broken), errors="surrogateescape")
        result = dqn("audit", "--replay", run)
        assert (result.code, result.out) == (2, "")
        assert words in result.err
        assert result.err.count("\n") == 1

    def test_missing_files(self, dqn, run):
        assert "there is no run folder" in dqn("audit", "--replay", run / "nothing").err
        (run / "config.yaml").unlink()
        assert f"there is no {run / 'config.yaml'}" in dqn("audit", "--replay", run).err
        (run / "failure.json").unlink()
        result = dqn("audit", "--replay", run)
        assert result.code == 2
        assert "no environment failed in this run" in result.err

    @pytest.mark.parametrize(
        ("more", "named"),
        [
            (["cartpole"], "CONFIG"),
            (["cartpole", "seed=1"], "CONFIG, KEY=VALUE"),
            (["--env", "CartPole-v1"], "--env"),
            (["--steps", "200"], "--steps"),
            (["--seed", "0"], "--seed"),
        ],
    )
    def test_nothing_else_may_be_asked_for(self, dqn, run, more, named):
        result = dqn("audit", *more, "--replay", run)
        assert (result.code, result.out) == (2, "")
        assert f"takes no {named}; leave it out" in result.err
