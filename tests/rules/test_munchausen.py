"""Munchausen terms against numbers worked out by hand, and at the ends of their range."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.rules.munchausen import entropy_bonus, log_policy, munchausen_bonus

VALUES = torch.tensor([[0.0, math.log(3.0)]])


@st.composite
def values(draw):
    """Action values [1, A] around a level that may be large."""
    level, count = draw(st.sampled_from([0.0, -5.0, 1e3])), draw(st.integers(1, 6))
    return torch.tensor([draw(st.lists(st.floats(level - 1, level + 1, width=32), min_size=count, max_size=count))])


class TestLogPolicy:
    def test_by_hand(self):
        assert log_policy(VALUES, 1.0)[0].exp().tolist() == pytest.approx([0.25, 0.75])
        assert log_policy(VALUES, 0.5)[0].exp().tolist() == pytest.approx([0.1, 0.9])

    def test_rows_do_not_mix(self):
        both = log_policy(torch.tensor([[1.0, 2.0], [1e9, -10.0]]), 1.0)
        assert both[0].tolist() == log_policy(torch.tensor([[1.0, 2.0]]), 1.0)[0].tolist()

    def test_large_values_and_a_low_temperature_lose_no_digits(self):
        table = torch.tensor([[1000.0, 999.97, 999.0, 0.0]])
        exact = torch.log_softmax(table.double() / 0.03, 1)
        assert log_policy(table, 0.03)[0].tolist() == pytest.approx(exact[0].tolist(), rel=1e-6)

    def test_is_hard_at_temperature_zero_and_uniform_at_infinity(self):
        table = torch.tensor([[1.0, 3.0, 2.0, -4.0]])
        assert log_policy(table, 1e-6).exp().tolist() == [[0.0, 1.0, 0.0, 0.0]]
        assert log_policy(table, 1e9)[0].exp().tolist() == pytest.approx([0.25] * 4)

    @pytest.mark.parametrize("shape", [(), (3,), (2, 3, 1)])
    def test_shapes_are_checked(self, shape):
        with pytest.raises(ValueError, match=r"expected values \[B, A\], got \("):
            log_policy(torch.zeros(shape), 1.0)


class TestMunchausenBonus:
    def test_by_hand(self):
        found = munchausen_bonus(torch.tensor([0.0, -10.0, -100.0, -math.inf]), 0.9, 0.03, -1.0)
        assert found.tolist() == pytest.approx([0.0, -0.27, -0.9, -0.9])

    def test_the_floor_is_of_the_scaled_logarithm(self):
        assert munchausen_bonus(torch.tensor([-4.0]), 0.5, 0.25, -2.0).tolist() == [-0.5]
        assert munchausen_bonus(torch.tensor([-16.0]), 0.5, 0.25, -2.0).tolist() == [-1.0]

    def test_is_soft_q_learning_with_alpha_zero(self):
        assert munchausen_bonus(torch.tensor([0.0, -3.0, -1e6]), 0.0, 0.03, -1.0).abs().tolist() == [0.0, 0.0, 0.0]

    def test_is_never_positive(self):
        assert munchausen_bonus(torch.tensor([1e-7]), 0.9, 0.03, -1.0).tolist() == [0.0]

    @pytest.mark.parametrize("shape", [(), (3, 1)])
    def test_shapes_are_checked(self, shape):
        with pytest.raises(ValueError, match="log_policy_of_action"):
            munchausen_bonus(torch.zeros(shape), 0.9, 0.03, -1.0)


class TestEntropyBonus:
    def test_by_hand(self):
        entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
        table = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
        assert entropy_bonus(table, 0.5).tolist() == pytest.approx([0.5 * entropy, 0.5 * math.log(2)])

    def test_actions_that_are_never_taken_add_nothing(self):
        certain = torch.tensor([[0.0, -1e4, -math.inf], [math.log(0.5), -math.inf, math.log(0.5)]])
        assert entropy_bonus(certain, 1.0).tolist() == pytest.approx([0.0, math.log(2)])

    @given(values(), st.sampled_from([0.03, 1.0, 10.0]))
    def test_the_mean_value_and_the_entropy_are_the_soft_value(self, table, temperature):
        log_pi = log_policy(table, temperature)
        soft = (log_pi.exp() * table).sum(1) + entropy_bonus(log_pi, temperature)
        expected = temperature * torch.logsumexp(table.double() / temperature, 1)
        assert soft.tolist() == pytest.approx(expected.tolist(), rel=1e-5, abs=1e-5)

    @given(values(), st.sampled_from([0.03, 1.0, 10.0]))
    def test_lies_between_certainty_and_chance(self, table, temperature):
        bonus = entropy_bonus(log_policy(table, temperature), temperature).item()
        assert -1e-6 <= bonus <= temperature * math.log(table.shape[1]) + 1e-5

    @pytest.mark.parametrize("shape", [(), (3,), (2, 3, 1)])
    def test_shapes_are_checked(self, shape):
        with pytest.raises(ValueError, match=r"expected log_policy \[B, A\], got \("):
            entropy_bonus(torch.zeros(shape), 1.0)
