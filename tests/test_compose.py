"""The composition root: what only shows once the parts are together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from dqn_cli.compose import make_environments, make_training
from dqn_cli.hardware import resolve_hardware
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
