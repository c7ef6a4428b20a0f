"""Whether two runs are the same, bit for bit, time fields apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from dqn_cli.compose import make_environments, make_training
from dqn_cli.config.problems import validate
from dqn_cli.hardware import resolve_hardware
from dqn_cli.replay.segments import ReplaySegments
from dqn_cli.schema import RunOptions
from dqn_cli.training.checkpoint import read_checkpoint
from dqn_cli.training.generations import check_whole, newest_whole

TIME_FIELDS = {"wall_seconds", "steps_per_second", "seconds", "seconds_since_report"}


def content(run_dir: Path) -> dict[str, Any]:
    """Returns everything that must not depend on whether a run was killed."""
    said: list[str] = []
    generation = newest_whole(run_dir, said.append)
    assert generation is not None
    assert not said
    check_whole(generation)
    checkpoint = read_checkpoint(generation.path)
    assert (run_dir / "checkpoint.pt").read_bytes() == generation.path.read_bytes()
    state = dict(checkpoint.training or {})
    state.pop("log_marks")
    return {
        "step": checkpoint.step,
        "weights": checkpoint.weights,
        "state": timeless(state),
        "replay": replay_content(run_dir, generation, checkpoint.config, state["replay"]),
        "best": read_checkpoint(run_dir / "best.pt").weights if (run_dir / "best.pt").exists() else None,
        "logs": {path.name: lines(path) for path in run_dir.glob("*.jsonl")},
        "actions": (run_dir / "actions.bin").read_bytes(),
        "scalars": scalars(run_dir),
    }


def lines(path: Path) -> list[Any]:
    """Returns the records of a log, without times."""
    return [timeless(json.loads(line)) for line in path.read_text().splitlines()]


def replay_content(run_dir: Path, generation: Any, config: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Returns all frames and items that live."""
    options = validate(config, RunOptions, "test")
    environments = make_environments(options)
    replay = make_training(options, resolve_hardware(options), environments).replay
    environments.close()
    ReplaySegments(run_dir / "replay").load(replay, generation.segments)
    replay.load_state_dict(state)
    frames = replay.frames
    # The oldest frames of the ring may be those of no item any more, and in no segment.
    items = replay.items.export(replay.items.tail)
    numbers = frame_numbers(np.concatenate((items["stack"].numpy(), items["next_stack"].numpy())), frames)
    return {
        "items": items,
        "first_frame": int(numbers.min()),
        "frames": torch.from_numpy(frames.export(int(numbers.min()), frames.written)),
    }


def frame_numbers(ids: Any, frames: Any) -> Any:
    """Returns the numbers of the frames with the given ids, without those of the blank frame."""
    slots = ids[ids > 0].astype(np.int64)
    newest_slot = (frames.written - 1) % frames.capacity + 1
    numbers = frames.written - (newest_slot - slots) % frames.capacity
    assert (numbers >= frames.oldest).all()
    return numbers


def scalars(run_dir: Path) -> list[tuple[str, int, Any]]:
    """Returns what TensorBoard shows, time apart, in the order of the files: no step may be there twice."""
    found = []
    for path in sorted(run_dir.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag.startswith("time/"):
                    continue
                number = value.tensor.float_val[0] if value.tensor.float_val else str(value.tensor.string_val)
                found.append((value.tag, event.step, number))
    return found


def timeless(value: Any) -> Any:
    """Returns nested values without fields that hold times."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIME_FIELDS}
    if isinstance(value, list | tuple):
        return [timeless(item) for item in value]
    return value


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Returns the places where two contents differ."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = (
            one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
        )
        return [] if same else [place]
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [f"{place}.{key}" for key in {*one} ^ {*other}]
        return keys + [
            found for key in one if key in other for found in differences(one[key], other[key], f"{place}.{key}")
        ]
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return [f"{place}: {len(one)} and {len(other)} entries"]
        return [
            found
            for index, (a, b) in enumerate(zip(one, other, strict=True))
            for found in differences(a, b, f"{place}[{index}]")
        ]
    return [] if type(one) is type(other) and one == other else [f"{place}: {one!r:.60} and {other!r:.60}"]
