"""Heads: the streams behind the action values."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dqn_cli.build import HEADS
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.heads import DuelingStreams, HeadInputs, PlainStream, ScalarOptions
from dqn_cli.networks.layers import LinearFactory, linear_factory


def factory() -> LinearFactory:
    return linear_factory(torch_stream(0, "network"))


def inputs(width=5, actions=2) -> HeadInputs:
    return HeadInputs(width, actions, factory(), factory(), torch_stream(0, "noise"))


def features(batch=3, width=5) -> torch.Tensor:
    return torch.randn(batch, width, generator=torch_stream(0, "features"))


@pytest.mark.parametrize("streams", [PlainStream, DuelingStreams])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
@pytest.mark.parametrize("atoms", [1, 4])
def test_shapes(streams, hidden, atoms):
    assert streams(5, 2, atoms, hidden, factory())(features()).shape == (3, 2, atoms)


def test_plain_atoms_lie_together_for_each_action():
    stream = PlainStream(5, 2, 3, (), factory())
    assert torch.equal(stream(features()).flatten(1), stream.out(features()))


class TestDueling:
    @pytest.mark.parametrize("atoms", [1, 4])
    def test_the_mean_over_actions_is_the_state_value(self, atoms):
        streams = DuelingStreams(5, 3, atoms, (7,), factory())
        out, value = streams(features()), streams.value(features())
        torch.testing.assert_close(out.mean(1), value.squeeze(1))

    @pytest.mark.parametrize("atoms", [1, 4])
    def test_a_constant_in_all_advantages_changes_nothing(self, atoms):
        streams: Any = DuelingStreams(5, 3, atoms, (), factory())
        before = streams(features())
        with torch.no_grad():
            streams.advantage.out.bias += 10.0
        torch.testing.assert_close(streams(features()), before, rtol=0, atol=1e-5)

    def test_a_constant_in_the_value_moves_all_actions_by_it(self):
        streams: Any = DuelingStreams(5, 3, 1, (), factory())
        before = streams(features())
        with torch.no_grad():
            streams.value.out.bias += 10.0
        torch.testing.assert_close(streams(features()), before + 10.0, rtol=0, atol=1e-5)

    def test_differences_are_those_of_the_advantages(self):
        streams = DuelingStreams(5, 3, 1, (7,), factory())
        out, advantage = streams(features()), streams.advantage(features())
        torch.testing.assert_close(out - out[:, :1], advantage - advantage[:, :1])


class TestScalarHead:
    @pytest.mark.parametrize("dueling", [False, True])
    def test_values_are_of_shape_batch_by_actions(self, dueling):
        head = make(HEADS, ScalarOptions(dueling=dueling, hidden=(4,)), inputs())
        assert head(features()).values().shape == (3, 2)
        assert head(features(batch=1)).values().shape == (1, 2)

    def test_dueling_is_chosen_by_its_option(self):
        kinds = {option: make(HEADS, ScalarOptions(dueling=option), inputs()).streams for option in (False, True)}
        assert type(kinds[False]) is PlainStream
        assert type(kinds[True]) is DuelingStreams
