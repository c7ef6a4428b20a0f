"""Fixtures of the tests of the agent."""

from __future__ import annotations

import pytest
import torch

from dqn_cli import build
from dqn_cli.core.kinds import Kind
from dqn_cli.core.options import Options


class SgdOptions(Options):
    """Plain gradient descent with a step of size 1: a step is the gradient."""

    kind: str = "sgd"


@pytest.fixture
def sgd(monkeypatch: pytest.MonkeyPatch) -> Options:
    """Options of plain gradient descent, which the tables of the program do not offer."""
    row = Kind(SgdOptions, lambda _, parameters: torch.optim.SGD(parameters, lr=1.0))
    monkeypatch.setitem(build.OPTIMIZERS, "sgd", row)
    return SgdOptions()
