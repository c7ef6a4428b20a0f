"""Output objects: expected returns, selection, mixtures, and the Bellman backup of what was selected."""

from __future__ import annotations

import math

import pytest
import torch

from dqn_cli.networks.outputs import (
    CategoricalOutput,
    CategoricalPrediction,
    QuantileOutput,
    ScalarOutput,
    ScalarPrediction,
)

ACTION = torch.tensor([1, 0])
POLICY = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
REWARD, DISCOUNT = torch.tensor([10.0, 20.0]), torch.tensor([0.5, 0.0])


class TestScalar:
    OUTPUT = ScalarOutput(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))

    def test_values_and_selection(self):
        assert self.OUTPUT.values().tolist() == [[1.0, 2.0], [3.0, 4.0]]
        assert self.OUTPUT.select(ACTION).value.tolist() == [2.0, 3.0]
        assert self.OUTPUT.select(ACTION).mean().tolist() == [2.0, 3.0]

    def test_mixture(self):
        assert self.OUTPUT.mix(POLICY).value.tolist() == [1.75, 3.0]

    def test_backup(self):
        assert self.OUTPUT.select(ACTION).backup(REWARD, DISCOUNT).value.tolist() == [11.0, 20.0]

    def test_map(self):
        assert self.OUTPUT.select(ACTION).map(torch.square).value.tolist() == [4.0, 9.0]

    def test_a_reward_of_another_shape_is_refused(self):
        with pytest.raises(ValueError, match="one shape"):
            ScalarPrediction(torch.zeros(2)).backup(torch.zeros(2, 1), torch.zeros(2))


class TestCategorical:
    # Probabilities (1/4, 1/2, 1/4), (0, 0, 1) for the first observation, (1, 0, 0), (0, 1, 0) for the second.
    LOG = (
        torch.tensor([[[0.25, 0.5, 0.25], [0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]).clamp_min(1e-30).log()
    )
    OUTPUT = CategoricalOutput(LOG, torch.tensor([-1.0, 1.0, 3.0]))

    def test_values(self):
        torch.testing.assert_close(self.OUTPUT.values(), torch.tensor([[1.0, 3.0], [-1.0, 1.0]]))

    def test_selection(self):
        assert self.OUTPUT.select(ACTION).mean().tolist() == pytest.approx([3.0, -1.0])

    def test_backup_moves_the_atoms_and_no_probability(self):
        backup = self.OUTPUT.select(ACTION).backup(REWARD, DISCOUNT)
        assert backup.atoms.tolist() == [[9.5, 10.5, 11.5], [20.0, 20.0, 20.0]]
        assert torch.equal(backup.logits, self.OUTPUT.select(ACTION).logits)
        assert backup.mean().tolist() == pytest.approx([11.5, 20.0])

    def test_a_second_backup_is_on_top_of_the_first(self):
        twice = self.OUTPUT.select(ACTION).backup(REWARD, DISCOUNT).backup(REWARD, DISCOUNT)
        assert twice.atoms[0].tolist() == [14.75, 15.25, 15.75]

    def test_mixture(self):
        mixture = self.OUTPUT.mix(POLICY)
        expected = torch.tensor([[0.0625, 0.125, 0.8125], [1.0, 0.0, 0.0]])
        torch.testing.assert_close(torch.softmax(mixture.logits, 1), expected)
        assert mixture.mean().tolist() == pytest.approx([0.25 * 1.0 + 0.75 * 3.0, -1.0])

    def test_map_is_of_the_atoms(self):
        prediction = CategoricalPrediction(torch.zeros(1, 2), torch.tensor([1.0, 3.0]))
        assert prediction.map(torch.square).mean().tolist() == [5.0]


class TestQuantile:
    OUTPUT = QuantileOutput(
        torch.tensor([[[0.0, 2.0], [1.0, 9.0]], [[-1.0, 3.0], [4.0, 4.0]]]), torch.tensor([0.25, 0.75])
    )

    def test_values_are_means(self):
        assert self.OUTPUT.values().tolist() == [[1.0, 5.0], [1.0, 4.0]]

    def test_selection_keeps_the_fractions(self):
        prediction = self.OUTPUT.select(ACTION)
        assert prediction.quantiles.tolist() == [[1.0, 9.0], [-1.0, 3.0]]
        assert prediction.fractions.tolist() == [0.25, 0.75]
        assert prediction.mean().tolist() == [5.0, 1.0]

    def test_backup(self):
        assert self.OUTPUT.select(ACTION).backup(REWARD, DISCOUNT).quantiles.tolist() == [[10.5, 14.5], [20.0, 20.0]]

    def test_mixture(self):
        assert self.OUTPUT.mix(POLICY).quantiles.tolist() == [[0.75, 7.25], [-1.0, 3.0]]

    def test_map(self):
        assert self.OUTPUT.select(ACTION).map(lambda q: 2.0 * q).quantiles.tolist() == [[2.0, 18.0], [-2.0, 6.0]]


@pytest.mark.parametrize("output", [TestCategorical.OUTPUT, TestQuantile.OUTPUT], ids=["categorical", "quantile"])
def test_an_action_of_another_shape_is_refused(output):
    with pytest.raises(ValueError, match=r"expected atoms \[B, A, K\] and action \[B\]"):
        output.select(torch.zeros(2, 1, dtype=torch.int64))
    assert math.isfinite(output.values().sum())
