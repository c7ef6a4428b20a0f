"""The composition root: what only shows once the parts are together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dqn_cli.agent.advantage import AdvantageOptions
from dqn_cli.agent.augmentation import IntensityOptions, RandomShiftOptions
from dqn_cli.agent.bootstrap import MunchausenOptions
from dqn_cli.agent.gradient import WrittenOutGradient
from dqn_cli.agent.optimizers import CosineRateOptions, LinearRateOptions
from dqn_cli.build import AUGMENTATIONS, BOOTSTRAPS, HEADS, RATE_SCHEDULES
from dqn_cli.compose import make_environments, make_training, network_shape, way_to_gradients
from dqn_cli.core.kinds import make
from dqn_cli.core.types import ObservationSpec
from dqn_cli.envs.contract import EnvironmentSpec
from dqn_cli.hardware import Hardware, resolve_hardware
from dqn_cli.plan import make_plan
from dqn_cli.rules.rescaling import rescale, unrescale
from dqn_cli.schema import RunOptions
from dqn_cli.training.loop import Finished


@contextmanager
def training(**sections: Any) -> Iterator[Any]:
    options = RunOptions.model_validate(
        {
            "device": "cpu",
            "total_steps": 200,
            "network": {"torso": {"hidden": [8]}, **sections.pop("network", {})},
            "replay": {"warmup_steps": 20, **sections.pop("replay", {})},
            "learning": {"batch_size": 8, **sections.pop("learning", {})},
            **sections,
        }
    )
    environments = make_environments(options)
    try:
        yield make_training(options, resolve_hardware(options), environments)
    finally:
        environments.close()


def noise(network: torch.nn.Module) -> list[float]:
    return [value for name, buffer in network.named_buffers() if "noise" in name for value in buffer.tolist()]


def test_online_and_target_network_have_the_same_weights_and_other_noise():
    with training(network={"noisy": {}}) as made:
        learner = made.learner
    for network in (learner.online, learner.target):
        network.resample()
    assert all(torch.equal(a, b) for a, b in zip(learner.online.parameters(), learner.target.parameters(), strict=True))
    assert set(noise(learner.online)).isdisjoint(noise(learner.target))


@pytest.mark.parametrize(
    ("sections", "written_out"),
    [
        ({}, True),
        ({"network": {"head": {"kind": "scalar", "dueling": True}}}, True),
        ({"network": {"noisy": {}}}, False),
        ({"network": {"head": {"kind": "quantile"}}}, False),
    ],
    ids=["plain", "dueling", "noisy", "quantile"],
)
def test_the_plan_says_how_gradients_are_found(sections, written_out):
    with training(**sections) as made:
        assert isinstance(made.learner._gradient, WrittenOutGradient) is written_out
    options = RunOptions.model_validate({"device": "cpu", **sections})
    assert make_plan(options).gradients == ("written out" if written_out else "by autograd")


@pytest.mark.parametrize(
    ("torso", "graphs", "expected"),
    [("mlp", False, "written out"), ("cnn", False, "by autograd"), ("cnn", True, "by CUDA graph")],
)
def test_and_so_it_does_for_a_gpu(torso, graphs, expected):
    options = RunOptions.model_validate({"cuda_graphs": graphs, "network": {"torso": {"kind": torso}}})
    observation = ObservationSpec((84, 84), np.dtype(np.uint8), stack=4, scale=1 / 255)
    spec = EnvironmentSpec("images", 2, observation, 3)
    gpu = Hardware(torch.device("cuda"), 1, "float32", "contiguous")
    assert way_to_gradients(options, network_shape(options, spec, gpu), gpu) == expected


def test_resets_of_a_run_have_fresh_weights_each_and_leave_its_end_alone():
    # 45 bursts of one update: resets at 10, 20 and 30, and none at 40, after which too little would follow.
    heads = []
    with training(learning={"resets": {"every_updates": 10}}) as made:
        after_update = made.learner._resets.after_update

        def seen(online: Any, target: Any, updates: int, step: Any) -> None:
            before = online.head.state_dict()["streams.out.weight"].clone()
            after_update(online, target, updates, step)
            after = online.head.state_dict()["streams.out.weight"].clone()
            if not torch.equal(before, after):
                heads.append((updates, after))

        made.learner._resets.after_update = seen
        *_, last = made.loop.run()
    assert isinstance(last, Finished)
    assert [updates for updates, _ in heads] == [10, 20, 30]
    assert not torch.equal(heads[0][1], heads[1][1])


@pytest.mark.parametrize(("over_steps", "expected"), [(None, 0.7), (400, 0.55)])
def test_beta_rises_over_the_run_or_over_the_steps_it_is_given(over_steps, expected):
    sampler = {"kind": "prioritized", "beta": {"start": 0.4, "end": 1.0, "over_steps": over_steps}}
    with training(replay={"sampler": sampler}) as made:
        assert made.replay._sampler._beta(100) == pytest.approx(expected)


def test_value_rescaling_of_a_config_reaches_the_targets():
    seen = []
    with training(learning={"value_rescaling": {"eps": 1e-2}, "bootstrap": {"kind": "greedy"}}) as made:
        learner = made.learner
        gradient = learner._gradient
        bootstrap = gradient._bootstrap

        def looked_at(*arguments: Any) -> Any:
            backup = bootstrap(*arguments)
            seen.append(backup.value)
            return backup

        gradient._bootstrap = looked_at
        fill(made)
        batch = made.replay.sample(8, 0)
        values = learner.target(batch.next_observation).values().amax(1)
        learner.update(batch, 0)
    returns = batch.reward + batch.discount * unrescale(values, 1e-2)
    torch.testing.assert_close(seen[0], rescale(returns, 1e-2))


def test_what_is_kept_of_a_torso_is_the_config_s():
    with training(learning={"resets": {"every_updates": 10, "keep_torso": 0.25}}) as made:
        online = made.learner.online
        fill(made)
        for _ in range(9):
            made.learner.update(made.replay.sample(8, 0), 0)
        fresh = made.learner._resets._fresh(1)
        assert made.learner._resets._keep_torso == 0.25
        made.learner.update(made.replay.sample(8, 0), 0)
    # What the tenth update moved is small beside what the reset did.
    towards = torch.cat([p.flatten() for p in fresh.torso.parameters()])
    found = torch.cat([p.flatten() for p in online.torso.parameters()])
    assert torch.corrcoef(torch.stack((towards, found)))[0, 1].item() > 0.8


@pytest.mark.parametrize("rescaling", [None, {}])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("bootstrap", BOOTSTRAPS)
def test_each_combination_is_refused_or_learns(bootstrap, head, rescaling):
    sections = {
        "network": {"head": {"kind": head}},
        "learning": {"bootstrap": {"kind": bootstrap}, "value_rescaling": rescaling},
    }
    adds = bootstrap in ("munchausen", "advantage")
    meaningless = (adds and (head == "categorical" or rescaling is not None)) or (
        rescaling is not None and head != "scalar"
    )
    if meaningless:
        with pytest.raises(ValidationError, match="has no meaning"), training(**sections):
            pass
        return
    with training(**sections) as made:
        fill(made)
        assert torch.isfinite(made.learner.update(made.replay.sample(8, 0), 0)).all()


@pytest.mark.parametrize(
    ("table", "options", "arguments", "expected"),
    [
        (
            BOOTSTRAPS,
            MunchausenOptions(alpha=0.1, temperature=0.2, floor=-0.3),
            [None],
            {"_alpha": 0.1, "_temperature": 0.2, "_floor": -0.3},
        ),
        (BOOTSTRAPS, AdvantageOptions(alpha=0.1), [None], {"_alpha": 0.1}),
        (AUGMENTATIONS, RandomShiftOptions(pixels=3), [], {"_pixels": 3}),
        (AUGMENTATIONS, IntensityOptions(scale=0.2), [], {"_scale": 0.2}),
        (RATE_SCHEDULES, LinearRateOptions(end_factor=0.1, over_steps=7), [99], {"end": 0.1, "over_steps": 7}),
        (RATE_SCHEDULES, CosineRateOptions(end_factor=0.1), [99], {"end": 0.1, "over_steps": 99}),
    ],
)
def test_each_option_reaches_its_argument(table, options, arguments, expected):
    made = make(table, options, *arguments)
    assert {name: getattr(made, name) for name in expected} == expected


def fill(made: Any) -> None:
    """Takes some steps, so that there is something to sample."""
    observation = made.environments.reset()
    made.replay.begin(observation)
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = rng.integers(made.environments.spec.num_actions, size=made.environments.spec.num_envs)
        made.environments.send(actions)
        result = made.environments.recv()
        told = (result.reward, result.terminal, result.truncated, result.successor, result.restarted)
        made.replay.append(actions, *told, result.observation)


@pytest.mark.parametrize(("threads", "tiny"), [(1, 0.0), (2, 1e-40)])
def test_tiny_numbers_are_zero_in_updates_of_one_thread_alone(threads, tiny):
    """Where several compute, the setting would be that of one of them."""
    seen = []

    def product() -> float:
        return (torch.tensor([1e-30, 1.0]) * torch.tensor([1e-10, 1.0]))[0].item()

    with training(threads=threads) as made:
        fill(made)
        before_update = made.learner._target_update.before_update

        def looked(*arguments: Any) -> None:
            seen.append(product())
            before_update(*arguments)

        made.learner._target_update.before_update = looked
        made.learner.update(made.replay.sample(8, 0), 0)
    assert seen == [pytest.approx(tiny, rel=1e-4)]
    assert product() > 0.0
