"""Bootstraps against targets worked out by hand on tables of action values."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dqn_cli.agent.bootstrap import MunchausenBootstrap, bellman, double_bootstrap, greedy_bootstrap, rescaled
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


class TestMunchausen:
    """Against the formula of Vieillard et al. 2020 written out over the target network's tables."""

    ALPHA, TEMPERATURE, FLOOR = 0.9, 0.5, -1.0

    def expected(self, index: int) -> float:
        transitions = three_transitions()
        row, taken = int(transitions.observation[index, 0]), int(transitions.action[index])
        there: list[float] = TARGET.rows[int(transitions.next_observation[index, 0])].tolist()
        here_log, there_log = (self.log_policy(values) for values in (TARGET.rows[row].tolist(), there))
        bonus = self.ALPHA * min(0.0, max(self.FLOOR, self.TEMPERATURE * here_log[taken]))
        soft = sum(math.exp(log) * (q - self.TEMPERATURE * log) for log, q in zip(there_log, there, strict=True))
        return float(transitions.reward[index]) + bonus + float(transitions.discount[index]) * soft

    def log_policy(self, values: list[float]) -> list[float]:
        weights = [(value - max(values)) / self.TEMPERATURE for value in values]
        total = math.log(sum(math.exp(weight) for weight in weights))
        return [weight - total for weight in weights]

    def backup(self, online, target, alpha=ALPHA, temperature=TEMPERATURE) -> list[float]:
        rule: Any = MunchausenBootstrap(alpha, temperature, self.FLOOR)
        found: list[float] = rule(online, target, three_transitions()).value.tolist()
        return found

    def test_the_formula(self):
        assert self.backup(ONLINE, TARGET) == pytest.approx([self.expected(i) for i in range(3)], rel=1e-5)

    def test_the_online_network_has_no_say(self):
        assert self.backup(ONLINE, TARGET) == self.backup(TARGET, TARGET)

    def test_without_bonus_and_cold_it_is_greedy(self):
        greedy: Any = greedy_bootstrap(ONLINE, TARGET, three_transitions())
        assert self.backup(ONLINE, TARGET, alpha=0.0, temperature=1e-3) == pytest.approx(greedy.value.tolist())

    def test_a_terminal_transition_keeps_its_bonus_alone(self):
        # Action 2 of row 0 is 10 below the best: far beyond the floor.
        assert self.backup(ONLINE, TARGET)[2] == pytest.approx(4.0 + self.ALPHA * self.FLOOR)


class TestRescaled:
    EPS = 1e-2

    @pytest.mark.parametrize("rule", [greedy_bootstrap, double_bootstrap])
    def test_targets_are_formed_on_the_scale_of_returns(self, rule):
        plain, scaled = (rule(ONLINE, TARGET, three_transitions(), backup) for backup in (bellman, rescaled(self.EPS)))
        next_values = [(p - r) / d if d else 0.0 for p, r, d in zip(plain.value.tolist(), *self.terms(), strict=True)]
        expected = [
            h(r + d * h_inverse(v, self.EPS), self.EPS) for v, r, d in zip(next_values, *self.terms(), strict=True)
        ]
        assert scaled.value.tolist() == pytest.approx(expected, rel=1e-4)

    def terms(self) -> tuple[list[float], list[float]]:
        transitions = three_transitions()
        return transitions.reward.tolist(), transitions.discount.tolist()


def h(x: float, eps: float) -> float:
    return math.copysign(math.sqrt(abs(x) + 1) - 1, x) + eps * x


def h_inverse(y: float, eps: float) -> float:
    low, high = -1e6, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if h(middle, eps) < y else (low, middle)
    return low
