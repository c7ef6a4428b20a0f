"""Experience replay: steps go in, random batches come out."""

from __future__ import annotations

import torch

from dqn_cli.core.devices import to_host
from dqn_cli.core.errors import UsageError
from dqn_cli.core.stateful import State
from dqn_cli.core.types import Array, Batch, BoolArray, FloatArray, IntArray, Keys, ObservationSpec
from dqn_cli.replay.batches import Batches
from dqn_cli.replay.compressed_frames import compressed_bytes, packed_bound
from dqn_cli.replay.frames import FrameStore
from dqn_cli.replay.items import Items, ItemTable, item_bytes
from dqn_cli.replay.samplers import Sampler
from dqn_cli.replay.writer import NStepWriter

_ITEMS_AT_ONCE, _BYTES_AT_ONCE = 1_024, 2**20


class Replay:
    """A bounded buffer of transitions over a ring of frames.

    With several environments the oldest frames of items are not in the order of the items, so an item emitted at
    vector step t leaves when the first frame of step t - n - S + 1 is overwritten: nothing it can refer to is older.

    Args:
        frames: Where frames live.
        items: Table of items, empty.
        writer: The n-step writer.
        sampler: Chooses the keys of a batch.
        batches: Puts batches together.
        history: Number of vector steps that an item can reach back, n + S - 1.
    """

    def __init__(
        self,
        frames: FrameStore,
        items: ItemTable,
        writer: NStepWriter,
        sampler: Sampler,
        batches: Batches,
        history: int,
    ) -> None:
        self.frames, self.items = frames, items
        self._writer, self._sampler, self._batches = writer, sampler, batches
        # Number of the first frame of each of the latest vector steps; [-1] is the step in hand.
        self._first_frames = [1] * (history + 1)

    def __len__(self) -> int:
        """Returns the number of items that can be sampled."""
        return len(self.items)

    def begin(self, observation: Array) -> None:
        """Starts an episode in every environment from ``observation [N, S, ...]``; open windows must be closed."""
        self._writer.begin(self.frames.append(observation[:, -1]))

    def append(
        self,
        actions: IntArray,
        reward: FloatArray,
        terminal: BoolArray,
        truncated: BoolArray,
        successor: Array,
        restarted: BoolArray,
        observation: Array,
    ) -> None:
        """Stores one vector step.

        Args:
            actions: ``[N]`` taken.
            reward: ``[N]`` raw.
            terminal: ``[N]`` the bootstrap ends.
            truncated: ``[N]`` the episode was cut; its successor has a value.
            successor: ``[N, S, ...]`` the true successor of each action.
            restarted: ``[N]`` a new episode began.
            observation: ``[N, S, ...]`` the first observation of it, in the rows of ``restarted``.
        """
        self._first_frames.append(self.frames.written + 1)
        del self._first_frames[0]
        ids = self.frames.append(successor[:, -1])
        items = self._writer.append(actions, reward, terminal, truncated, ids)
        if restarted.any():
            self._writer.begin(self.frames.append(observation[restarted, -1]), restarted)
        self._store(items)

    def cut(self, mask: BoolArray, observation: Array) -> None:
        """Ends the episodes in ``mask [N]`` behind the last step as truncated, and begins others.

        Args:
            mask: ``[N]``.
            observation: ``[N, S, ...]`` the first observation of the new episodes, in the rows of ``mask``.
        """
        items = self._writer.cut(mask)
        self._writer.begin(self.frames.append(observation[mask, -1]), mask)
        self._store(items)

    def _store(self, items: Items) -> None:
        """Adds the items of the vector step in hand, and drops those whose frames are gone."""
        self.items.append(items, self._first_frames[0])
        self.items.expire(self.frames.oldest)
        self._sampler.extend(self.items.tail, self.items.head)

    def sample(self, batch_size: int, step: int) -> Batch:
        """Draws a batch at agent step ``step``; raises ``ValueError`` while there is no item."""
        if not len(self.items):
            raise ValueError("the replay holds no item yet")
        return self._batches(*self._sampler.sample(batch_size, step))

    def at_once(self, batch_size: int) -> int:
        """Returns how many batches may be one call of ``sample``: 1 where an update decides on the next draws.

        Where it does not, as many as are still cheap to hold.
        """
        if not self._sampler.blind:
            return 1
        item = 2 * self.items.stack * self.frames.frame_bytes
        return max(1, min(_ITEMS_AT_ONCE, _BYTES_AT_ONCE // item) // batch_size)

    def draw(self, count: int, step: int) -> tuple[IntArray, FloatArray]:
        """Draws keys ``[count]`` of living items and their importance weights ``[count]``, without their contents."""
        keys, weights = self._sampler.sample(count, step)
        return to_host(keys), to_host(weights)

    def probabilities(self, keys: IntArray) -> FloatArray:
        """Returns for each of the living ``keys [M]`` its chance to be a single draw, ``[M]``."""
        return self._sampler.probabilities(keys)

    def reprioritize(self, keys: Keys, priority: torch.Tensor) -> None:
        """Takes over new priorities ``[B]`` of the items ``keys [B]``; those that have left are ignored."""
        self._sampler.reprioritize(keys, priority)

    def state_dict(self) -> State:
        """Returns everything but the frames and the items themselves, which `segments` saves piece by piece."""
        return {
            "first_frames": list(self._first_frames),
            "tail": self.items.tail,
            "head": self.items.head,
            "written": self.frames.written,
            "sizes": {"replay.capacity": self.items.capacity, "frames of the ring": self.frames.capacity},
            "writer": self._writer.state_dict(),
            "sampler": self._sampler.state_dict(),
        }

    def check_sizes(self, state: State) -> None:
        """Compares a state with this replay, before its frames and items are restored.

        Raises:
            UsageError: The state is of a replay of other sizes.
        """
        own = {"replay.capacity": self.items.capacity, "frames of the ring": self.frames.capacity}
        for what, saved in state["sizes"].items():
            if own[what] != saved:
                raise UsageError(f"{what}: the checkpoint has {saved}, the config {own[what]}; keep those of the run")

    def load_state_dict(self, state: State) -> None:
        """Takes over a state; frames and items must have been restored before.

        A packer of another version may need more bytes for the same frames: items whose frames no longer fit leave.

        Raises:
            UsageError: The state is of a replay of other sizes.
            ValueError: Frames or items were not restored.
        """
        self.check_sizes(state)
        self._writer.load_state_dict(state["writer"])
        if self.frames.written != state["written"]:
            raise ValueError(f"the replay's frames end at {self.frames.written}, its state at {state['written']}")
        self._first_frames = [int(number) for number in state["first_frames"]]
        self.items.tail, self.items.head = int(state["tail"]), int(state["head"])
        self._sampler.load_state_dict(state["sampler"])
        self.items.expire(self.frames.oldest)
        self._sampler.extend(self.items.tail, self.items.head)


def ring_frames(capacity: int, num_envs: int, history: int, frame_bytes: int) -> int:
    """Returns how many frames the ring needs for ``capacity`` items.

    Each vector step stores N frames and one more for each episode that begins. The slack for those is 2% where a
    frame is large (Atari games last hundreds of steps) and 100% where it is small (it costs nothing there, and
    episodes may last a single step). Where episodes are too short for the slack, fewer items fit: never wrong ones,
    and never none at all.
    """
    frames = capacity + num_envs * (history + 2)
    slack = frames // 50 if frame_bytes >= 1024 else frames
    return max(frames + slack, least_frames(num_envs, history))


def least_frames(num_envs: int, history: int) -> int:
    """Returns how many frames must be there at once so that there is always an item.

    The worst case is an item behind which every step ended every episode (2N frames each for history + 1 steps) and
    ahead of which none ends before the next item is complete (N frames each for up to history - 1 steps more).
    """
    return num_envs * (3 * history + 1)


def compressed_budget(capacity: int, num_envs: int, history: int, frame_bytes: int) -> int:
    """Returns the bytes that packed frames may take where nobody says: 28% of what they take unpacked.

    Qbert, which packs worst of the six games that were looked at, takes 27% in random play (`benchmarks/RESULTS.md`,
    *Memory of the replay*), so that such a replay is as long as a dense one.
    """
    unpacked = ring_frames(capacity, num_envs, history, frame_bytes) * frame_bytes
    return max(28 * unpacked // 100, least_budget(num_envs, history, frame_bytes))


def least_budget(num_envs: int, history: int, frame_bytes: int) -> int:
    """Returns the bytes that packed frames must have so that there is always an item, however badly they pack."""
    return least_frames(num_envs, history) * packed_bound(frame_bytes)


def replay_bytes(
    capacity: int, num_envs: int, history: int, observation: ObservationSpec, budget: int | None = None
) -> int:
    """Returns the memory of a full replay in bytes: dense, or compressed with a ``budget`` for packed frames."""
    frames = ring_frames(capacity, num_envs, history, observation.frame_bytes) + 1
    items = capacity * item_bytes(observation.stack)
    if budget is None:
        return frames * observation.frame_bytes + items
    return compressed_bytes(frames, observation.frame_bytes, budget) + items
