"""Output objects: expected returns, and the Bellman backup of what was selected."""

from __future__ import annotations

import pytest
import torch

from dqn_cli.networks.outputs import ScalarOutput, ScalarPrediction

OUTPUT = ScalarOutput(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_values_and_selection():
    assert OUTPUT.values().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert OUTPUT.select(torch.tensor([1, 0])).value.tolist() == [2.0, 3.0]


def test_backup():
    backup = OUTPUT.select(torch.tensor([1, 0])).backup(torch.tensor([10.0, 20.0]), torch.tensor([0.5, 0.0]))
    assert backup == ScalarPrediction(backup.value)
    assert backup.value.tolist() == [11.0, 20.0]


def test_a_reward_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        ScalarPrediction(torch.zeros(2)).backup(torch.zeros(2, 1), torch.zeros(2))
