"""Linear schedules: values at known steps (trap 11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.core.schedules import CosineSchedule, LinearSchedule


@pytest.mark.parametrize(
    ("step", "value"),
    [
        (0, 1.0),
        (999, 1.0),
        (1_000, 1.0),
        (3_500, 0.7625),
        (6_000, 0.525),
        (10_500, 0.0975),
        (11_000, 0.05),
        (11_001, 0.05),
        (10**9, 0.05),
    ],
)
def test_known_steps(step, value):
    assert LinearSchedule(1.0, 0.05, begin_steps=1_000, over_steps=10_000)(step) == pytest.approx(value, abs=1e-12)


def test_the_ends_are_exact():
    schedule = LinearSchedule(0.1, 0.7, 3, 7)
    assert (schedule(3), schedule(10)) == (0.1, 0.7)


def test_a_schedule_may_rise():
    assert LinearSchedule(0.4, 1.0, 0, 100)(50) == pytest.approx(0.7)


def test_no_length_is_a_step():
    schedule = LinearSchedule(1.0, 0.0, begin_steps=5, over_steps=0)
    assert [schedule(step) for step in (4, 5, 6)] == [1.0, 1.0, 0.0]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 100), st.integers(0, 100), st.integers(0, 300))
def test_stays_between_its_ends_and_never_turns(start, end, begin, over, step):
    schedule = LinearSchedule(start, end, begin, over)
    low, high = min(start, end), max(start, end)
    now, later = schedule(step), schedule(step + 1)
    assert low - 1e-12 <= now <= high + 1e-12
    assert (later - now) * (end - start) >= -1e-12


class TestCosine:
    @pytest.mark.parametrize(("step", "value"), [(0, 1.0), (25, 0.8681981), (50, 0.55), (100, 0.1), (10**6, 0.1)])
    def test_known_steps(self, step, value):
        assert CosineSchedule(1.0, 0.1, 100)(step) == pytest.approx(value, abs=1e-6)

    def test_it_is_flat_at_both_ends(self):
        schedule = CosineSchedule(1.0, 0.0, 1_000)
        assert schedule(0) - schedule(1) < 1e-5
        assert schedule(999) - schedule(1_000) < 1e-5
