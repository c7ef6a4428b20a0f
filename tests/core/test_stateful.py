"""Copies of states that later changes do not reach."""

from __future__ import annotations

import torch

from dqn_cli.core.stateful import State, detached


def test_tensors_are_copied_at_every_depth():
    parameter = torch.nn.Parameter(torch.ones(2))
    state: State = {"a": parameter, "b": [torch.zeros(2), {"c": (torch.full((2,), 2.0), 3, "text", None)}]}
    copy = detached(state)
    with torch.no_grad():
        parameter.add_(1.0)
        state["b"][0].add_(1.0)
        state["b"][1]["c"][0].add_(1.0)
    assert copy["a"].tolist() == [1.0, 1.0]
    assert not copy["a"].requires_grad
    assert copy["b"][0].tolist() == [0.0, 0.0]
    assert copy["b"][1]["c"][0].tolist() == [2.0, 2.0]
    assert copy["b"][1]["c"][1:] == (3, "text", None)


def test_containers_are_copied():
    state: State = {"a": {"b": 1}, "c": [1, 2]}
    copy = detached(state)
    state["a"]["b"] = 2
    state["c"].append(3)
    assert copy == {"a": {"b": 1}, "c": [1, 2]}
