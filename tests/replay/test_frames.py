"""Rings of frames: dense, compressed, and dense on a device, which here is the CPU."""

from __future__ import annotations

import lz4.block
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.core.devices import to_host
from dqn_cli.core.errors import UsageError
from dqn_cli.replay import compressed_frames as compressed_module
from dqn_cli.replay.compressed_frames import CompressedHostFrames, compressed_bytes, packed_bound
from dqn_cli.replay.device_frames import DenseDeviceFrames
from dqn_cli.replay.frames import BLANK, DenseHostFrames, FrameStore

KINDS = ("dense", "compressed", "device")


def frames_from(first: int, count: int, shape=(2,), dtype=np.float32):
    """Frames that say their numbers."""
    numbers = np.arange(first, first + count).reshape((count, *[1] * len(shape)))
    return np.broadcast_to(numbers, (count, *shape)).astype(dtype)


def store(kind: str, capacity: int, shape: tuple[int, ...], dtype: type) -> FrameStore:
    """A ring; a compressed one has room for all of its frames."""
    if kind == "dense":
        return DenseHostFrames(capacity, shape, np.dtype(dtype))
    if kind == "device":
        return DenseDeviceFrames(capacity, shape, np.dtype(dtype), torch.device("cpu"))
    budget = capacity * packed_bound(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return CompressedHostFrames(capacity, shape, np.dtype(dtype), budget)


def ring(capacity: int, kind: str = "dense") -> FrameStore:
    return store(kind, capacity, (2,), np.float32)


@settings(max_examples=60)
@given(kind=st.sampled_from(KINDS), capacity=st.integers(1, 12), data=st.data())
def test_what_lives_is_what_a_dict_remembers(kind, capacity, data):
    frames = ring(capacity, kind)
    remembered: dict[int, tuple[int, int]] = {}  # id to (frame, its number)
    for count in data.draw(st.lists(st.integers(0, capacity), max_size=20)):
        first = frames.written + 1
        ids = frames.append(frames_from(first, count))
        assert ids.shape == (count,)
        assert BLANK not in ids
        remembered |= {int(slot): (first + i, first + i) for i, slot in enumerate(ids)}
        assert frames.written == first + count - 1
        living = {slot: frame for slot, (frame, number) in remembered.items() if number > frames.written - capacity}
        assert len(living) == min(frames.written, capacity) == frames.written - frames.oldest + 1
        slots = np.array([BLANK, *living], np.int32)
        assert frames.gather(slots).tolist() == [[0, 0]] + [[frame] * 2 for frame in living.values()]


@pytest.mark.parametrize("ids_shape", [(), (0,), (5,), (3, 4), (2, 3, 1)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_gather_takes_ids_of_any_shape(kind, ids_shape, shape):
    frames = store(kind, 7, shape, np.uint8)
    frames.append(frames_from(1, 7, shape, np.uint8))
    ids = np.random.Generator(np.random.PCG64(0)).integers(0, 8, ids_shape).astype(np.int32)
    gathered = to_host(frames.gather(ids))
    assert gathered.dtype == np.uint8
    np.testing.assert_array_equal(gathered, np.broadcast_to(ids.reshape(ids_shape + (1,) * len(shape)), gathered.shape))
    assert gathered.shape == ids_shape + shape


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_gathered_or_exported_is_a_copy(kind):
    frames = ring(4, kind)
    ids = frames.append(frames_from(1, 4))
    frames.gather(ids)[:] = 9
    frames.export(1, 4)[:] = 9
    assert frames.gather(ids).tolist() == [[1, 1], [2, 2], [3, 3], [4, 4]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_blank_frame_stays_blank(kind):
    frames = ring(3, kind)
    for number in range(1, 20):
        frames.append(frames_from(number, 1))
        assert frames.gather(np.array([BLANK], np.int32)).tolist() == [[0, 0]]


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    capacity=st.integers(1, 9),
    written=st.integers(1, 40),
    pieces=st.integers(1, 4),
    data=st.data(),
)
def test_restored_frames_have_their_numbers_and_ids(kind, capacity, written, pieces, data):
    frames = ring(capacity, kind)
    slots = {number: int(frames.append(frames_from(number, 1))[0]) for number in range(1, written + 1)}
    oldest = max(1, written - capacity + 1)
    first = data.draw(st.integers(oldest, written))
    twin = ring(capacity, kind)
    for piece in np.array_split(np.arange(first, written + 1), pieces):
        if len(piece):
            exported = frames.export(int(piece[0]), int(piece[-1]))
            assert exported.tolist() == frames_from(int(piece[0]), len(piece)).tolist()
            twin.restore(int(piece[0]), exported)
    assert twin.written == written
    ids = np.array([slots[number] for number in range(first, written + 1)], np.int32)
    np.testing.assert_array_equal(twin.gather(ids), frames.gather(ids))
    assert twin.append(frames_from(written + 1, 1)) == frames.append(frames_from(written + 1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_more_frames_than_fit_are_refused(kind):
    frames = ring(3, kind)
    frames.append(frames_from(1, 2))
    with pytest.raises(ValueError, match="4 frames do not fit into a ring of 3"):
        frames.append(frames_from(3, 4))
    assert frames.written == 2
    with pytest.raises(ValueError, match="4 frames do not fit into a ring of 3"):
        frames.restore(1, frames_from(1, 4))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ring(0, kind)


@pytest.mark.parametrize(
    ("written", "first", "last"), [(5, 2, 5), (5, 0, 5), (9, 6, 9), (2, 0, 2), (2, -1, 2), (5, 4, 6), (5, 5, 4)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_are_not_there_are_not_exported(kind, written, first, last):
    frames = ring(3, kind)
    for number in range(1, written + 1):
        frames.append(frames_from(number, 1))
    with pytest.raises(ValueError, match=f"frames {first} to {last} are not there"):
        frames.export(first, last)


@pytest.mark.parametrize("frames", [np.zeros((1, 1), np.float32), np.zeros((1, 2), np.uint8)])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_another_form_are_not_restored(kind, frames):
    with pytest.raises(UsageError, match=r"the checkpoint has frames of \[.*, the config \[2\] float32"):
        ring(3, kind).restore(1, frames)


def pictures(count: int, size: int, levels: int, seed: int) -> npt.NDArray[np.uint8]:
    """Frames that pack the worse the more levels they have."""
    return np.random.Generator(np.random.PCG64(seed)).integers(0, levels, (count, size), np.uint8)


@settings(max_examples=80)
@given(
    capacity=st.integers(1, 40),
    size=st.sampled_from([1, 30, 700]),
    budget=st.floats(1.0, 12.0),
    chunk=st.sampled_from([(1, 1), (1, 2), (1, 5), (1 << 18, 16)]),
    data=st.data(),
)
def test_what_lives_is_the_longest_run_that_fits_the_budget(capacity, size, budget, chunk, data):
    """Against a list of all frames ever written, with chunks of a few frames and of all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compressed_module, "_CHUNK_BYTES", chunk[0])
        patch.setattr(compressed_module, "_CHUNK_FRAMES", chunk[1])
        limit = int(budget * packed_bound(size))
        frames = CompressedHostFrames(capacity, (size,), np.dtype(np.uint8), limit)
    written: list[npt.NDArray[np.uint8]] = []
    slots: list[int] = []
    for count in data.draw(st.lists(st.integers(0, capacity), max_size=25)):
        arrived = pictures(count, size, data.draw(st.sampled_from([1, 2, 256])), len(written))
        slots += frames.append(arrived).tolist()
        written += list(arrived)
        lengths = [len(lz4.block.compress(frame, store_size=False)) for frame in written]
        oldest = len(written) + 1
        while oldest > 1 and len(written) - oldest + 2 <= capacity and sum(lengths[oldest - 2 :]) <= limit:
            oldest -= 1
        assert (frames.oldest, frames.written) == (oldest, len(written))
        assert frames.packed_bytes == sum(lengths[oldest - 1 :]) <= limit
        living = frames.gather(np.array(slots[oldest - 1 :], np.int32))
        np.testing.assert_array_equal(living, np.array(written[oldest - 1 :], np.uint8).reshape(-1, size))
    if written:
        twin = CompressedHostFrames(capacity, (size,), np.dtype(np.uint8), limit)
        first = data.draw(st.integers(max(1, len(written) - capacity + 1), frames.oldest))
        twin.restore(first, np.array(written[first - 1 :]))  # a segment may hold more than still lives
        assert (twin.oldest, twin.written, twin.packed_bytes) == (frames.oldest, frames.written, frames.packed_bytes)


def test_frames_that_fill_the_budget_to_the_byte_stay():
    pictured = pictures(4, 700, 256, 0)
    lengths = [len(lz4.block.compress(frame, store_size=False)) for frame in pictured]
    frames = CompressedHostFrames(40, (700,), np.dtype(np.uint8), sum(lengths[:3]))
    frames.append(pictured[:3])
    assert frames.oldest == 1
    frames.append(pictured[3:])
    assert frames.oldest == 2


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int16, np.int32, np.float32])
def test_a_device_says_what_the_host_says(dtype):
    """Whatever is stored, in pieces that wrap: the same ids, the same bits."""
    rng = np.random.Generator(np.random.PCG64(0))
    here = store("dense", 7, (2, 3), dtype)
    there = DenseDeviceFrames(7, (2, 3), np.dtype(dtype), torch.device("cpu"))
    for count in (3, 7, 1, 5, 6, 2):
        arrived = rng.integers(0, 2 if dtype == np.bool_ else 99, (count, 2, 3)).astype(dtype)
        ids = here.append(arrived)
        np.testing.assert_array_equal(there.append(arrived), ids)
        asked = rng.integers(0, 8, (4, 2)).astype(np.int32)
        expected = to_host(here.gather(asked))
        np.testing.assert_array_equal(to_host(there.gather(asked)), expected)
        np.testing.assert_array_equal(to_host(there.gather(torch.from_numpy(asked))), expected)
        exported = there.export(there.oldest, there.written)
        assert exported.tobytes() == here.export(here.oldest, here.written).tobytes()
        assert exported.dtype == dtype


def test_pages_that_are_not_needed_are_not_touched():
    """Frames that pack well take what they need, however large the budget is and however often the ring wraps."""
    frames = CompressedHostFrames(1_000, (84, 84), np.dtype(np.uint8), 1_000 * 7_200)
    for _ in range(40):
        frames.append(np.zeros((1_000, 84, 84), np.uint8))
    touched = np.flatnonzero(np.frombuffer(frames._arena, np.uint8)).max()
    assert touched < 3 << 18


def test_a_budget_for_no_frame_is_refused():
    with pytest.raises(ValueError, match="at least 25 bytes, got 24"):
        CompressedHostFrames(3, (9,), np.dtype(np.uint8), 24)


def test_frames_that_do_not_follow_are_not_restored():
    frames = ring(5, "compressed")
    frames.restore(4, frames_from(4, 2))
    assert (frames.oldest, frames.written) == (4, 5)
    with pytest.raises(ValueError, match="frame 7 does not follow frame 5"):
        frames.restore(7, frames_from(7, 1))


def test_the_memory_that_is_foretold():
    frames = CompressedHostFrames(1_000, (84, 84), np.dtype(np.uint8), 10**7)
    assert compressed_bytes(1_000, 84 * 84, 10**7) == len(frames._arena) + 12 * 1_000 < 1.4e7
