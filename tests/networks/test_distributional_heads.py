"""Heads that say more of the return than its mean: categorical, quantile, implicit quantile."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import pytest
import torch

from dqn_cli.build import HEADS
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import torch_stream
from dqn_cli.networks.heads import CategoricalOptions, DuelingStreams, HeadInputs, PlainStream, QuantileOptions
from dqn_cli.networks.implicit_quantile import ImplicitQuantileOptions
from dqn_cli.networks.layers import linear_factory
from dqn_cli.networks.noisy import NoisyLinear, noisy_factory

BATCH, FEATURES, ACTIONS = 3, 5, 2
ACTION = torch.tensor([1, 0, 1])


def head(options: Any, noisy: bool = False) -> Any:
    generator = torch_stream(0, "network")
    plain = linear_factory(generator)
    linear = noisy_factory(0.5, generator) if noisy else plain
    return make(HEADS, options, HeadInputs(FEATURES, ACTIONS, linear, plain, torch_stream(0, "noise")))


def features() -> torch.Tensor:
    return torch.randn(BATCH, FEATURES, generator=torch_stream(0, "features"))


ALL = [
    CategoricalOptions(atoms=7, hidden=(6,)),
    QuantileOptions(quantiles=7, hidden=(6,)),
    ImplicitQuantileOptions(quantiles=7, acting_quantiles=9, cosines=8, hidden=(6,)),
]


@pytest.mark.parametrize("options", ALL, ids=lambda o: o.kind)
@pytest.mark.parametrize("dueling", [False, True])
class TestAll:
    def test_shapes(self, options, dueling):
        output = head(options.model_copy(update={"dueling": dueling}))(features())
        assert output.values().shape == (BATCH, ACTIONS)
        prediction = output.select(ACTION)
        assert prediction.mean().shape == (BATCH,)
        backup = prediction.backup(torch.ones(BATCH), torch.zeros(BATCH))
        assert backup.mean().tolist() == pytest.approx([1.0] * BATCH)
        assert output.mix(torch.full((BATCH, ACTIONS), 0.5)).mean().shape == (BATCH,)

    def test_dueling_is_chosen_by_its_option(self, options, dueling):
        subject = head(options.model_copy(update={"dueling": dueling}))
        assert type(subject.streams) is (DuelingStreams if dueling else PlainStream)

    def test_every_parameter_learns(self, options, dueling):
        subject = head(options.model_copy(update={"dueling": dueling}))
        prediction = subject(features()).select(ACTION)
        numbers = prediction.logits if options.kind == "categorical" else prediction.quantiles
        numbers.square().sum().backward()
        assert all(parameter.grad is not None for parameter in subject.parameters())

    def test_buffers_follow_from_the_config_and_are_not_saved(self, options, dueling):
        subject = head(options.model_copy(update={"dueling": dueling}))
        assert set(subject.state_dict()) == {name for name, _ in subject.named_parameters()}

    def test_noisy_layers_are_those_of_the_streams(self, options, dueling):
        subject = head(options.model_copy(update={"dueling": dueling}), noisy=True)
        noisy = {name.split(".")[0] for name, module in subject.named_modules() if isinstance(module, NoisyLinear)}
        assert noisy == {"streams"}


def test_the_support_is_evenly_spaced_from_end_to_end():
    assert head(CategoricalOptions(atoms=5, v_min=-1.0, v_max=3.0)).support.tolist() == [-1.0, 0.0, 1.0, 2.0, 3.0]


def test_quantiles_belong_to_the_midpoints_of_equal_parts():
    assert head(QuantileOptions(quantiles=4)).fractions.tolist() == [0.125, 0.375, 0.625, 0.875]


class TestImplicit:
    OPTIONS = ImplicitQuantileOptions(quantiles=6, acting_quantiles=4, cosines=8)

    def test_quantiles_are_the_paper_s_formula(self):
        subject, fractions = head(self.OPTIONS), torch.tensor([[0.1, 0.9], [0.3, 0.5], [0.2, 0.7]])
        found = subject.quantiles(features(), fractions)
        assert found.shape == (BATCH, ACTIONS, 2)
        for b in range(BATCH):
            for k in range(2):
                cosines = torch.tensor([cos(pi * i * fractions[b, k].item()) for i in range(8)])
                mixed = features()[b] * torch.relu(subject.embedding(cosines))
                torch.testing.assert_close(found[b, :, k], subject.streams.out(mixed), rtol=0, atol=1e-5)

    def test_fractions_are_fresh_at_each_use_and_uniform(self):
        subject = head(self.OPTIONS)
        output = subject(features())
        first, second = output.select(ACTION), output.select(ACTION)
        assert first.fractions.shape == (BATCH, 6)
        assert not torch.equal(first.fractions, second.fractions)
        assert not torch.equal(first.quantiles, second.quantiles)
        drawn = subject.draw(5_000).flatten()
        assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)
        assert drawn.var().item() == pytest.approx(1 / 12, abs=0.005)

    def test_each_observation_has_fractions_of_its_own(self):
        fractions = head(self.OPTIONS)(features()).select(ACTION).fractions
        assert not torch.equal(fractions[0], fractions[1])

    def test_selected_quantiles_are_those_of_the_drawn_fractions(self):
        subject = head(self.OPTIONS)
        prediction = subject(features()).select(ACTION)
        every = subject.quantiles(features(), prediction.fractions)
        torch.testing.assert_close(prediction.quantiles, every[torch.arange(BATCH), ACTION])

    def test_a_mixture_of_one_action_is_the_selection_of_it(self):
        subject = head(self.OPTIONS)
        output, state = subject(features()), subject._generator.get_state()
        selected = output.select(ACTION)
        subject._generator.set_state(state)
        mixed = output.mix(torch.nn.functional.one_hot(ACTION, ACTIONS).float())
        torch.testing.assert_close(mixed.quantiles, selected.quantiles)
        assert torch.equal(mixed.fractions, selected.fractions)

    def test_a_mixture_is_the_expectation_of_each_quantile(self):
        subject, policy = head(self.OPTIONS), torch.tensor([[0.25, 0.75]]).expand(BATCH, -1)
        mixed = subject(features()).mix(policy)
        every = subject.quantiles(features(), mixed.fractions)
        torch.testing.assert_close(mixed.quantiles, 0.25 * every[:, 0] + 0.75 * every[:, 1])

    def test_values_come_from_fixed_fractions_and_draw_nothing(self):
        subject = head(self.OPTIONS)
        output, state = subject(features()), subject._generator.get_state()
        fixed = torch.tensor([[0.125, 0.375, 0.625, 0.875]]).expand(BATCH, -1)
        torch.testing.assert_close(output.values(), subject.quantiles(features(), fixed).mean(2))
        assert torch.equal(output.values(), output.values())
        assert torch.equal(state, subject._generator.get_state())
