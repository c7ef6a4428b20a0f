"""How the target network follows: copies are counted, in the unit that the key names (trap 12)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dqn_cli.agent.targets import (
    PeriodicBySteps,
    PeriodicByUpdates,
    PeriodicOptions,
    Polyak,
    PolyakOptions,
    copy_parameters,
)
from dqn_cli.build import TARGETS
from dqn_cli.core.kinds import make
from tests.agent.toys import mlp_network
from tests.core.saving import reloaded


def weight(value: float) -> torch.nn.Linear:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, value)
    return layer


def value(layer: torch.nn.Linear) -> float:
    return layer.weight.item()


def set_value(layer: torch.nn.Linear, number: float) -> None:
    with torch.no_grad():
        layer.weight.fill_(number)


class TestOptions:
    @pytest.mark.parametrize("wrong", [{}, {"every_updates": 5, "every_steps": 5}, {"every_steps": 0}])
    def test_exactly_one_unit(self, wrong):
        with pytest.raises(ValidationError):
            PeriodicOptions.model_validate(wrong)

    @pytest.mark.parametrize("tau", [0.0, 1.5, -0.1])
    def test_tau_is_a_fraction(self, tau):
        with pytest.raises(ValidationError):
            PolyakOptions(tau=tau)

    def test_the_unit_decides(self):
        kinds = [
            type(make(TARGETS, options))
            for options in (PeriodicOptions(every_updates=5), PeriodicOptions(every_steps=5), PolyakOptions())
        ]
        assert kinds == [PeriodicByUpdates, PeriodicBySteps, Polyak]


def test_a_copy_is_a_copy():
    online, target = mlp_network(0), mlp_network(1)
    copy_parameters(online, target)
    for ours, theirs in zip(online.parameters(), target.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()


class Buffered(torch.nn.Linear):
    """A layer with a buffer that belongs to its state, as of spectral normalisation, and noise that does not."""

    def __init__(self, number: float) -> None:
        super().__init__(1, 1)
        self.register_buffer("u", torch.full((2,), number))
        self.register_buffer("noise", torch.full((2,), number), persistent=False)


@pytest.mark.parametrize("rule", [PeriodicByUpdates(1), Polyak(0.25)])
def test_buffers_of_the_state_are_copied_and_noise_is_left_alone(rule):
    online, target = torch.nn.Sequential(Buffered(1.0)), torch.nn.Sequential(Buffered(5.0))
    rule.after_update(online, target, 1)
    assert target.get_buffer("0.u").tolist() == [1.0, 1.0]
    assert target.get_buffer("0.noise").tolist() == [5.0, 5.0]
    online.get_buffer("0.u").zero_()
    assert target.get_buffer("0.u").tolist() == [1.0, 1.0]  # a copy, not the same memory


class TestByUpdates:
    def test_a_copy_after_every_third_update(self):
        rule = make(TARGETS, PeriodicOptions(every_updates=3))
        online, target = weight(0.0), weight(0.0)
        seen = []
        for updates in range(1, 11):
            rule.before_update(online, target, step=10_000 * updates)  # steps do not count here
            set_value(online, float(updates))
            rule.after_update(online, target, updates)
            seen.append(value(target))
        assert seen == [0.0, 0.0, 3.0, 3.0, 3.0, 6.0, 6.0, 6.0, 9.0, 9.0]
        assert rule.copies == 3

    def test_state(self):
        rule = PeriodicByUpdates(1)
        rule.after_update(weight(0.0), weight(0.0), 1)
        restored = PeriodicByUpdates(1)
        restored.load_state_dict(reloaded(rule.state_dict()))
        assert restored.copies == 1


class TestBySteps:
    def test_a_copy_whenever_a_multiple_was_passed(self):
        rule = make(TARGETS, PeriodicOptions(every_steps=10))
        online, target = weight(0.0), weight(-1.0)
        seen = []
        for updates, step in enumerate([4, 8, 12, 12, 16, 20, 24, 47], start=1):
            rule.before_update(online, target, step)
            seen.append(value(target))
            set_value(online, float(updates))
            rule.after_update(online, target, updates)
        # Copies before the updates at steps 12, 20 and 47: multiples that passed together are one copy.
        assert seen == [-1.0, -1.0, 2.0, 2.0, 2.0, 5.0, 5.0, 7.0]
        assert rule.copies == 3

    @given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(0, 20))
    def test_it_is_the_copy_at_the_step_itself(self, num_envs, every_steps, update_every, burst, begin):
        rule = PeriodicBySteps(every_steps)
        online, target = weight(0.0), weight(0.0)
        # What the online network was when the environments took each agent step: the value that the oracle copies.
        at_step = {0: 0.0}
        updates = 0
        for step in range(num_envs, 80, num_envs):
            for number in range(step - num_envs + 1, step + 1):
                at_step[number] = value(online)
            due = max(0, step - begin) // update_every * burst
            while updates < due:
                rule.before_update(online, target, step)
                assert value(target) == at_step[step // every_steps * every_steps]
                updates += 1
                set_value(online, float(updates))
                rule.after_update(online, target, updates)

    def test_state(self):
        rule = PeriodicBySteps(10)
        rule.before_update(weight(1.0), weight(0.0), 25)
        restored = PeriodicBySteps(10)
        restored.load_state_dict(reloaded(rule.state_dict()))
        target = weight(0.0)
        restored.before_update(weight(2.0), target, 29)  # 20 was passed before
        assert (value(target), restored.copies) == (0.0, 1)
        restored.before_update(weight(2.0), target, 30)
        assert (value(target), restored.copies) == (2.0, 2)


class TestPolyak:
    def test_closed_form(self):
        rule = make(TARGETS, PolyakOptions(tau=0.25))
        online, target = weight(2.0), weight(10.0)
        for updates in range(1, 8):
            rule.before_update(online, target, step=updates)
            rule.after_update(online, target, updates)
            assert value(target) == pytest.approx(2.0 + 0.75**updates * 8.0)
        assert value(online) == 2.0

    def test_a_tau_of_one_copies(self):
        online, target = weight(0.3), weight(0.7)
        Polyak(1.0).after_update(online, target, 1)
        assert value(target) == value(online)

    def test_state(self):
        Polyak(0.5).load_state_dict(reloaded(Polyak(0.5).state_dict()))


@pytest.mark.parametrize(
    ("options", "steady"),
    [
        (PeriodicOptions(every_updates=3), [3, 2, 1, 3, 2]),
        (PeriodicOptions(every_steps=3), [None] * 5),
        (PolyakOptions(), [1] * 5),
    ],
)
def test_how_long_the_target_stands_still(options, steady):
    rule = make(TARGETS, options)
    assert [rule.steady(updates) for updates in range(5)] == steady
