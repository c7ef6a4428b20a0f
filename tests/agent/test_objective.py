"""The TD objective: clipped errors, importance weights in one place, detached priorities (trap 13)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dqn_cli.agent.bootstrap import GreedyOptions
from dqn_cli.agent.objective import TemporalDifference, categorical_objective, quantile_objective
from dqn_cli.agent.targets import PolyakOptions
from dqn_cli.build import OBJECTIVES
from dqn_cli.networks.outputs import CategoricalPrediction, QuantilePrediction, ScalarPrediction
from dqn_cli.rules.td import huber, huber_slope, squared, squared_slope
from tests.agent.toys import batch, learner, table


def prediction(*values: float, requires_grad: bool = False) -> ScalarPrediction:
    return ScalarPrediction(torch.tensor(values, requires_grad=requires_grad))


class TestLosses:
    def test_losses_and_priorities_by_hand(self):
        losses, priority = TemporalDifference(huber, huber_slope)(prediction(1.0, 5.0, 0.0), prediction(1.5, 2.0, 0.0))
        assert losses.tolist() == [0.125, 2.5, 0.0]
        assert priority.tolist() == [0.5, 3.0, 0.0]

    def test_the_priority_is_the_error_whatever_the_loss(self):
        _, priority = TemporalDifference(squared, squared_slope)(prediction(1.0, 5.0), prediction(1.5, 2.0))
        assert priority.tolist() == [0.5, 3.0]

    def test_priorities_are_detached_and_losses_are_not(self):
        losses, priority = TemporalDifference(huber, huber_slope)(prediction(1.0, requires_grad=True), prediction(3.0))
        assert not priority.requires_grad
        assert losses.requires_grad

    def test_shapes_are_checked(self):
        wrong = ScalarPrediction(torch.zeros(2, 1))
        with pytest.raises(ValueError, match="one shape"):
            TemporalDifference(huber, huber_slope)(prediction(1.0, 2.0), wrong)

    def test_predictions_of_another_head_are_refused(self):
        other: Any = torch.zeros(1)
        with pytest.raises(TypeError, match="ScalarPrediction, got ScalarPrediction and Tensor"):
            TemporalDifference(huber, huber_slope)(prediction(1.0), other)

    def test_names_of_losses(self):
        assert list(OBJECTIVES["scalar"]) == ["huber", "squared"]
        error = (prediction(0.0), prediction(4.0))
        assert [OBJECTIVES["scalar"][name](*error)[0].item() for name in ("huber", "squared")] == [3.5, 8.0]


def step_of_one_weight(sgd, errors, weights=None, loss=(huber, huber_slope)) -> float:
    """Returns how far one step of plain gradient descent moves the one weight of a network."""
    subject = learner(
        sgd,
        PolyakOptions(),
        GreedyOptions(),
        online=table([[0.0]]),
        objective=TemporalDifference(*loss),
    )
    count = len(errors)
    rows = [[0.0]] * count
    subject.update(batch(rows, [0] * count, errors, [0.0] * count, rows, weights), step=0)
    return next(subject.online.parameters()).item()


class TestGradientOfOneWeight:
    """The weight is the action value itself, 0; rewards are then TD errors, and a step of size 1 is the gradient."""

    @pytest.mark.parametrize(("error", "clipped"), [(0.25, 0.25), (-0.25, -0.25), (8.0, 1.0), (-8.0, -1.0)])
    def test_it_is_the_clipped_error(self, sgd, error, clipped):
        assert step_of_one_weight(sgd, [error]) == pytest.approx(clipped)

    def test_the_squared_loss_does_not_clip(self, sgd):
        assert step_of_one_weight(sgd, [8.0], loss=(squared, squared_slope)) == pytest.approx(8.0)

    def test_each_error_is_clipped_not_their_mean(self, sgd):
        assert step_of_one_weight(sgd, [8.0, -0.5, 0.25]) == pytest.approx((1.0 - 0.5 + 0.25) / 3)

    def test_weights_multiply_the_loss_of_each_item(self, sgd):
        moved = step_of_one_weight(sgd, [8.0, -0.5, 0.25], [0.5, 2.0, 0.0])
        assert moved == pytest.approx((0.5 * 1.0 + 2.0 * -0.5 + 0.0) / 3)

    def test_a_weight_is_not_clipped_with_the_error(self, sgd):
        assert step_of_one_weight(sgd, [0.5], [4.0]) == pytest.approx(2.0)


class TestCategorical:
    SUPPORT = torch.tensor([0.0, 1.0, 2.0])

    def predicted(self, *probabilities: float) -> CategoricalPrediction:
        return CategoricalPrediction(torch.tensor([probabilities]).log().requires_grad_(), self.SUPPORT)

    def test_cross_entropy_to_the_projected_target(self):
        # All mass of the next action on 1; r = 0.25 and discount 0.5 move it to 0.75.
        sure = CategoricalPrediction(torch.tensor([[-90.0, 0.0, -90.0]]), self.SUPPORT)
        backup = sure.backup(torch.tensor([0.25]), torch.tensor([0.5]))
        losses, priority = categorical_objective(self.predicted(0.5, 0.25, 0.25), backup)
        assert losses.tolist() == pytest.approx([-0.25 * math.log(0.5) - 0.75 * math.log(0.25)])
        assert priority.tolist() == losses.tolist()
        assert losses.requires_grad
        assert not priority.requires_grad

    def test_its_gradient_is_prediction_minus_target(self):
        prediction = self.predicted(0.5, 0.25, 0.25)
        backup = self.predicted(0.2, 0.2, 0.6).backup(torch.zeros(1), torch.ones(1))
        loss: Any = categorical_objective(prediction, detached(backup))[0].sum()
        loss.backward()
        expected = torch.tensor([[0.5 - 0.2, 0.25 - 0.2, 0.25 - 0.6]])
        torch.testing.assert_close(prediction.logits.grad, expected)


def detached(prediction: CategoricalPrediction) -> CategoricalPrediction:
    return CategoricalPrediction(prediction.logits.detach(), prediction.atoms)


class TestQuantile:
    def test_losses_and_priorities_by_hand(self):
        prediction = QuantilePrediction(torch.tensor([[0.0, 1.0]]), torch.tensor([0.25, 0.75]))
        backup = QuantilePrediction(torch.tensor([[3.0, 0.5]]), torch.tensor([0.1, 0.9]))
        losses, priority = quantile_objective(prediction, backup)
        # Errors of the first quantile: 3 and 0.5; of the second: 2 and -0.5.
        first = (0.25 * 2.5 + 0.25 * 0.125) / 2
        second = (0.75 * 1.5 + (1 - 0.75) * 0.125) / 2
        assert losses.tolist() == pytest.approx([first + second])
        assert priority.tolist() == pytest.approx([(3.0 + 0.5 + 2.0 + 0.5) / 4])

    def test_priorities_are_detached_and_losses_are_not(self):
        prediction = QuantilePrediction(torch.zeros(2, 3, requires_grad=True), torch.rand(2, 3))
        losses, priority = quantile_objective(prediction, QuantilePrediction(torch.ones(2, 3), torch.rand(2, 3)))
        assert losses.requires_grad
        assert not priority.requires_grad


@pytest.mark.parametrize("objective", [categorical_objective, quantile_objective])
def test_predictions_of_a_scalar_head_are_refused(objective):
    with pytest.raises(TypeError, match="got ScalarPrediction and ScalarPrediction"):
        objective(prediction(1.0), prediction(1.0))


def test_every_head_has_a_loss_that_fits_it():
    names = {head: list(losses) for head, losses in OBJECTIVES.items()}
    assert names == {
        "scalar": ["huber", "squared"],
        "categorical": ["cross_entropy"],
        "quantile": ["quantile_huber"],
        "implicit_quantile": ["quantile_huber"],
    }
