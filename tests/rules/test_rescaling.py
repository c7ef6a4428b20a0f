"""Value rescaling against numbers worked out by hand, its own inverse, and the same in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.rules.rescaling import rescale, unrescale

EPS = st.sampled_from([0.0, 1e-4, 1e-3, 0.01, 1.0])
SIZES = st.floats(-12.0, 8.0).map(lambda power: 10.0**power)
NUMBERS = st.one_of(SIZES, SIZES.map(lambda size: -size), st.just(0.0))


def test_by_hand():
    assert rescale(torch.tensor([0.0, 3.0, -3.0, 8.0, -24.0]), 0.0).tolist() == [0.0, 1.0, -1.0, 2.0, -4.0]
    assert rescale(torch.tensor([8.0, -8.0]), 0.5).tolist() == [6.0, -6.0]
    assert rescale(torch.tensor([8.0]), 0.01).item() == pytest.approx(2.08)


def test_the_inverse_by_hand():
    assert unrescale(torch.tensor([0.0, 1.0, -1.0, 2.0, -4.0]), 0.0).tolist() == [0.0, 3.0, -3.0, 8.0, -24.0]
    assert unrescale(torch.tensor([6.0, -6.0]), 0.5).tolist() == pytest.approx([8.0, -8.0])
    assert unrescale(torch.tensor([2.08]), 0.01).item() == pytest.approx(8.0)


@given(NUMBERS, EPS)
def test_agrees_with_the_definition_in_float64(number, eps):
    # log1p and expm1 keep the digits that sqrt(|x| + 1) - 1 loses for small x, in float64 too.
    definition = math.copysign(math.expm1(0.5 * math.log1p(abs(number))), number) + eps * number
    assert rescale(torch.tensor([number]), eps).item() == pytest.approx(definition, rel=1e-6, abs=1e-37)


@given(NUMBERS, EPS)
def test_each_undoes_the_other_to_the_last_digits_of_float32(number, eps):
    value = torch.tensor([number])
    assert unrescale(rescale(value, eps), eps).item() == pytest.approx(value.item(), rel=1e-6, abs=1e-37)
    assert rescale(unrescale(value, eps), eps).item() == pytest.approx(value.item(), rel=1e-6, abs=1e-37)


def test_shape_and_dtype_stay():
    value = torch.zeros(2, 3, dtype=torch.float64)
    for found in (rescale(value, 1e-3), unrescale(value, 1e-3)):
        assert found.shape == (2, 3)
        assert found.dtype == torch.float64


@pytest.mark.parametrize(("rule", "slope"), [(rescale, 0.51), (unrescale, 1 / 0.51)])
def test_the_slope_at_zero(rule, slope):
    value = torch.zeros(1, requires_grad=True)
    (found,) = torch.autograd.grad(rule(value, 0.01), value)
    assert found.item() == pytest.approx(slope)
