"""Temporal-difference rules against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.rules.td import check_same_shape, huber, select_action, squared, td_target

ERRORS = torch.tensor([0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -2.0])


def gradient(loss, errors) -> Any:
    errors = errors.clone().requires_grad_()
    loss(errors).sum().backward()
    return errors.grad


class TestTarget:
    def test_by_hand(self):
        target = td_target(
            torch.tensor([1.0, 2.0, -1.0]), torch.tensor([0.5, 0.0, 0.9]), torch.tensor([10.0, 100.0, -2.0])
        )
        assert target.tolist() == pytest.approx([6.0, 2.0, -2.8])

    @pytest.mark.parametrize("position", [0, 1, 2])
    @pytest.mark.parametrize("shape", [(3, 1), (1, 3), (1,), (), (4,)])
    def test_no_argument_is_broadcast(self, position, shape):
        arguments = [torch.ones(3)] * 3
        arguments[position] = torch.ones(shape)
        with pytest.raises(ValueError, match="one shape"):
            td_target(*arguments)

    @pytest.mark.parametrize("shape", [(), (3, 1)])
    def test_equal_shapes_that_are_not_batches(self, shape):
        with pytest.raises(ValueError, match=r"\[B\]"):
            check_same_shape(a=torch.ones(shape), b=torch.ones(shape))

    def test_the_error_names_the_shapes(self):
        with pytest.raises(ValueError, match=r"'reward': \(2,\).*'next_value': \(2, 1\)"):
            td_target(torch.ones(2), torch.ones(2), torch.ones(2, 1))


class TestHuber:
    def test_by_hand(self):
        assert huber(ERRORS).tolist() == [0.0, 0.125, 0.125, 0.5, 0.5, 2.5, 1.5]

    def test_by_hand_with_another_delta(self):
        assert huber(ERRORS, 2.0).tolist() == [0.0, 0.125, 0.125, 0.5, 0.5, 4.0, 2.0]
        assert huber(ERRORS, 0.5).tolist() == [0.0, 0.125, 0.125, 0.375, 0.375, 1.375, 0.875]

    def test_its_gradient_is_the_clipped_error(self):
        assert gradient(huber, ERRORS).tolist() == [0.0, 0.5, -0.5, 1.0, -1.0, 1.0, -1.0]
        assert gradient(lambda e: huber(e, 2.0), ERRORS).tolist() == [0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0]

    @given(st.floats(-1e3, 1e3), st.floats(0.01, 100.0))
    def test_agrees_with_its_two_branches(self, error, delta):
        ours = huber(torch.tensor([error], dtype=torch.float64), delta).item()
        branches = 0.5 * error**2 if abs(error) <= delta else delta * (abs(error) - 0.5 * delta)
        assert math.isclose(ours, branches, rel_tol=1e-9, abs_tol=1e-12)

    def test_the_gradient_of_a_small_error_keeps_all_its_digits(self):
        # Written as a clamped and a linear part, the two gradients cancel and round the error to 2^-24.
        errors = torch.tensor([1e-3, -1e-4, 3e-6, 1e-9])
        (found,) = torch.autograd.grad(huber(errors.requires_grad_()).mean(), errors)
        assert torch.equal(found, errors.detach() / 4)


class TestSquared:
    def test_by_hand(self):
        assert squared(ERRORS).tolist() == [0.0, 0.125, 0.125, 0.5, 0.5, 4.5, 2.0]

    def test_its_gradient_is_the_error(self):
        assert torch.equal(gradient(squared, ERRORS), ERRORS)


class TestSelectAction:
    def test_by_hand(self):
        values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        assert select_action(values, torch.tensor([2, 0])).tolist() == [3.0, 4.0]

    def test_gradients_reach_only_what_was_selected(self):
        values = torch.zeros(2, 3, requires_grad=True)
        (reached,) = torch.autograd.grad(select_action(values, torch.tensor([1, 2])).sum(), values)
        assert reached.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    @pytest.mark.parametrize(
        ("values", "action"), [((2, 3), (2, 1)), ((2, 3), (3,)), ((2, 3), (1,)), ((2,), (2,)), ((2, 3, 1), (2,))]
    )
    def test_shapes_are_checked(self, values, action):
        with pytest.raises(ValueError, match="expected values"):
            select_action(torch.zeros(values), torch.zeros(action, dtype=torch.int64))
