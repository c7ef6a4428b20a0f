"""Advantage learning against targets worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dqn_cli.agent.advantage import AdvantageBootstrap
from dqn_cli.agent.bootstrap import greedy_bootstrap
from dqn_cli.networks.outputs import QuantileOutput
from tests.agent.test_bootstrap import ONLINE, TARGET, three_transitions
from tests.agent.toys import batch


def targets(alpha: float) -> list[float]:
    rule: Any = AdvantageBootstrap(alpha)
    found: list[float] = rule(ONLINE, TARGET, three_transitions()).value.tolist()
    return found


def test_the_gap_of_the_action_taken_is_taken_off():
    # At row 0 the target network has 10, 30, 20: the gaps of actions 0, 1, 2 are 20, 0, 10.
    greedy = [1.0 + 0.5 * 30.0, -1.0 + 0.9 * 7.0, 4.0]
    expected = [value - 0.5 * gap for value, gap in zip(greedy, (20.0, 0.0, 10.0), strict=True)]
    assert targets(0.5) == pytest.approx(expected)


def test_without_a_part_it_is_greedy():
    greedy: Any = greedy_bootstrap(ONLINE, TARGET, three_transitions())
    assert targets(0.0) == greedy.value.tolist()


def test_a_terminal_transition_has_its_gap_too():
    assert targets(0.5)[2] == pytest.approx(4.0 - 0.5 * 10.0)


def test_the_online_network_has_no_say():
    rule: Any = AdvantageBootstrap(0.5)
    assert rule(ONLINE, TARGET, three_transitions()).value.tolist() == targets(0.5)
    assert rule(TARGET, TARGET, three_transitions()).value.tolist() == targets(0.5)


def test_quantiles_move_by_the_gap_of_means_all_alike():
    output = QuantileOutput(torch.tensor([[[0.0, 2.0], [4.0, 8.0]]]), torch.tensor([0.25, 0.75]))
    network: Any = lambda _: output  # noqa: E731
    transition = batch([[0]], [0], [1.0], [0.5], [[0]])
    found: Any = AdvantageBootstrap(0.5)(network, network, transition)
    assert found.quantiles.tolist() == [[1.0 - 0.5 * (6.0 - 1.0) + 0.5 * 4.0, 1.0 - 0.5 * (6.0 - 1.0) + 0.5 * 8.0]]
