"""Quantile regression against numbers worked out by hand and against plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dqn_cli.rules.quantile import mean_absolute_error, midpoints, quantile_huber

# One row by hand. Errors of the first quantile: 0.5 and 3; of the second: -0.5 and 2.
QUANTILES, FRACTIONS, TARGETS = torch.tensor([[0.0, 1.0]]), torch.tensor([0.25, 0.75]), torch.tensor([[0.5, 3.0]])


def loops(quantiles: list[float], fractions: list[float], targets: list[float], kappa: float) -> float:
    total = 0.0
    for quantile, tau in zip(quantiles, fractions, strict=True):
        for target in targets:
            u = target - quantile
            huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
            total += abs(tau - (1.0 if u < 0 else 0.0)) * huber / kappa / len(targets)
    return total


def gradient(quantiles: Tensor, fractions: Tensor, targets: Tensor, kappa: float = 1.0) -> Tensor:
    quantiles = quantiles.clone().requires_grad_()
    (found,) = torch.autograd.grad(quantile_huber(quantiles, fractions, targets, kappa).sum(), quantiles)
    return found


@st.composite
def rows(draw):
    """Quantiles, fractions and targets of B rows, in float64."""
    batch, count, targets = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    numbers = st.integers(-20, 20).map(lambda i: i / 4)  # so that equal ones and errors of exactly kappa are common

    def table(width: int, values: st.SearchStrategy[float]) -> Tensor:
        return torch.tensor(
            [draw(st.lists(values, min_size=width, max_size=width)) for _ in range(batch)], dtype=torch.float64
        )

    return table(count, numbers), table(count, st.floats(0.0, 1.0)), table(targets, numbers)


class TestMidpoints:
    def test_by_hand(self):
        assert midpoints(4).tolist() == [0.125, 0.375, 0.625, 0.875]
        assert midpoints(1).tolist() == [0.5]

    def test_device(self):
        assert midpoints(3, "meta").device.type == "meta"


class TestQuantileHuber:
    def test_by_hand(self):
        first = (0.25 * 0.125 + 0.25 * 2.5) / 2
        second = (0.25 * 0.125 + 0.75 * 1.5) / 2
        assert quantile_huber(QUANTILES, FRACTIONS, TARGETS).tolist() == [first + second]

    def test_by_hand_with_another_kappa(self):
        first = (0.25 * 0.125 + 0.25 * 4.0) / 2
        second = (0.25 * 0.125 + 0.75 * 2.0) / 2
        assert quantile_huber(QUANTILES, FRACTIONS, TARGETS, 2.0).tolist() == [(first + second) / 2]

    @given(rows(), st.sampled_from([0.25, 1.0, 2.5]))
    def test_agrees_with_loops(self, row, kappa):
        quantiles, fractions, targets = row
        batch = zip(quantiles.tolist(), fractions.tolist(), targets.tolist(), strict=True)
        expected = [loops(*sample, kappa) for sample in batch]
        found = quantile_huber(quantiles, fractions, targets, kappa)
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)

    def test_fractions_may_be_shared_by_the_batch(self):
        quantiles, targets = torch.tensor([[0.0, 1.0], [2.0, -1.0]]), torch.tensor([[0.5, 3.0], [1.0, 0.0]])
        shared = quantile_huber(quantiles, FRACTIONS, targets)
        assert torch.equal(shared, quantile_huber(quantiles, FRACTIONS.expand(2, 2), targets))
        assert shared[0] == quantile_huber(QUANTILES, FRACTIONS, TARGETS)[0]

    def test_more_quantiles_weigh_more_and_more_targets_do_not(self):
        once = quantile_huber(QUANTILES, FRACTIONS, TARGETS)
        assert quantile_huber(QUANTILES.repeat(1, 3), FRACTIONS.repeat(3), TARGETS).item() == pytest.approx(3 * once)
        assert quantile_huber(QUANTILES, FRACTIONS, TARGETS.repeat(1, 3)).item() == pytest.approx(once.item())

    @pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize(
        ("error", "kappa", "clipped"),
        [(0.5, 1, 0.5), (-0.5, 1, -0.5), (7, 1, 1), (-7, 1, -1), (3, 2, 1), (-1, 2, -0.5)],
    )
    def test_the_gradient_of_one_quantile_is_the_clipped_error_weighted_by_tau(self, tau, error, kappa, clipped):
        found = gradient(torch.tensor([[2.0]]), torch.tensor([tau]), torch.tensor([[2.0 + error]]), float(kappa))
        assert found.item() == pytest.approx(-clipped * (tau if error > 0 else 1 - tau))

    def test_small_errors_keep_the_digits_of_their_gradients(self):
        errors = torch.tensor([[1e-3], [-1e-4], [3e-6], [1e-9]])
        assert torch.equal(gradient(torch.zeros(4, 1), torch.tensor([0.5]), errors), -errors / 2)

    def test_a_quantile_rests_where_tau_of_the_targets_lie_below(self):
        targets = torch.tensor([[-10.0, 10.0, 20.0, 30.0]])
        assert gradient(torch.zeros(1, 3), torch.tensor([0.125, 0.25, 0.5]), targets)[0].tolist() == [0.125, 0.0, -0.25]

    @pytest.mark.parametrize(
        ("quantiles", "fractions", "targets", "message"),
        [
            ((2, 3), (3,), (1, 4), "expected quantiles"),
            ((1, 3), (3,), (2, 4), "expected quantiles"),
            ((3,), (3,), (2, 4), "expected quantiles"),
            ((2, 3), (3,), (4,), "expected quantiles"),
            ((2, 3, 1), (3,), (2, 4), "expected quantiles"),
            ((2, 3), (1,), (2, 4), "expected fractions"),
            ((2, 3), (), (2, 4), "expected fractions"),
            ((2, 3), (2,), (2, 4), "expected fractions"),
            ((2, 3), (1, 3), (2, 4), "expected fractions"),
            ((2, 3), (2, 1), (2, 4), "expected fractions"),
            ((2, 3), (2, 3, 1), (2, 4), "expected fractions"),
        ],
    )
    def test_shapes_are_checked(self, quantiles, fractions, targets, message):
        with pytest.raises(ValueError, match=rf"{message}.*\(.*\).*\(.*\)"):
            quantile_huber(torch.zeros(quantiles), torch.zeros(fractions), torch.zeros(targets))


class TestMeanAbsoluteError:
    def test_by_hand(self):
        assert mean_absolute_error(QUANTILES, TARGETS).tolist() == [(0.5 + 3.0 + 0.5 + 2.0) / 4]

    @given(rows())
    def test_agrees_with_loops(self, row):
        quantiles, _, targets = row
        expected = [
            sum(abs(target - quantile) for quantile in ours for target in theirs) / (len(ours) * len(theirs))
            for ours, theirs in zip(quantiles.tolist(), targets.tolist(), strict=True)
        ]
        assert mean_absolute_error(quantiles, targets).tolist() == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("quantiles", "targets"), [((2, 3), (1, 3)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 3), (2, 3, 1))]
    )
    def test_shapes_are_checked(self, quantiles, targets):
        with pytest.raises(ValueError, match=r"expected quantiles.*\(.*\) and \(.*\)"):
            mean_absolute_error(torch.zeros(quantiles), torch.zeros(targets))
