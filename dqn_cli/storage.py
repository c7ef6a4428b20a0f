"""The replay of a run: made from its options, and the memory that it takes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from dqn_cli.build import SAMPLERS, samplers_on
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import stream
from dqn_cli.core.schedules import LinearSchedule
from dqn_cli.envs.contract import EnvironmentSpec
from dqn_cli.hardware import Hardware
from dqn_cli.replay.batches import DeviceBatches, HostBatches
from dqn_cli.replay.buffer import Replay, compressed_budget, replay_bytes, ring_frames
from dqn_cli.replay.compressed_frames import CompressedHostFrames, packed_bound
from dqn_cli.replay.device_frames import DenseDeviceFrames
from dqn_cli.replay.device_items import DeviceItems, device_item_bytes
from dqn_cli.replay.frames import DenseHostFrames, FrameStore
from dqn_cli.replay.items import ItemTable
from dqn_cli.replay.writer import NStepWriter
from dqn_cli.schema import RunOptions


def history_steps(options: RunOptions, spec: EnvironmentSpec) -> int:
    """Returns how many vector steps an item reaches back, n + S - 1."""
    return options.replay.n_step + spec.observation.stack - 1


def make_replay(options: RunOptions, spec: EnvironmentSpec, hardware: Hardware) -> Replay:
    """Makes an empty replay where ``replay.storage`` has it; ``auto``, which no plan has decided, is ``dense`` here."""
    observation, replay = spec.observation, options.replay
    history = history_steps(options, spec)
    frames = ring_frames(replay.capacity, spec.num_envs, history, observation.frame_bytes)

    def anneal(start: float, end: float, over_steps: int | None) -> LinearSchedule:
        return LinearSchedule(start, end, 0, over_steps or options.total_steps)

    writer = NStepWriter(spec.num_envs, observation.stack, replay.n_step, options.learning.gamma, replay.reward_clip)
    sampling = replay.sampler, replay.capacity, anneal, stream(options.seed, "replay")
    if replay.storage == "device":
        device = hardware.device
        ring = DenseDeviceFrames(frames, observation.shape, np.dtype(observation.dtype), device)
        copy = DeviceItems(replay.capacity, observation.stack, device)
        items, batches = ItemTable(replay.capacity, observation.stack, copy), DeviceBatches(ring, copy, device)
        return Replay(ring, items, writer, make(samplers_on(device), *sampling), batches, history)
    store, items = _frame_store(options, spec, frames), ItemTable(replay.capacity, observation.stack)
    return Replay(store, items, writer, make(SAMPLERS, *sampling), HostBatches(store, items, hardware.device), history)


def replay_memory(options: RunOptions, spec: EnvironmentSpec, storage: str, capacity: int | None = None) -> int:
    """Returns the memory of a full replay in bytes, with ``capacity`` instead of that of the options."""
    replay = options.replay if capacity is None else options.replay.model_copy(update={"capacity": capacity})
    options = options.model_copy(update={"replay": replay})
    budget = frame_budget(options, spec) if storage == "compressed" else None
    per_item = cast("Any", replay.sampler).bytes_per_item
    if storage == "device":  # beside the host's table
        per_item += device_item_bytes(spec.observation.stack)
    history = history_steps(options, spec)
    whole = replay_bytes(replay.capacity, spec.num_envs, history, spec.observation, budget)
    return whole + int(replay.capacity * per_item)


def frame_budget(options: RunOptions, spec: EnvironmentSpec) -> int:
    """Returns the bytes that compressed frames may take: what was asked for, as far as the ring can fill it."""
    sizes = options.replay.capacity, spec.num_envs, history_steps(options, spec), spec.observation.frame_bytes
    most = ring_frames(*sizes) * packed_bound(spec.observation.frame_bytes)
    return min(options.replay.compressed_bytes or compressed_budget(*sizes), most)


def _frame_store(options: RunOptions, spec: EnvironmentSpec, frames: int) -> FrameStore:
    """Makes the store in host memory that the options name."""
    observation = spec.observation
    shape, dtype = observation.shape, np.dtype(observation.dtype)
    if options.replay.storage == "compressed":
        return CompressedHostFrames(frames, shape, dtype, frame_budget(options, spec))
    return DenseHostFrames(frames, shape, dtype)
