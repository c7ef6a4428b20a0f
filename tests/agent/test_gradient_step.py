"""From a loss to changed parameters."""

from __future__ import annotations

import pytest
import torch

from dqn_cli.agent.gradient_step import GradientStep
from tests.core.saving import reloaded


def step(max_norm: float | None = None, factor=None) -> tuple[GradientStep, torch.nn.Parameter]:
    weight = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
    return GradientStep([weight], torch.optim.SGD([weight], lr=1.0, momentum=0.5), max_norm, factor), weight


def slope(weight: torch.nn.Parameter) -> torch.nn.Parameter:
    weight.grad = torch.tensor([-3.0, -4.0])
    return weight


def test_a_step_goes_against_the_gradient():
    subject, weight = step()
    slope(weight)
    subject(0)
    assert weight.tolist() == [3.0, 4.0]


def test_limit_and_rate():
    subject, weight = step(max_norm=2.5, factor=lambda step: step / 10)
    slope(weight)
    subject(5)
    assert weight.tolist() == pytest.approx([0.75, 1.0], rel=1e-5)


def test_what_is_forgotten_starts_like_new():
    subject, weight = step()
    slope(weight)
    subject(0)
    subject.forget([weight])
    slope(weight)
    subject(0)
    assert weight.tolist() == [6.0, 8.0]  # with its momentum it would be [7.5, 10]


def test_the_state_is_whole():
    (subject, weight), (twin, other) = step(), step()
    slope(weight)
    subject(0)
    with torch.no_grad():
        other.copy_(weight)
    twin.load_state_dict(reloaded(subject.state_dict()))
    slope(weight)
    subject(0)
    slope(other)
    twin(0)
    assert weight.tolist() == other.tolist() == [7.5, 10.0]
