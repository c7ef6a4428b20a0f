"""Pacing: how many updates belong to how many steps, against counting on the fingers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.training.pacing import Pacing, passed

PACINGS = st.builds(Pacing, st.integers(0, 30), st.integers(1, 20), st.integers(1, 5))


def simulated(pacing: Pacing, step: int) -> int:
    """Counts one agent step after another."""
    updates = since_burst = 0
    for number in range(1, step + 1):
        if number > pacing.begin_steps:
            since_burst += 1
        if since_burst == pacing.every_steps:
            updates, since_burst = updates + pacing.updates, 0
    return updates


@pytest.mark.parametrize(
    ("step", "updates"),
    [(0, 0), (999, 0), (1_000, 0), (1_003, 0), (1_004, 1), (1_007, 1), (1_008, 2), (50_000, 12_250)],
)
def test_one_update_in_four_steps_after_the_warm_up(step, updates):
    assert Pacing(1_000, 4, 1).updates_until(step) == updates


@pytest.mark.parametrize(
    ("step", "updates"),
    [(1_000, 0), (1_255, 0), (1_256, 128), (1_511, 128), (1_512, 256), (50_000, 191 * 128)],
)
def test_bursts(step, updates):
    assert Pacing(1_000, 256, 128).updates_until(step) == updates


def test_a_vector_step_may_cross_several_bursts():
    pacing = Pacing(begin_steps=0, every_steps=3, updates=2)
    until = [pacing.updates_until(step) for step in range(0, 33, 8)]
    assert until == [0, 4, 10, 16, 20]


@given(PACINGS, st.integers(0, 120))
def test_equals_the_simulation(pacing, step):
    assert pacing.updates_until(step) == simulated(pacing, step)


@given(PACINGS, st.integers(0, 10**9), st.integers(0, 10**6))
def test_never_falls(pacing, step, more):
    assert pacing.updates_until(step) <= pacing.updates_until(step + more)


@given(st.integers(1, 20), st.integers(0, 100), st.integers(0, 30))
def test_passed(every, before, more):
    multiples = any(number % every == 0 for number in range(before + 1, before + more + 1))
    assert passed(every, before, before + more) == multiples
