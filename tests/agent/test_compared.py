"""A quick way to gradients that is compared with the plain one on the first batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dqn_cli.agent.bootstrap import bellman
from dqn_cli.agent.compared import ComparedGradient, difference
from dqn_cli.agent.gradient import AutogradGradient, Gradient, Measured, gradient_of
from dqn_cli.build import BOOTSTRAPS, OBJECTIVES
from dqn_cli.core.kinds import make
from dqn_cli.networks.qnetwork import QNetwork
from tests.agent.test_gradient import BOOTSTRAP_OPTIONS, Descent, joined, networks
from tests.agent.toys import random_batch


def ways(kind: str = "greedy") -> tuple[QNetwork, Gradient, Gradient]:
    """The online network, and the quick and the plain way to its gradients."""
    online, target = networks()
    options: Any = BOOTSTRAP_OPTIONS[kind]
    bootstrap, objective = make(BOOTSTRAPS, options, bellman), OBJECTIVES["scalar"]["huber"]
    quick = gradient_of(online, target, bootstrap, objective, options.asks_online)
    plain = AutogradGradient(online, target, bootstrap, objective)
    assert not isinstance(quick, AutogradGradient)
    return online, quick, plain


class Wrong:
    """A way that is quick, and off in the gradient of the last parameter."""

    def __init__(self, quick: Gradient, last: torch.Tensor) -> None:
        self._quick, self._last, self.most = quick, last, quick.most
        self.calls = 0

    def __call__(self, batch, count, descend) -> Measured:
        self.calls += 1

        def spoilt() -> None:
            assert self._last.grad is not None
            self._last.grad.mul_(1.1)
            descend()

        return self._quick(batch, count, spoilt)


def updates(online: QNetwork, gradient: Gradient, counts: list[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The gradients of each update, and what was measured."""
    descent, measured = Descent(online), []
    number = 0
    for count in counts:
        found = gradient(joined(random_batch(number + each) for each in range(count)), count, descent)
        number += count
        measured += [found.loss, found.q_mean, found.priority]
    return descent.gradients, measured


@pytest.mark.parametrize("kind", ["greedy", "double"])
@pytest.mark.parametrize("counts", [[1, 3], [8, 1]])
def test_the_quick_way_is_taken_where_both_agree(kind, counts):
    told: list[str] = []
    online, quick, plain = ways(kind)
    found = updates(online, ComparedGradient(quick, plain, list(online.parameters()), told.append), counts)
    online, quick, _ = ways(kind)
    expected = updates(online, quick, counts)
    assert told == []
    for ours, theirs in zip(found[0] + found[1], expected[0] + expected[1], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("counts", [[1, 1, 1], [3, 1]])
def test_the_plain_way_is_taken_where_they_differ_and_it_is_said_once(counts):
    told: list[str] = []
    online, quick, plain = ways()
    parameters = list(online.parameters())
    wrong = Wrong(quick, parameters[-1])
    compared = ComparedGradient(wrong, plain, parameters, told.append)
    assert compared.most == quick.most
    found = updates(online, compared, counts)
    online, _, plain = ways()
    expected = updates(online, plain, [1] * sum(counts))
    (message,) = told
    assert message.startswith(f"updates: written out, gradient {len(parameters) - 1} is off by ")
    assert message.endswith("; gradients are found by autograd")
    assert (wrong.calls, compared.most) == (1, 1)
    for ours, theirs in zip(found[0], expected[0], strict=True):
        assert torch.equal(ours, theirs)
    for name in range(3):
        assert torch.equal(torch.cat(found[1][name::3]), torch.cat(expected[1][name::3]))


def test_what_counts_as_a_difference():
    one, small = torch.tensor([1.0, -2.0]), torch.tensor([3e-5])
    assert difference([one] * 4, [one] * 4) is None
    assert difference([one, one, one * 1.0005, one], [one] * 4) is None
    assert difference([one * 1.1, one, one], [one] * 3) == "the loss is off by 0.2 where the largest number is 2"
    assert difference([one, one * 1.1, one], [one] * 3) == "the priority is off by 0.2 where the largest number is 2"
    assert difference([one, one, one, one * float("nan")], [one] * 4) == (
        "gradient 1 is off by nan where the largest number is 2"
    )
    assert difference([one, one, one[:1]], [one] * 3) == "gradient 0 has shape (1,) for (2,)"
    # What is left of sums that cancel is rounding.
    assert difference([one, one, one, small], [one, one, one, 0.5 * small]) is None
    assert difference([one, one, one, 10 * small], [one, one, one, 0.5 * small]) is not None
    assert difference([0 * one] * 3, [0 * one] * 3) is None
