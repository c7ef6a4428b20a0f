"""Bootstraps against targets worked out by hand on tables of action values."""

from __future__ import annotations

from typing import Any

import pytest

from dqn_cli.agent.bootstrap import double_bootstrap, greedy_bootstrap
from dqn_cli.core.types import Batch
from tests.agent.toys import batch, table

# The online network prefers action 2 in row 0 and action 0 in row 1; the target network thinks otherwise.
ONLINE = table([[1.0, 2.0, 3.0], [9.0, 0.0, 0.0]])
TARGET = table([[10.0, 30.0, 20.0], [5.0, 6.0, 7.0]])


def three_transitions() -> Batch:
    return batch(
        observation=[[0], [0], [0]],
        action=[0, 1, 2],
        reward=[1.0, -1.0, 4.0],
        discount=[0.5, 0.9, 0.0],
        next_observation=[[0], [1], [1]],
    )


def test_greedy_takes_the_best_value_of_the_target_network():
    backup: Any = greedy_bootstrap(ONLINE, TARGET, three_transitions())
    assert backup.value.tolist() == pytest.approx([1.0 + 0.5 * 30.0, -1.0 + 0.9 * 7.0, 4.0])


def test_double_takes_the_target_s_value_of_the_online_network_s_choice():
    backup: Any = double_bootstrap(ONLINE, TARGET, three_transitions())
    assert backup.value.tolist() == pytest.approx([1.0 + 0.5 * 20.0, -1.0 + 0.9 * 5.0, 4.0])


def test_they_agree_where_the_networks_do():
    greedy: Any = greedy_bootstrap(TARGET, TARGET, three_transitions())
    double: Any = double_bootstrap(TARGET, TARGET, three_transitions())
    assert greedy.value.tolist() == double.value.tolist()


@pytest.mark.parametrize("rule", [greedy_bootstrap, double_bootstrap])
def test_nothing_is_bootstrapped_from_the_observation_itself(rule):
    transitions = three_transitions()
    elsewhere = batch([[1], [1], [1]], [2, 2, 2], [1.0, -1.0, 4.0], [0.5, 0.9, 0.0], [[0], [1], [1]])
    assert rule(ONLINE, TARGET, transitions).value.tolist() == rule(ONLINE, TARGET, elsewhere).value.tolist()
