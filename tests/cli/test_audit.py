"""The audit as a user calls it."""

from __future__ import annotations

import json

from tests.envs.hostile import env_id


def test_table(dqn):
    result = dqn("audit", "--env", env_id("None"), "--steps", "300")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("every check holds\n")


def test_failure(dqn):
    result = dqn("audit", "cartpole", f"env.id={env_id('Outside')}", "--steps", "300")
    assert (result.code, result.err) == (1, "")
    assert "FAILED    declared spaces" in result.out
    assert "1 of 15 checks failed" in result.out


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
