"""Optimisers against closed forms and a loop in plain Python (traps 14 and 31)."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from dqn_cli.agent.optimizers import Adam, AdamOptions, AdamWOptions, Optimizer, RMSProp, RMSPropOptions, limit_norm
from dqn_cli.build import OPTIMIZERS
from dqn_cli.core.kinds import make
from tests.core.saving import reloaded

GRADIENTS = [[0.5, -2.0, 1e-3], [-0.25, -1.0, 2e-3], [4.0, 0.0, -5e-3]]
START = [1.0, -1.0, 0.0]


def steps(optimizer: Optimizer, parameter: torch.nn.Parameter, gradients) -> torch.Tensor:
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
        optimizer.step()
    return parameter.detach()


def optimized(options, gradients, dtype=torch.float64) -> list[float]:
    parameter = torch.nn.Parameter(torch.tensor(START, dtype=dtype))
    moved: list[float] = steps(make(OPTIMIZERS, options, [parameter]), parameter, gradients).tolist()
    return moved


def rmsprop_by_hand(o: RMSPropOptions, gradients: list[list[float]]) -> list[float]:
    parameters, square, mean = list(START), [0.0] * 3, [0.0] * 3
    for gradient in gradients:
        for i, g in enumerate(gradient):
            square[i] = o.decay * square[i] + (1 - o.decay) * g * g
            mean[i] = o.decay * mean[i] + (1 - o.decay) * g
            variance = square[i] - mean[i] ** 2 if o.centered else square[i]
            root = math.sqrt(variance + o.eps) if o.eps_inside_sqrt else math.sqrt(variance) + o.eps
            parameters[i] -= o.lr * g / root
    return parameters


class TestRMSProp:
    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize("centered", [True, False])
    @pytest.mark.parametrize("inside", [True, False])
    @pytest.mark.parametrize("eps", [1e-2, 1e-6])
    def test_both_forms_of_eps(self, count, centered, inside, eps):
        options = RMSPropOptions(lr=0.1, decay=0.9, centered=centered, eps=eps, eps_inside_sqrt=inside)
        gradients = GRADIENTS[:count]
        assert optimized(options, gradients) == pytest.approx(rmsprop_by_hand(options, gradients), rel=1e-9, abs=1e-12)

    def test_one_centred_step_in_closed_form(self):
        moved = optimized(RMSPropOptions(lr=0.1, decay=0.95, centered=True, eps=0.01), [[2.0, 2.0, 2.0]])
        root = math.sqrt(0.05 * 4.0 - (0.05 * 2.0) ** 2 + 0.01)
        assert moved == pytest.approx([start - 0.1 * 2.0 / root for start in START], rel=1e-12)

    def test_the_forms_differ(self):
        inside, outside = (
            optimized(RMSPropOptions(lr=0.1, eps=1e-2, eps_inside_sqrt=flag), GRADIENTS[:1]) for flag in (True, False)
        )
        assert all(abs(a - b) > 1e-5 for a, b in zip(inside, outside, strict=True))

    def test_a_gradient_that_never_varies_stays_finite(self):
        # v - m^2 is rounding noise then, which outweighs a small eps.
        parameter = torch.nn.Parameter(torch.zeros(200))
        optimizer = RMSProp([parameter], 1e-3, 0.95, 9.765625e-6, True)
        parameter.grad = torch.logspace(-3, 5, 200)
        for _ in range(400):
            optimizer.step()
        assert torch.isfinite(parameter).all()

    def test_parameters_without_gradient_stay(self):
        used, unused = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.ones(1))
        optimizer = RMSProp([used, unused], 0.1, 0.9, 0.01, True)
        optimizer.step()
        used.grad = torch.ones(1)
        optimizer.step()
        assert used.item() < 0.0
        assert unused.item() == 1.0


REFERENCES = {
    "adam": (AdamOptions(lr=0.01, eps=1e-3), torch.optim.Adam, {}),
    "adamw": (AdamWOptions(lr=0.01, eps=1e-3, weight_decay=0.3), torch.optim.AdamW, {"weight_decay": 0.3}),
}


class TestAdam:
    @pytest.mark.parametrize(("options", "kind", "arguments"), REFERENCES.values(), ids=REFERENCES)
    def test_the_same_bits_as_torch(self, options, kind, arguments):
        generator = torch.Generator().manual_seed(0)
        start = [torch.randn(shape, generator=generator) for shape in ((64, 33), (7,), ())]
        ours, theirs = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
        optimizer = make(OPTIMIZERS, options, ours)
        reference = kind(theirs, lr=0.01, eps=1e-3, fused=True, **arguments)
        for number in range(5):
            for group in (*optimizer.param_groups, *reference.param_groups):
                group["lr"] = 0.01 / (number + 1)  # what a schedule does
            for a, b in zip(ours, theirs, strict=True):
                a.grad = torch.randn(a.shape, generator=generator)
                b.grad = a.grad.clone()
            optimizer.step()
            reference.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def test_parameters_without_gradient_stay(self):
        used, unused = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.ones(1))
        optimizer = Adam([used, unused], 0.1, 1e-8)
        optimizer.step()
        used.grad = torch.ones(1)
        optimizer.step()
        assert used.item() < 0.0
        assert unused.item() == 1.0

    def test_one_step_in_closed_form(self):
        # Bias correction makes the first moments g and g^2: a step of lr g / (|g| + eps).
        moved = optimized(AdamOptions(lr=0.25, eps=0.5), GRADIENTS[:1])
        expected = [start - 0.25 * g / (abs(g) + 0.5) for start, g in zip(START, GRADIENTS[0], strict=True)]
        assert moved == pytest.approx(expected, rel=1e-9)

    def test_weight_decay_is_decoupled_from_the_gradient(self):
        moved = optimized(AdamWOptions(lr=0.25, eps=0.5, weight_decay=0.2), GRADIENTS[:1])
        expected = [s * (1 - 0.25 * 0.2) - 0.25 * g / (abs(g) + 0.5) for s, g in zip(START, GRADIENTS[0], strict=True)]
        assert moved == pytest.approx(expected, rel=1e-9)


class TestLimitNorm:
    @pytest.mark.parametrize("limit", [5.0, 0.1, 1e-3, 1e-6])
    @pytest.mark.parametrize("scale", [1e-3, 0.999998, 0.9999993, 0.9999999, 1.0, 1.0000001, 7.0, math.inf, math.nan])
    def test_the_same_bits_as_torch(self, scale, limit):
        gradients = [torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])]
        ours, theirs = ([torch.nn.Parameter(torch.zeros_like(g)) for g in gradients] for _ in range(2))
        for parameters in (ours, theirs):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient * (scale * limit / 5.0)
        unused = torch.nn.Parameter(torch.zeros(2))
        limit_norm([*ours, unused], limit)
        torch.nn.utils.clip_grad_norm_([*theirs, unused], limit)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0, equal_nan=True)


def test_without_gradients_there_is_nothing_to_limit():
    limit_norm([torch.nn.Parameter(torch.zeros(2))], 5.0)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"lr": -1.0}, {"eps": 0.0}, {"decay": 1.5}, {"momentum": 0.9}, {"centered": 1}]
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        RMSPropOptions.model_validate(wrong)


@pytest.mark.parametrize(
    "options",
    [AdamOptions(), RMSPropOptions(), RMSPropOptions(centered=False), RMSPropOptions(eps_inside_sqrt=False)],
    ids=["adam", "inside-centred", "inside-plain", "outside"],
)
def test_a_restored_optimizer_takes_the_same_steps(options):
    parameter = torch.nn.Parameter(torch.tensor(START))
    optimizer = make(OPTIMIZERS, options, [parameter])
    steps(optimizer, parameter, GRADIENTS)
    twin = torch.nn.Parameter(parameter.detach().clone())
    restored = make(OPTIMIZERS, options, [twin])
    restored.load_state_dict(reloaded(optimizer.state_dict()))
    assert torch.equal(steps(optimizer, parameter, GRADIENTS), steps(restored, twin, GRADIENTS))


class TestOptimizerState:
    """In the format of torch's own, so that a checkpoint does not depend on whose class it was."""

    def test_it_is_that_of_torch(self):
        ours, theirs = (torch.nn.Parameter(torch.tensor(START)) for _ in range(2))
        subject = make(OPTIMIZERS, AdamOptions(lr=0.01), [ours])
        reference = torch.optim.Adam([theirs], lr=0.01, fused=True)
        steps(subject, ours, GRADIENTS)
        for gradient in GRADIENTS:
            theirs.grad = torch.tensor(gradient)
            reference.step()
        own, expected = subject.state_dict(), reference.state_dict()
        assert own["state"].keys() == expected["state"].keys()
        for name, value in expected["state"][0].items():
            assert torch.equal(own["state"][0][name], value), name
        (group,) = own["param_groups"]
        assert {**expected["param_groups"][0], **group} == expected["param_groups"][0]
        twin = make(OPTIMIZERS, AdamOptions(lr=0.5), [torch.nn.Parameter(torch.tensor(START))])
        twin.load_state_dict(reloaded(own))
        assert twin.param_groups[0]["lr"] == 0.01

    @pytest.mark.parametrize("options", [AdamOptions(), RMSPropOptions(), RMSPropOptions(eps_inside_sqrt=False)])
    def test_of_other_parameters_it_is_refused(self, options):
        def made(*shapes: tuple[int, ...]) -> Optimizer:
            optimizer: Optimizer = make(
                OPTIMIZERS, options, [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
            )
            for parameter in optimizer.param_groups[0]["params"]:
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            return optimizer

        state = made((3,), (2,)).state_dict()
        with pytest.raises(ValueError, match="of 2 parameters, not 1"):
            made((3,)).load_state_dict(state)
        with pytest.raises(ValueError, match="of parameter 1 does not fit it"):
            made((3,), (4,)).load_state_dict(state)

    @pytest.mark.parametrize(
        "broken",
        [
            lambda state: state["state"][0].update(exp_avg=state["state"][0]["exp_avg"].double()),
            lambda state: state["state"][0].update(exp_avg=state["state"][0]["exp_avg"].to_sparse()),
            lambda state: state["state"][0].update(step=torch.tensor(3)),
            lambda state: state["state"][0].pop("step"),
            lambda state: state["state"].update({-1: state["state"].pop(0)}),
            lambda state: state["state"].update({7: state["state"].pop(0)}),
            lambda state: state["param_groups"][0].update(betas=None),
            lambda state: state["param_groups"][0].update(betas=[0.9]),
            lambda state: state["param_groups"][0].update(eps="a"),
            lambda state: state["param_groups"][0].update(lr=math.nan),
            lambda state: state["param_groups"][0].update(momentum=0.0),
            lambda state: state["param_groups"].append({}),
        ],
    )
    def test_a_malformed_one_is_refused(self, broken):
        parameter = torch.nn.Parameter(torch.tensor(START))
        subject = Adam([parameter], 0.1, 1e-8)
        steps(subject, parameter, GRADIENTS)
        state = reloaded(subject.state_dict())
        broken(state)
        with pytest.raises(ValueError, match=r"optimiser's|unpack"):
            subject.load_state_dict(state)

    def test_its_memory_is_its_own(self):
        parameter = torch.nn.Parameter(torch.tensor(START))
        subject = Adam([parameter], 0.1, 1e-8)
        steps(subject, parameter, GRADIENTS)
        state = reloaded(subject.state_dict())
        before = state["state"][0]["exp_avg"].clone()
        subject.load_state_dict(state)
        steps(subject, parameter, GRADIENTS)
        assert torch.equal(state["state"][0]["exp_avg"], before)
