"""Named streams: independent by name, the same in every process, and restored to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.core.rng import derive_seed, generator_state, load_generator_state, stream, torch_stream
from tests.core.saving import reloaded

SEEDS = st.integers(0, 2**63)
NAMES = st.text(max_size=20)


class TestStreams:
    def test_a_stream_is_its_seed_name_and_indices(self):
        same = [stream(5, "replay", 1, 2).random(8).tolist() for _ in range(2)]
        assert same[0] == same[1]

    @pytest.mark.parametrize(
        "other",
        [
            lambda: stream(6, "replay", 1, 2),
            lambda: stream(5, "replays", 1, 2),
            lambda: stream(5, "replay", 2, 1),
            lambda: stream(5, "replay", 1),
            lambda: stream(5, "replay"),
        ],
    )
    def test_another_seed_name_or_index_is_an_independent_stream(self, other):
        ours, theirs = stream(5, "replay", 1, 2).random(10_000), other().random(10_000)
        assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.04

    def test_drawing_from_one_stream_does_not_move_another(self):
        untouched = stream(0, "exploration").random(4).tolist()
        exploration, replay = stream(0, "exploration"), stream(0, "replay")
        replay.random(100)
        assert exploration.random(4).tolist() == untouched

    def test_values_are_the_same_in_every_process(self):
        # Pinned: a name hashed with hash() would give other numbers in each process.
        assert stream(0, "replay").integers(1000, size=4).tolist() == [192, 791, 860, 375]
        assert stream(3, "exploration", 1).random() == 0.2630007784926969
        assert derive_seed(0, "network") == 1472472916
        assert derive_seed(7, "evaluation", 3) == 1836153146


class TestDerivedSeeds:
    @given(SEEDS, NAMES, st.lists(st.integers(0, 2**31), max_size=3))
    def test_range(self, seed, name, indices):
        derived = derive_seed(seed, name, *indices)
        assert type(derived) is int
        assert 0 <= derived < 2**31

    def test_the_whole_range_is_used_and_seeds_differ(self):
        seeds = [derive_seed(0, "episode", index) for index in range(1000)]
        assert len(set(seeds)) == 1000
        assert min(seeds) < 2**24
        assert max(seeds) > 2**31 - 2**24

    def test_torch_streams(self):
        before = torch.get_rng_state()
        first, second = torch.rand(4, generator=torch_stream(1, "a")), torch.rand(4, generator=torch_stream(1, "a"))
        assert torch.equal(first, second)
        assert not torch.equal(first, torch.rand(4, generator=torch_stream(1, "b")))
        assert torch.equal(torch.get_rng_state(), before)


class TestState:
    def test_a_stream_goes_on_where_its_state_was_taken(self):
        original = stream(0, "replay")
        original.integers(7, size=3, dtype=np.uint32)  # leaves half of a 64-bit draw in the generator's buffer
        state = reloaded(generator_state(original))
        restored = stream(9, "another")
        load_generator_state(restored, state)
        expected = original.integers(2**32, size=5, dtype=np.uint32).tolist() + original.random(5).tolist()
        assert restored.integers(2**32, size=5, dtype=np.uint32).tolist() + restored.random(5).tolist() == expected

    def test_a_state_does_not_follow_its_stream(self):
        original = stream(0, "replay")
        state = generator_state(original)
        expected = original.random(3).tolist()
        load_generator_state(original, state)
        assert original.random(3).tolist() == expected
