"""Streams of steps whose frames say where they belong, and a naive record of everything that happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from dqn_cli.core.devices import to_host
from dqn_cli.core.schedules import LinearSchedule
from dqn_cli.core.types import Array, BoolArray, FloatArray, IntArray
from dqn_cli.experiments.audit.recorder import RecordedItem, Recorder
from dqn_cli.replay.batches import DeviceBatches, HostBatches
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.compressed_frames import CompressedHostFrames
from dqn_cli.replay.device_frames import DenseDeviceFrames
from dqn_cli.replay.device_items import DeviceItems
from dqn_cli.replay.device_prioritized import DevicePrioritizedSampler
from dqn_cli.replay.frames import DenseHostFrames
from dqn_cli.replay.items import ItemTable
from dqn_cli.replay.prioritized import PrioritizedSampler
from dqn_cli.replay.samplers import Sampler, UniformSampler
from dqn_cli.replay.writer import NStepWriter

ENDLESS = 1_000_000


class Episode(NamedTuple):
    """An episode of a script: it ends after ``length`` steps; a life is lost at time ``life_lost`` (0: none)."""

    length: int
    terminated: bool = True
    life_lost: int = 0


class Step(NamedTuple):
    """The arguments of ``Replay.append``, in its order."""

    actions: IntArray
    reward: FloatArray
    terminal: BoolArray
    truncated: BoolArray
    successor: Array
    restarted: BoolArray
    observation: Array


class ScriptedStream:
    """N environments that play the episodes of their scripts over and over.

    A frame is (environment + 1, episode + 1, time): no two are equal and none is blank. Actions are serial numbers,
    so that an item says which transition it is; rewards are whole numbers from -6 to 6.
    """

    def __init__(self, scripts: Sequence[Sequence[Episode]], stack: int) -> None:
        self._scripts, self._stack = scripts, stack
        self._episode, self._time = [0] * len(scripts), [0] * len(scripts)
        self._serial = 0

    def reset(self) -> Array:
        return self._observations()

    def step(self) -> Step:
        num_envs = len(self._scripts)
        actions = np.arange(self._serial, self._serial + num_envs)
        self._serial += num_envs
        self._time = [time + 1 for time in self._time]
        now = [script[episode % len(script)] for script, episode in zip(self._scripts, self._episode, strict=True)]
        ended = np.array([time == episode.length for time, episode in zip(self._time, now, strict=True)])
        terminal = (ended & [episode.terminated for episode in now]) | [
            time == episode.life_lost for time, episode in zip(self._time, now, strict=True)
        ]
        successor = self._observations()
        for env in np.flatnonzero(ended).tolist():
            self._episode[env], self._time[env] = self._episode[env] + 1, 0
        reward = (actions * 7919 % 13 - 6).astype(np.float64)
        return Step(actions, reward, terminal, ended & ~terminal, successor, ended, self._observations())

    def _observations(self) -> Array:
        return np.array([self._observation(env) for env in range(len(self._scripts))], np.int32)

    def _observation(self, env: int) -> list[list[int]]:
        times = range(self._time[env] - self._stack + 1, self._time[env] + 1)
        return [[env + 1, self._episode[env] + 1, time] if time >= 0 else [0, 0, 0] for time in times]


Content = tuple[bytes, bytes, int, float, float]

SAMPLERS = ("uniform", "prioritized", "device uniform", "device prioritized")
"""Those of a device come with frames and items there, which here is the CPU."""

CPU = torch.device("cpu")


def make_sampler(kind: str, capacity: int) -> Sampler:
    """Returns a sampler of ``SAMPLERS`` for a table of ``capacity`` items."""
    rng = np.random.Generator(np.random.PCG64(0))
    if kind.endswith("uniform"):
        return UniformSampler(rng)
    beta = LinearSchedule(0.4, 1.0, 0, 50)
    if kind == "prioritized":
        return PrioritizedSampler(capacity, 0.6, beta, 1e-3, rng)
    return DevicePrioritizedSampler(capacity, 0.6, beta, 1e-3, rng, CPU)


def make_replay(
    num_envs: int,
    stack: int,
    n_step: int,
    capacity: int,
    ring: int,
    gamma: float = 0.5,
    reward_clip: float | None = None,
    sampler: str = "uniform",
    budget: int | None = None,
) -> Replay:
    """Returns a replay of scripted frames, compressed in host memory where there is a ``budget``.

    Gamma 0.5 makes every return and discount exact.
    """
    form = (3,), np.dtype(np.int32)
    writer, history = NStepWriter(num_envs, stack, n_step, gamma, reward_clip), n_step + stack - 1
    draws = make_sampler(sampler if budget is None else sampler.removeprefix("device "), capacity)
    if sampler.startswith("device ") and budget is None:
        there, copy = DenseDeviceFrames(ring, *form, CPU), DeviceItems(capacity, stack, CPU)
        return Replay(there, ItemTable(capacity, stack, copy), writer, draws, DeviceBatches(there, copy, CPU), history)
    items = ItemTable(capacity, stack)
    frames = DenseHostFrames(ring, *form) if budget is None else CompressedHostFrames(ring, *form, budget)
    return Replay(frames, items, writer, draws, HostBatches(frames, items, CPU), history)


def content(item: RecordedItem) -> Content:
    """Returns what an item must say, so that it can be counted."""
    both = item.observation.tobytes(), item.next_observation.tobytes()
    return *both, item.action, float(np.float32(item.reward)), float(np.float32(item.discount))


def contents(replay: Replay) -> list[Content]:
    """Returns what each living item says, in the order of keys."""
    items = replay.items.gather(np.arange(replay.items.tail, replay.items.head))
    stacks, next_stacks = (to_host(replay.frames.gather(ids)) for ids in (items.stack, items.next_stack))
    return [
        (stacks[i].tobytes(), next_stacks[i].tobytes(), int(items.action[i]), float(items.reward[i]), float(discount))
        for i, discount in enumerate(items.discount)
    ]


def assert_holds_what_happened(replay: Replay, recorder: Recorder) -> None:
    """Each living item says what the recorder says of the same vector step; none is missing, none is too many."""
    found, tail = contents(replay), replay.items.tail
    end = recorder.count
    assert replay.items.head == end
    for emitted in reversed(recorder.emitted):
        if end <= tail:
            return
        start = end - len(emitted)
        living = Counter(found[max(start, tail) - tail : end - tail])
        assert living <= Counter(content(item) for item in emitted)
        end = start


def assert_draws_what_lives(replay: Replay, step: int) -> None:
    """Every living item has a chance and no other; then errors arrive, those of items that have left among them."""
    living = np.arange(replay.items.tail, replay.items.head)
    if not len(living):
        return
    chances = replay.probabilities(living)
    assert (chances > 0.0).all()
    assert abs(chances.sum() - 1.0) < 1e-9
    keys, weights = replay.draw(16, step)
    assert np.isin(keys, living).all()
    assert (weights > 0.0).all()
    assert weights.max() == 1.0
    keys = np.append(keys, living[0] - np.arange(1, 4))
    replay.reprioritize(keys, torch.from_numpy(keys * 7919 % 13 / 4))


def scripts(num_envs: int) -> st.SearchStrategy[list[list[Episode]]]:
    """Scripts for N environments: very short episodes, ordinary ones and endless ones, with lives lost or not."""
    lengths = st.one_of(st.integers(1, 3), st.integers(1, 14), st.just(ENDLESS))
    episode = st.builds(Episode, lengths, st.booleans(), st.one_of(st.just(0), st.integers(0, 9)))
    return st.lists(st.lists(episode, min_size=1, max_size=3), min_size=num_envs, max_size=num_envs)
