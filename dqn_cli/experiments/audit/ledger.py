"""Holds replay to the record: every item when it is stored, while it lives, and when it is sampled."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from dqn_cli.core.devices import to_host
from dqn_cli.core.types import Array, Batch, IntArray
from dqn_cli.experiments.audit.recorder import RecordedItem, Recorder
from dqn_cli.experiments.audit.report import Check
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.items import Items

_TOLERANCE = 1e-6
"""Of a float32 against the same sum in float64, relative."""


class Ledger:
    """Knows, from the record alone, what every living item must say.

    Args:
        replay: What is checked.
        recorder: What happened.
        history: Vector steps that an item can reach back, n + S - 1.
    """

    def __init__(self, replay: Replay, recorder: Recorder, history: int) -> None:
        self._replay, self._recorder, self._history = replay, recorder, history
        self._living: deque[tuple[int, RecordedItem]] = deque()  # vector step and content, in the order of keys
        self._tail = 0
        self._first_frame = [1]  # number of the first frame of each vector step
        self.stored = Check("transitions stored", "lost at episode ends, twice, or never (traps 3, 6, 7)")
        self.observations = Check("observation stacks", "frames of another episode or time (traps 3, 8)")
        self.actions = Check("actions", "actions of another step")
        self.rewards = Check("n-step rewards", "clipped sums, tails, windows over two episodes (traps 7, 30)")
        self.discounts = Check("discounts", "gamma^n for gamma^k, truncation as termination (traps 5, 7)")
        self.successors = Check("successors", "the next episode's first frame (traps 4, 5)")
        self.living = Check("items that live", "dropped too early, or kept without their frames (trap 8)")
        self.sampled = Check("sampled batches", "a batch that differs from what is stored (trap 8)")

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in the order of the path of the data."""
        contents = (self.observations, self.actions, self.rewards, self.discounts, self.successors)
        return (self.stored, *contents, self.living, self.sampled)

    @property
    def wraps(self) -> float:
        """How many times over the ring of frames was written."""
        return self._replay.frames.written / self._replay.frames.capacity

    def after_append(self, head_before: int) -> None:
        """Compares what the latest vector step stored with what it completed."""
        items, step = self._replay.items, len(self._recorder.emitted) - 1
        self._first_frame.append(self._first_frame[-1] + self._recorder.frames[step - 1])
        expected = self._recorder.emitted[step]
        keys = np.arange(head_before, items.head)
        self.stored.hold(
            len(keys) == len(expected),
            f"vector step {step} completes {len(expected)} transitions, {len(keys)} were stored",
            max(1, len(expected)),
        )
        if len(keys) == len(expected):
            pairs = self._paired(keys, expected)
            self._living.extend((step, item) for item in pairs)
        self._expire(step)

    def check_living(self) -> None:
        """Compares every living item with the record again: its frames must still be there.

        Counts only once frames were overwritten: what has never happened was not seen.
        """
        items, cases = self._replay.items, int(self.wraps > 1.0)
        self.living.reason = (
            "" if cases else f"the ring of {self._replay.frames.capacity:,} frames was never full: give more --steps"
        )
        self.living.hold(
            (items.tail, items.head) == (self._tail, self._tail + len(self._living)),
            f"items {items.tail} to {items.head} are alive, those whose frames and places are left are {self._tail} to "
            f"{self._tail + len(self._living)}",
            cases,
        )
        if self.living.failure is None:
            found = self._read(np.arange(items.tail, items.head))
            for index, (step, expected) in enumerate(self._living):
                differences = _differences(found, index, expected)
                self.living.hold(
                    not differences,
                    f"item {items.tail + index} of vector step {step} was right when it was stored and has another "
                    f"{', '.join(differences)} now",
                    cases,
                )

    def check_batch(self, batch: Batch) -> None:
        """Compares a sampled batch with the record."""
        for index, key in enumerate(batch.key.tolist()):
            known = self._tail <= key < self._tail + len(self._living)
            if not known:
                self.sampled.hold(False, f"item {key} was sampled and does not live")
                continue
            step, expected = self._living[key - self._tail]
            found = (
                batch.observation[index].cpu().numpy(),
                batch.next_observation[index].cpu().numpy(),
                int(batch.action[index]),
                float(batch.reward[index]),
                float(batch.discount[index]),
            )
            differences = _different(found, expected)
            self.sampled.hold(
                not differences, f"item {key} of vector step {step} was sampled with another {', '.join(differences)}"
            )

    def _paired(self, keys: IntArray, expected: Sequence[RecordedItem]) -> list[RecordedItem]:
        """Returns for each key the recorded item that it must say, and holds it to that."""
        found, left, pairs = self._read(keys), list(expected), []
        for index, key in enumerate(keys.tolist()):
            # The order within a vector step is the writer's own affair: the nearest one is meant.
            nearest, differences = 0, _differences(found, index, left[0])
            for number in range(1, len(left)):
                if differences:
                    others = _differences(found, index, left[number])
                    if len(others) < len(differences):
                        nearest, differences = number, others
            best = left.pop(nearest)
            pairs.append(best)
            what = f"item {key}, stored at vector step {len(self._recorder.emitted) - 1}, environment {best.env}"
            for name, check in self._by_field().items():
                check.hold(name not in differences, f"{what}: {differences.get(name)}")
        return pairs

    def _by_field(self) -> dict[str, Check]:
        return {
            "observation": self.observations,
            "successor": self.successors,
            "action": self.actions,
            "reward": self.rewards,
            "discount": self.discounts,
        }

    def _read(self, keys: IntArray) -> tuple[Items, Array, Array]:
        items = self._replay.items.gather(keys)
        before, after = (to_host(self._replay.frames.gather(ids)) for ids in (items.stack, items.next_stack))
        return items, before, after

    def _expire(self, step: int) -> None:
        """Forgets what has no place left, or may refer to a frame that is overwritten."""
        items, frames = self._replay.items, self._replay.frames
        oldest = self._first_frame[step] + self._recorder.frames[step] - frames.capacity
        while self._living:
            emitted, _ = self._living[0]
            reaches = self._first_frame[max(0, emitted - self._history)]
            if len(self._living) <= items.capacity and reaches >= oldest:
                return
            self._living.popleft()
            self._tail += 1


