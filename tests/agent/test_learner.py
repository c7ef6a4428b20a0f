"""The learner: one update against the same update by hand, and a state that is whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch

from dqn_cli.agent.augmentation import Augmentations, Intensity
from dqn_cli.agent.bootstrap import DoubleOptions, GreedyOptions
from dqn_cli.agent.gradient import AutogradGradient
from dqn_cli.agent.gradient_step import GradientStep
from dqn_cli.agent.learner import Learner
from dqn_cli.agent.objective import TemporalDifference, quantile_objective
from dqn_cli.agent.optimizers import AdamOptions, AdamWOptions, RMSPropOptions
from dqn_cli.agent.targets import PeriodicOptions, Polyak, PolyakOptions
from dqn_cli.compose import make_environments, make_training
from dqn_cli.core.rng import torch_stream
from dqn_cli.core.schedules import LinearSchedule
from dqn_cli.hardware import resolve_hardware
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.rules.td import squared, squared_slope
from dqn_cli.schema import RunOptions
from tests.agent.toys import (
    WIDTH,
    batch,
    image_network,
    learner,
    noisy_implicit_quantile_network,
    random_batch,
    random_images,
    table,
)
from tests.core.saving import reloaded

NEVER = PeriodicOptions(every_updates=10**9)


def weights(network) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def rows(subject: Learner) -> torch.Tensor:
    """The table of a learner of ``table``."""
    (parameter,) = subject.online.parameters()
    return parameter.detach()


def assert_same_bits(ours, theirs) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def forward(parameters: list[torch.Tensor], observation: torch.Tensor) -> torch.Tensor:
    """The network of ``mlp_network`` written out."""
    w1, b1, w2, b2 = parameters
    return torch.relu(observation.reshape(-1, WIDTH) @ w1.T + b1) @ w2.T + b2


@pytest.mark.parametrize("optimizer", [AdamOptions(lr=0.1), AdamWOptions(lr=0.1), RMSPropOptions(lr=0.1)])
@pytest.mark.parametrize("target", [PeriodicOptions(every_updates=2), PolyakOptions(tau=0.5)])
def test_what_acts_in_bfloat16_is_what_has_learnt(optimizer, target):
    online, slow = (image_network(autocast=torch.bfloat16) for _ in range(2))
    subject = learner(optimizer, target, DoubleOptions(), online=online, slow=slow)
    for number in range(4):
        subject.update(random_images(number), step=number)
        for network in (subject.online, subject.target):
            fresh = image_network(seed=1, autocast=torch.bfloat16)
            fresh.load_state_dict(network.state_dict())
            observation = random_images(9).observation
            with torch.inference_mode():  # as the actor has it, between two updates
                assert torch.equal(network(observation).values(), fresh(observation).values())


@pytest.mark.parametrize("optimizer", [AdamOptions(lr=0.1), RMSPropOptions(lr=0.1)])
@pytest.mark.parametrize("bootstrap", [GreedyOptions(), DoubleOptions()])
def test_several_updates_in_bfloat16_learn_what_one_after_the_other_does(optimizer, bootstrap):
    """Copies of weights in bfloat16 are renewed between two updates of one call."""
    together, apart = (
        learner(
            optimizer,
            PeriodicOptions(every_updates=3),
            bootstrap,
            online=image_network(autocast=torch.bfloat16),
            slow=image_network(autocast=torch.bfloat16),
        )
        for _ in range(2)
    )
    for number in range(4):
        together.update(random_images(number, 48), number, 3)
        for part in range(3):
            apart.update(random_images(number, 48).part(part, 3), number)
    for a, b in zip(weights(together.online), weights(apart.online), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


class TestOneUpdate:
    @pytest.mark.parametrize("double", [False, True])
    def test_equals_the_update_by_hand(self, double):
        subject = learner(AdamOptions(lr=0.01, eps=1e-4), NEVER, DoubleOptions() if double else GreedyOptions())
        with torch.no_grad():
            for parameter in subject.target.parameters():
                parameter.mul_(0.5)  # so that the two networks disagree
        online = [parameter.requires_grad_() for parameter in weights(subject.online)]
        target = weights(subject.target)
        adam = torch.optim.Adam(online, lr=0.01, eps=1e-4)
        for number in range(3):
            b = random_batch(number)
            with torch.no_grad():
                values = forward(target, b.next_observation)
                chosen = (forward(online, b.next_observation) if double else values).argmax(1)
                wanted = b.reward + b.discount * values[torch.arange(16), chosen]
            error = wanted - forward(online, b.observation)[torch.arange(16), b.action]
            loss = torch.where(error.abs() < 1.0, 0.5 * error**2, error.abs() - 0.5)
            adam.zero_grad()
            torch.autograd.backward((b.weight * loss).mean())
            adam.step()
            priority = subject.update(b, step=number)
            torch.testing.assert_close(priority, error.detach().abs(), rtol=0, atol=1e-6)
            for ours, theirs in zip(subject.online.parameters(), online, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
        assert subject.updates == 3

    def test_the_target_network_gets_no_gradient_and_stays(self):
        subject = learner(AdamOptions(), NEVER, DoubleOptions())
        before = weights(subject.target)
        subject.update(random_batch(0), step=0)
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in subject.target.parameters())
        assert_same_bits(weights(subject.target), before)

    def test_no_gradient_flows_through_the_bootstrap(self):
        # One weight is both the prediction and, as the bootstrap of this test has it, the next value.
        online, slow = table([[2.0]]), table([[2.0]])
        subject = Learner(
            online,
            slow,
            AutogradGradient(
                online,
                slow,
                lambda online, _, b: online(b.next_observation).select(b.action).backup(b.reward, b.discount),
                TemporalDifference(squared, squared_slope),
            ),
            GradientStep(list(online.parameters()), torch.optim.SGD(online.parameters(), lr=1.0)),
            Polyak(1.0),
            Augmentations([], torch.Generator()),
        )
        subject.update(batch([[0]], [0], [0.0], [0.5], [[0]]), step=0)
        assert rows(subject).item() == pytest.approx(2.0 + (0.5 * 2.0 - 2.0))

    @pytest.mark.parametrize(("limit", "moved"), [(None, 30.0), (100.0, 30.0), (10.0, 10.0), (0.5, 0.5)])
    def test_the_limit_of_the_gradient_s_norm(self, sgd, limit, moved):
        subject = learner(
            sgd,
            NEVER,
            GreedyOptions(),
            online=table([[0.0, 0.0]]),
            objective=TemporalDifference(squared, squared_slope),
            max_grad_norm=limit,
        )
        # Mean losses of errors 36 and 48 on two actions: a gradient of (18, 24), norm 30.
        subject.update(batch([[0], [0]], [0, 1], [36.0, 48.0], [0.0, 0.0], [[0], [0]]), step=0)
        assert rows(subject).tolist()[0] == pytest.approx([0.6 * moved, 0.8 * moved], rel=1e-5)


class TestTargetNetwork:
    @pytest.mark.parametrize(
        ("options", "copies"), [(PeriodicOptions(every_updates=4), 2), (PeriodicOptions(every_steps=40), 3)]
    )
    def test_copies_of_eleven_updates_over_one_hundred_and_ten_steps(self, options, copies):
        subject = learner(AdamOptions(), options, GreedyOptions())
        changes = 0
        for number in range(11):
            before = weights(subject.target)[0]
            subject.update(random_batch(number), step=10 * (number + 2))
            changes += not torch.equal(before, weights(subject.target)[0])
        assert changes == copies


def test_more_updates_at_once_than_the_target_network_stands_still_are_refused():
    subject = learner(AdamOptions(), PeriodicOptions(every_updates=3), GreedyOptions())
    subject.update(random_batch(0), step=0)
    with pytest.raises(ValueError, match="count must be 1 to 2 now, got 3"):
        subject.update(random_batch(0, size=24), 0, 3)


class TestReport:
    def test_means_since_the_last_report(self, sgd):
        subject = learner(sgd, NEVER, GreedyOptions(), online=table([[0.0, 6.0]]))
        assert subject.report() == {}
        # The action taken has the value 0 before the first update, then 1 after a clipped error of 1.
        for reward in (3.0, 1.0):
            subject.update(batch([[0]], [0], [reward], [0.0], [[0]]), step=0)
        assert subject.report() == pytest.approx({"loss": (2.5 + 0.0) / 2, "q_mean": (0.0 + 1.0) / 2})
        assert subject.report() == {}
        subject.update(batch([[0]], [0], [1.5], [0.0], [[0]]), step=0)
        assert subject.report() == pytest.approx({"loss": 0.125, "q_mean": 1.0})


def rate(subject: Learner) -> float:
    (group,) = subject.state_dict()["optimizer"]["param_groups"]
    return float(group["lr"])


class TestRateSchedule:
    FACTOR = LinearSchedule(1.0, 0.1, 0, 100)

    def test_linear_in_agent_steps(self):
        subject = learner(AdamOptions(lr=0.5), NEVER, GreedyOptions(), rate_factor=self.FACTOR)
        rates = []
        for step in (0, 50, 50, 100, 900):
            subject.update(random_batch(step), step)
            rates.append(rate(subject))
        assert rates == pytest.approx([0.5, 0.275, 0.275, 0.05, 0.05])

    def test_the_rate_of_an_update_is_that_of_its_own_step(self, sgd):
        subject = learner(sgd, NEVER, GreedyOptions(), online=table([[0.0]]), rate_factor=self.FACTOR)
        subject.update(batch([[0]], [0], [9.0], [0.0], [[0]]), step=50)
        assert rows(subject).item() == pytest.approx(0.55)

    def test_a_restored_learner_goes_on_from_the_full_rate(self):
        subject = learner(AdamOptions(lr=0.5), NEVER, GreedyOptions(), rate_factor=self.FACTOR)
        subject.update(random_batch(0), step=50)
        restored = learner(AdamOptions(lr=0.5), NEVER, GreedyOptions(), rate_factor=self.FACTOR)
        restored.load_state_dict(reloaded(subject.state_dict()))
        assert rate(restored) == pytest.approx(0.275)
        restored.update(random_batch(1), step=60)
        assert rate(restored) == pytest.approx(0.5 * 0.46)

    @pytest.mark.parametrize(("schedule", "expected"), [({}, 0.25), ({"end_factor": 0.5, "over_steps": 400}, 0.4375)])
    def test_of_a_run(self, schedule, expected):
        options = RunOptions.model_validate(
            {
                "device": "cpu",
                "total_steps": 200,
                "replay": {"warmup_steps": 0},
                "network": {"torso": {"hidden": [4]}},
                "learning": {"optimizer": {"lr": 0.5}, "lr_schedule": schedule},
            }
        )
        environments = make_environments(options)
        subject = make_training(options, resolve_hardware(options), environments).learner
        environments.close()
        observation = torch.zeros(2, 1, 4)
        subject.update(batch(observation, [0, 1], [1.0, 1.0], [0.9, 0.9], observation), step=100)
        assert rate(subject) == pytest.approx(expected)


SETUPS = {
    "adam, copies by updates": (AdamOptions(lr=0.01), PeriodicOptions(every_updates=3)),
    "rmsprop inside the root, copies by steps": (RMSPropOptions(lr=0.01), PeriodicOptions(every_steps=30)),
    "torch's rmsprop, polyak": (RMSPropOptions(lr=0.01, eps_inside_sqrt=False), PolyakOptions(tau=0.1)),
}


@pytest.mark.parametrize(("optimizer", "target"), SETUPS.values(), ids=SETUPS)
class TestState:
    def make(self, optimizer, target, seed) -> Learner:
        factor = LinearSchedule(1.0, 0.0, 0, 400)
        return learner(optimizer, target, DoubleOptions(), seed=seed, max_grad_norm=0.3, rate_factor=factor)

    def train(self, subject: Learner, numbers: Iterable[int]) -> list[torch.Tensor]:
        return [subject.update(random_batch(number), step=10 * number) for number in numbers]

    def outcome(self, subject: Learner, numbers: Iterable[int]) -> list[torch.Tensor]:
        priorities = self.train(subject, numbers)
        return [*priorities, *weights(subject.online), *weights(subject.target)]

    def test_a_restored_learner_continues_with_the_same_bits(self, optimizer, target):
        subject = self.make(optimizer, target, seed=0)
        self.train(subject, range(5))
        restored = self.make(optimizer, target, seed=1)
        self.train(restored, range(2))  # whatever it did before is gone
        restored.load_state_dict(reloaded(subject.state_dict()))
        assert_same_bits(self.outcome(subject, range(5, 20)), self.outcome(restored, range(5, 20)))
        assert subject.updates == restored.updates == 20
        assert subject.report() == restored.report()

    def test_a_state_does_not_follow_its_learner(self, optimizer, target):
        subject = self.make(optimizer, target, seed=0)
        self.train(subject, range(5))
        state = subject.state_dict()
        expected, report = self.outcome(subject, range(5, 10)), subject.report()
        for _ in range(2):  # nor does it follow a learner that took it over
            subject.load_state_dict(state)
            assert_same_bits(self.outcome(subject, range(5, 10)), expected)
            assert subject.report() == report


def test_augmentations_change_what_is_learnt_from():
    def blank(observation: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        return torch.zeros_like(observation)

    blanked = learner(AdamOptions(), NEVER, GreedyOptions(), augmentations=Augmentations([blank], torch.Generator()))
    plain = learner(AdamOptions(), NEVER, GreedyOptions())
    transitions = random_batch(0)
    nothing = replace(
        transitions,
        observation=torch.zeros_like(transitions.observation),
        next_observation=torch.zeros_like(transitions.next_observation),
    )
    assert torch.equal(blanked.update(transitions, step=0), plain.update(nothing, step=0))
    assert_same_bits(weights(blanked.online), weights(plain.online))


class TestRandomness:
    """Noise and fractions of quantiles: fresh for each update, apart for the two networks, part of the state."""

    def make(self, seed: int = 0, lr: float = 0.01) -> Learner:
        return learner(
            AdamOptions(lr=lr),
            NEVER,
            DoubleOptions(),
            online=noisy_implicit_quantile_network(seed, "online noise"),
            slow=noisy_implicit_quantile_network(seed, "target noise"),
            objective=quantile_objective,
            augmentations=Augmentations([Intensity(0.1)], torch_stream(seed, "augmentation")),
        )

    def noise(self, network: QNetwork) -> torch.Tensor:
        return torch.cat([buffer.clone().flatten() for name, buffer in network.named_buffers() if "noise" in name])

    def test_two_updates_from_one_batch_differ(self):
        # With this step size the weights stay: what changes is what was drawn.
        subject = self.make(lr=1e-30)
        first, second = (subject.update(random_batch(0), step=0) for _ in range(2))
        assert not torch.equal(first, second)

    def test_noise_is_fresh_for_each_update_and_each_network(self):
        subject = self.make()
        drawn = []
        for number in range(3):
            subject.update(random_batch(number), step=number)
            drawn += [self.noise(subject.online), self.noise(subject.target)]
        assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])

    def test_a_restored_learner_continues_with_the_same_bits(self):
        subject, restored = self.make(), self.make(seed=1)
        for number in range(5):
            subject.update(random_batch(number), step=number)
        restored.update(random_batch(0), step=0)
        restored.load_state_dict(reloaded(subject.state_dict()))
        for number in range(5, 9):
            expected = subject.update(random_batch(number), step=number)
            assert torch.equal(restored.update(random_batch(number), step=number), expected)
        assert_same_bits(weights(subject.online), weights(restored.online))

    def test_evaluation_is_deterministic_and_moves_no_stream(self):
        subject, twin = self.make(), self.make()
        for one in (subject, twin):
            one.update(random_batch(0), step=0)
        observation = random_batch(1).observation
        subject.online.eval()
        with torch.inference_mode():
            first, second = (subject.online(observation).values() for _ in range(2))
        subject.online.train()
        assert torch.equal(first, second)
        assert torch.equal(subject.update(random_batch(2), step=1), twin.update(random_batch(2), step=1))
