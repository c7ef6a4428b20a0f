"""Rings of frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.core.errors import UsageError
from dqn_cli.replay.frames import BLANK, DenseHostFrames


def frames_from(first: int, count: int, shape=(2,), dtype=np.float32):
    """Frames that say their numbers."""
    numbers = np.arange(first, first + count).reshape((count, *[1] * len(shape)))
    return np.broadcast_to(numbers, (count, *shape)).astype(dtype)


def ring(capacity: int) -> DenseHostFrames:
    return DenseHostFrames(capacity, (2,), np.dtype(np.float32))


@settings(max_examples=60)
@given(capacity=st.integers(1, 12), data=st.data())
def test_what_lives_is_what_a_dict_remembers(capacity, data):
    frames = ring(capacity)
    remembered: dict[int, tuple[int, int]] = {}  # id to (frame, its number)
    for count in data.draw(st.lists(st.integers(0, capacity), max_size=20)):
        first = frames.written + 1
        ids = frames.append(frames_from(first, count))
        assert ids.shape == (count,)
        assert BLANK not in ids
        remembered |= {int(slot): (first + i, first + i) for i, slot in enumerate(ids)}
        assert frames.written == first + count - 1
        living = {slot: frame for slot, (frame, number) in remembered.items() if number > frames.written - capacity}
        assert len(living) == min(frames.written, capacity)
        slots = np.array([BLANK, *living], np.int32)
        assert frames.gather(slots).tolist() == [[0, 0]] + [[frame] * 2 for frame in living.values()]


@pytest.mark.parametrize("ids_shape", [(), (0,), (5,), (3, 4), (2, 3, 1)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_gather_takes_ids_of_any_shape(ids_shape, shape):
    frames = DenseHostFrames(7, shape, np.dtype(np.uint8))
    frames.append(frames_from(1, 7, shape, np.uint8))
    ids = np.random.Generator(np.random.PCG64(0)).integers(0, 8, ids_shape).astype(np.int32)
    gathered = frames.gather(ids)
    assert gathered.dtype == np.uint8
    np.testing.assert_array_equal(gathered, np.broadcast_to(ids.reshape(ids_shape + (1,) * len(shape)), gathered.shape))
    assert gathered.shape == ids_shape + shape


def test_what_is_gathered_or_exported_is_a_copy():
    frames = ring(4)
    ids = frames.append(frames_from(1, 4))
    frames.gather(ids)[:] = 9
    frames.export(1, 4)[:] = 9
    assert frames.gather(ids).tolist() == [[1, 1], [2, 2], [3, 3], [4, 4]]


def test_the_blank_frame_stays_blank():
    frames = ring(3)
    for number in range(1, 20):
        frames.append(frames_from(number, 1))
        assert frames.gather(np.array([BLANK], np.int32)).tolist() == [[0, 0]]


@settings(max_examples=60)
@given(capacity=st.integers(1, 9), written=st.integers(1, 40), pieces=st.integers(1, 4), data=st.data())
def test_restored_frames_have_their_numbers_and_ids(capacity, written, pieces, data):
    frames = ring(capacity)
    slots = {number: int(frames.append(frames_from(number, 1))[0]) for number in range(1, written + 1)}
    oldest = max(1, written - capacity + 1)
    first = data.draw(st.integers(oldest, written))
    twin = ring(capacity)
    for piece in np.array_split(np.arange(first, written + 1), pieces):
        if len(piece):
            exported = frames.export(int(piece[0]), int(piece[-1]))
            assert exported.tolist() == frames_from(int(piece[0]), len(piece)).tolist()
            twin.restore(int(piece[0]), exported)
    assert twin.written == written
    ids = np.array([slots[number] for number in range(first, written + 1)], np.int32)
    np.testing.assert_array_equal(twin.gather(ids), frames.gather(ids))
    assert twin.append(frames_from(written + 1, 1)) == frames.append(frames_from(written + 1, 1))


def test_more_frames_than_fit_are_refused():
    frames = ring(3)
    frames.append(frames_from(1, 2))
    with pytest.raises(ValueError, match="4 frames do not fit into a ring of 3"):
        frames.append(frames_from(3, 4))
    assert frames.written == 2
    with pytest.raises(ValueError, match="4 frames do not fit into a ring of 3"):
        frames.restore(1, frames_from(1, 4))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ring(0)


@pytest.mark.parametrize(
    ("written", "first", "last"), [(5, 2, 5), (5, 0, 5), (9, 6, 9), (2, 0, 2), (2, -1, 2), (5, 4, 6), (5, 5, 4)]
)
def test_frames_that_are_not_there_are_not_exported(written, first, last):
    frames = ring(3)
    for number in range(1, written + 1):
        frames.append(frames_from(number, 1))
    with pytest.raises(ValueError, match=f"frames {first} to {last} are not there"):
        frames.export(first, last)


@pytest.mark.parametrize("frames", [np.zeros((1, 1), np.float32), np.zeros((1, 2), np.uint8)])
def test_frames_of_another_form_are_not_restored(frames):
    with pytest.raises(UsageError, match=r"the checkpoint has frames of \[.*, the config \[2\] float32"):
        ring(3).restore(1, frames)
