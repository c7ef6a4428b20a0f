"""Prioritized replay on a device, which here is the CPU, against that of the host: one behaviour."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.core.devices import to_host
from dqn_cli.core.errors import DivergedError, UsageError
from dqn_cli.core.rng import stream
from dqn_cli.core.schedules import LinearSchedule
from dqn_cli.replay.device_prioritized import DevicePrioritizedSampler
from dqn_cli.replay.prioritized import PrioritizedSampler
from tests.core.saving import reloaded
from tests.replay.streams import Episode, ScriptedStream, contents, make_replay

CPU = torch.device("cpu")


def both(capacity: int, alpha: float = 0.7) -> tuple[PrioritizedSampler, DevicePrioritizedSampler]:
    beta, (rng, twin) = LinearSchedule(0.4, 1.0, 0, 20), (stream(0, "replay") for _ in range(2))
    return (
        PrioritizedSampler(capacity, alpha, beta, 0.01, rng),
        DevicePrioritizedSampler(capacity, alpha, beta, 0.01, twin, CPU),
    )


def assert_alike(host: PrioritizedSampler, device: DevicePrioritizedSampler) -> None:
    expected, found = host.state_dict(), device.state_dict()
    np.testing.assert_allclose(found.pop("priorities"), expected.pop("priorities"), rtol=1e-12)
    assert found == expected


@settings(max_examples=60)
@given(data=st.data(), capacity=st.integers(1, 40), alpha=st.sampled_from([0.0, 0.6, 1.0]))
def test_it_does_what_the_host_s_does(data, capacity, alpha):
    """A ring that wraps, in jumps that may be longer than itself, with updates that are late, early or doubled."""
    host, device = both(capacity, alpha)
    tail = head = 0
    for step in range(data.draw(st.integers(1, 10))):
        head += data.draw(st.integers(0, 2 * capacity))
        tail = data.draw(st.integers(max(tail, head - capacity), head))
        for sampler in (host, device):
            sampler.extend(tail, head)
        errors = st.tuples(st.integers(max(0, tail - capacity), head + 3), st.floats(0.0, 9.0))
        told = data.draw(st.lists(errors, min_size=1, max_size=10))
        keys, priority = np.array([key for key, _ in told]), torch.tensor([error for _, error in told])
        host.reprioritize(keys, priority)
        device.reprioritize(torch.from_numpy(keys) if step % 2 else keys, priority)
        assert_alike(host, device)
        if tail < head:
            expected, weights = host.sample(16, step)
            found, device_weights = device.sample(16, step)
            np.testing.assert_array_equal(found.numpy(), expected)
            np.testing.assert_allclose(device_weights.numpy(), weights, rtol=1e-9)
            living = np.arange(tail, head)
            np.testing.assert_allclose(device.probabilities(living), host.probabilities(living), rtol=1e-12)


def test_a_state_goes_on_on_the_other_side():
    host, device = both(30)
    for one, other in ((host, device), (device, host)):
        for number in range(9):
            one.extend(max(0, 7 * number - 20), 7 * number + 7)
            keys, _ = one.sample(8, number)
            one.reprioritize(keys, torch.arange(8.0))
        other.load_state_dict(reloaded(one.state_dict()))
        assert_alike(host, device)
        assert to_host(one.sample(8, 3)[0]).tolist() == to_host(other.sample(8, 3)[0]).tolist()
        for sampler in (host, device):
            sampler.load_state_dict(reloaded(both(30)[0].state_dict()))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.5])
def test_what_is_no_error_is_left_out_and_ends_the_run_when_it_is_saved(wrong):
    _, device = both(4)
    device.extend(0, 4)
    device.reprioritize(np.arange(4), torch.tensor([1.0, wrong, 2.0, wrong]))
    keys, weights = device.sample(64, 0)
    assert set(keys.tolist()) == {0, 1, 2, 3}
    assert torch.isfinite(weights).all()
    with pytest.raises(DivergedError, match=r"training has diverged: the losses of 2 items .*learning.optimizer.lr"):
        device.state_dict()
    device.load_state_dict(both(4)[0].state_dict())
    device.state_dict()


def test_where_nothing_lives_nothing_is_drawn():
    _, device = both(4)
    with pytest.raises(ValueError, match="nothing to find"):
        device.sample(1, 0)
    with pytest.raises(ValueError, match="5 items are alive, there is room for 4"):
        device.extend(0, 5)


def test_a_state_of_another_sampler_is_refused():
    _, device = both(4)
    with pytest.raises(UsageError, match=r"replay\.sampler"):
        device.load_state_dict({"rng": {}, "tail": 0, "head": 9})


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_a_whole_replay_draws_the_same_batches_on_either_side(kind):
    """Also after what one has saved was taken over by the other: frames and items come from the host."""
    host, device = (make_replay(2, 4, 3, 60, 130, sampler=place + kind) for place in ("", "device "))
    episodes = [ScriptedStream([[Episode(4)], [Episode(7, terminated=False)]], 4) for _ in range(2)]
    for replay, one in zip((host, device), episodes, strict=True):
        replay.begin(one.reset())
    for step in range(150):
        for replay, one in zip((host, device), episodes, strict=True):
            replay.append(*one.step())
        if step < 4:
            continue
        expected, found = host.sample(16, step), device.sample(16, step)
        assert to_host(found.key).tolist() == to_host(expected.key).tolist()
        for name in ("observation", "next_observation", "action", "reward", "discount"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
            assert getattr(found, name).dtype == getattr(expected, name).dtype
        torch.testing.assert_close(found.weight, expected.weight)
        for replay, batch in ((host, expected), (device, found)):
            replay.reprioritize(batch.key, batch.reward.abs())
    assert contents(device) == contents(host)
    for name, other in (("device ", host), ("", device)):
        twin = make_replay(2, 4, 3, 60, 130, sampler=name + kind)
        twin.frames.restore(other.frames.oldest, other.frames.export(other.frames.oldest, other.frames.written))
        twin.items.restore(other.items.export(0))
        twin.load_state_dict(reloaded(other.state_dict()))
        assert contents(twin) == contents(host)
        expected, found = other.sample(16, 0), twin.sample(16, 0)
        assert torch.equal(found.next_observation, expected.next_observation)
        assert torch.equal(found.reward, expected.reward)
