"""The table of items."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.replay.items import Items, ItemTable, item_bytes


def items_from(first: int, count: int, stack: int = 2) -> Items:
    """Items that say their keys."""
    keys = np.arange(first, first + count, dtype=np.int32)
    stacks = np.add.outer(10 * keys, np.arange(stack)).astype(np.int32)
    floats = keys.astype(np.float32)
    return Items(stacks, -stacks, keys, floats + 0.5, floats + 0.25)


def assert_says(table: ItemTable, keys: range) -> None:
    items = table.gather(np.array(keys, np.int64))
    expected = items_from(keys.start, len(keys))
    for name in Items.__slots__:
        found = getattr(items, name)
        np.testing.assert_array_equal(found, getattr(expected, name))
        assert found.dtype == getattr(expected, name).dtype


appends = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.integers(0, 4)), max_size=25)


@settings(max_examples=60)
@given(capacity=st.integers(1, 12), appends=appends)
def test_keys_count_up_and_the_oldest_leave_first(capacity, appends):
    """Against a list of (key, oldest frame): the newest ``capacity`` stay, unless their frames are gone."""
    table = ItemTable(capacity, 2)
    oldest_frame = living_frame = 0
    remembered: list[tuple[int, int]] = []
    for count, later, expired in appends:
        oldest_frame += later
        remembered += [(table.head + i, oldest_frame) for i in range(count)]
        table.append(items_from(table.head, count), oldest_frame)
        remembered = remembered[-capacity:]
        assert [table.tail, table.head, len(table)] == [table.head - len(remembered), table.head, len(remembered)]
        living_frame = max(living_frame, oldest_frame - 5 + expired)
        table.expire(living_frame)
        remembered = [(key, frame) for key, frame in remembered if frame >= living_frame]
        assert list(range(table.tail, table.head)) == [key for key, _ in remembered]
        assert_says(table, range(table.tail, table.head))


def test_an_item_goes_with_its_oldest_frame_and_not_before():
    table = ItemTable(10, 2)
    for oldest_frame in (3, 3, 7):
        table.append(items_from(table.head, 1), oldest_frame)
    table.expire(3)
    assert (table.tail, table.head) == (0, 3)
    table.expire(4)
    assert (table.tail, table.head) == (2, 3)
    table.expire(8)
    assert (table.tail, table.head, len(table)) == (3, 3, 0)


@settings(max_examples=40)
@given(capacity=st.integers(1, 12), counts=st.lists(st.integers(0, 6), min_size=1, max_size=20), data=st.data())
def test_restored_items_have_their_keys_and_leave_at_the_same_time(capacity, counts, data):
    """Exported in pieces while they arrive, restored piece by piece: the twin lives and dies as the original."""
    table, twin, pieces = ItemTable(capacity, 2), ItemTable(capacity, 2), []
    saved = 0
    for oldest_frame, count in enumerate(counts):
        table.append(items_from(table.head, count), oldest_frame)
        if data.draw(st.booleans()):
            pieces.append(table.export(saved))
            saved = table.head
    pieces.append(table.export(saved))
    assert all(piece["first"] + len(piece["action"]) <= table.head for piece in pieces)
    for piece in pieces:
        twin.restore(piece)
    twin.tail, twin.head = table.tail, table.head
    for oldest_frame in range(len(counts) + 1):
        assert_says(twin, range(table.tail, table.head))
        table.expire(oldest_frame)
        twin.expire(oldest_frame)
        assert (twin.tail, twin.head) == (table.tail, table.head)
        assert (twin.export(0)["first"], len(twin)) == (table.export(0)["first"], len(table))


def test_only_what_lives_and_is_new_is_exported():
    table = ItemTable(4, 2)
    table.append(items_from(0, 6), 1)
    assert table.export(0)["first"] == 2
    assert table.export(4)["action"].tolist() == [4, 5]
    assert table.export(6)["first"] == 6
    assert len(table.export(6)["action"]) == 0


def test_the_size_of_an_item_is_that_of_the_arrays():
    for stack in (1, 4):
        arrays = [value for value in vars(ItemTable(1000, stack)).values() if isinstance(value, np.ndarray)]
        assert sum(array.nbytes for array in arrays) == 1000 * item_bytes(stack)
