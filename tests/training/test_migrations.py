"""Checkpoints of earlier versions; ``fixtures`` has one of each, which no later version may change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from dqn_cli.cli.main import main
from dqn_cli.core.errors import UsageError
from dqn_cli.resume import resume
from dqn_cli.telemetry.jsonl import read_jsonl
from dqn_cli.training.checkpoint import read_checkpoint
from dqn_cli.training.migrations import _MIGRATIONS, SCHEMA, migrated

FIXTURES = Path(__file__).parent / "fixtures"


def test_there_is_a_fixture_and_a_migration_of_each_version():
    files = {f"schema-{number}.pt" for number in range(1, SCHEMA + 1)}
    runs = {f"run-{number}" for number in range(2, SCHEMA + 1)}
    assert {path.name for path in FIXTURES.iterdir()} == files | runs
    assert list(_MIGRATIONS) == list(range(1, SCHEMA))


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_it_can_be_read_and_evaluated(schema, capfd):
    path = FIXTURES / f"schema-{schema}.pt"
    assert torch.load(path, weights_only=True)["schema"] == schema
    read = read_checkpoint(path)
    assert (read.name, read.step) == ("cartpole", 400)
    assert (read.training is None) == (schema < 2)
    with pytest.raises(SystemExit) as end:
        main(["eval", str(path), "--episodes", "2", "--json"])
    out, err = capfd.readouterr()
    assert (end.value.code, err) == (0, "")
    assert json.loads(out)["checkpoint_step"] == 400


@pytest.mark.parametrize("schema", range(2, SCHEMA + 1))
def test_its_run_goes_on(schema, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(FIXTURES / f"run-{schema}", run)
    told: list[str] = []
    outcome = resume(run, told.append)
    assert (outcome.reason, outcome.step, outcome.exit_code) == ("all steps done", 400, 0)
    assert "goes on behind step 200" in told
    steps = [line["step"] for line in read_jsonl(run / "metrics.jsonl")]
    assert steps == list(range(2, 401, 2))


@pytest.mark.parametrize("schema", [0, -1, None, "2", 1.0, True])
def test_what_is_no_schema(schema):
    with pytest.raises(UsageError, match="'schema' is not a number"):
        migrated({"schema": schema}, Path("a.pt"))


def test_a_later_one():
    with pytest.raises(UsageError, match=r"a\.pt has checkpoint schema 9.*use dqn_cli 3\.1 or later"):
        migrated({"schema": 9, "versions": {"dqn_cli": "3.1"}}, Path("a.pt"))