def _differences(found: tuple[Items, Array, Array], index: int, expected: RecordedItem) -> dict[str, str]:
    items, stacks, next_stacks = found
    values = (stacks[index], next_stacks[index], int(items.action[index]), float(items.reward[index]))
    return _different((*values, float(items.discount[index])), expected)


def _different(found: tuple[Array, Array, int, float, float], expected: RecordedItem) -> dict[str, str]:
    """Returns what differs, by field, each as a sentence."""
    observation, successor, action, reward, discount = found
    differences = {}
    for name, is_frames, should in (
        ("observation", observation, expected.observation),
        ("successor", successor, expected.next_observation),
    ):
        if is_frames.tobytes() != should.tobytes():
            differences[name] = f"{name} {_brief(is_frames)}, the environment's was {_brief(should)}"
    if action != expected.action:
        differences["action"] = f"action {action}, taken was {expected.action}"
    for name, value, wanted in (("reward", reward, expected.reward), ("discount", discount, expected.discount)):
        if not math.isclose(value, wanted, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            differences[name] = f"{name} {value:.6g}, that of {expected.steps} steps is {wanted:.6g}"
    return differences


def _brief(frames: Array) -> str:
    """Returns a small observation whole, a large one by a checksum of each frame."""
    if frames.size <= 8:
        return str(frames.tolist())
    sums = [int(frame.astype(np.float64).sum()) for frame in frames]
    return f"with frames that sum to {sums}"
