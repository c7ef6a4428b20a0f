"""Checkpoints of earlier versions; ``fixtures`` has one of each, which no later version may change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from dqn_cli.agent.optimizers import RMSPropOptions
from dqn_cli.build import OPTIMIZERS
from dqn_cli.cli.main import main
from dqn_cli.core.errors import UsageError
from dqn_cli.core.kinds import make
from dqn_cli.core.stateful import State
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


def trained(optimizer: State) -> State:
    return {"schema": 2, "training": {"learner": {"optimizer": optimizer, "updates": 1}, "step": 4}}


@pytest.mark.parametrize("centered", [True, False])
def test_torch_s_rmsprop_becomes_ours(centered):
    """What it goes on with is what torch would have gone on with."""
    options = RMSPropOptions(lr=0.1, decay=0.9, eps=1e-3, centered=centered, eps_inside_sqrt=False)
    weight, own = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    reference = torch.optim.RMSprop([weight], lr=0.1, alpha=0.9, eps=1e-3, centered=centered)
    for value in (0.5, -0.25, 2.0):
        weight.grad = torch.tensor([value, 1.0])
        reference.step()
    content = migrated(trained(reference.state_dict()), Path("a.pt"))
    assert content["schema"] == SCHEMA
    assert content["training"]["step"] == 4
    assert content["training"]["learner"]["updates"] == 1
    subject = make(OPTIMIZERS, options, [own])
    subject.load_state_dict(content["training"]["learner"]["optimizer"])
    with torch.no_grad():
        own.copy_(weight)
    for value in (3.0, 0.1):
        weight.grad = torch.tensor([value, 1.0])
        own.grad = weight.grad.clone()
        reference.step()
        subject.step()
    torch.testing.assert_close(own, weight, rtol=1e-6, atol=0)


@pytest.mark.parametrize("broken", [None, 3, {"state": 4, "param_groups": []}, {"state": {0: 1}, "param_groups": [{}]}])
def test_what_is_no_optimiser_is_left_to_who_loads_it(broken):
    content = migrated(trained(broken), Path("a.pt"))
    assert content["training"]["learner"]["optimizer"] == broken
