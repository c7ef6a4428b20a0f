"""Replay on disk."""

from __future__ import annotations

import io
import re
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import lz4.block
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.core.errors import UsageError
from dqn_cli.core.files import Fingerprint, fingerprint
from dqn_cli.core.stateful import State
from dqn_cli.replay import compressed_frames
from dqn_cli.replay import segments as segments_module
from dqn_cli.replay.batches import HostBatches
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.frames import DenseHostFrames
from dqn_cli.replay.items import ItemTable
from dqn_cli.replay.samplers import UniformSampler
from dqn_cli.replay.segments import ReplaySegments
from dqn_cli.replay.writer import NStepWriter
from tests.replay.streams import SAMPLERS, Episode, ScriptedStream, Step, contents, make_replay, scripts


def reopened(state: State) -> State:
    """What a checkpoint gives back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: State = torch.load(file, weights_only=True)
    return loaded


def restored(folder: Path, names: Mapping[str, Fingerprint], state: State, replay: Replay) -> ReplaySegments:
    segments = ReplaySegments(folder)
    replay.check_sizes(state)
    segments.load(replay, names)
    replay.load_state_dict(state)
    return segments


def assert_twins(replay: Replay, twin: Replay) -> None:
    assert (twin.items.tail, twin.items.head, twin.frames.written) == (
        replay.items.tail,
        replay.items.head,
        replay.frames.written,
    )
    assert contents(twin) == contents(replay)
    if len(replay):
        expected, found = replay.sample(16, 7), twin.sample(16, 7)
        assert found.key.tolist() == expected.key.tolist()
        for name in ("observation", "next_observation", "action", "reward", "discount", "weight"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
        for one in (replay, twin):
            one.reprioritize(expected.key, expected.reward.abs())


@st.composite
def cases(draw):
    num_envs, stack, n_step = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 4])), draw(st.integers(1, 5))
    ring = draw(st.integers(2 * num_envs, 60))
    gaps = draw(st.lists(st.integers(0, 30), min_size=1, max_size=4))
    sampler = draw(st.sampled_from(SAMPLERS))
    budget = draw(st.none() | st.integers(28, 1_500))
    return draw(scripts(num_envs)), stack, n_step, draw(st.integers(1, 60)), ring, sampler, budget, gaps


@settings(max_examples=40)
@given(case=cases(), later=st.integers(1, 40), keep=st.integers(1, 2), size=st.sampled_from([1, 60, 1 << 26]))
def test_a_restored_replay_goes_on_as_the_saved_one(case, later, keep, size):
    """Several checkpoints, old segments pruned, and a restored replay that is itself saved and restored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments_module, "SEGMENT_BYTES", size)
        check_that_a_restored_replay_goes_on(case, later, keep)


def check_that_a_restored_replay_goes_on(case: Any, later: int, keep: int) -> None:
    script, stack, n_step, capacity, ring, sampler, budget, gaps = case

    def fresh() -> Replay:
        return make_replay(len(script), stack, n_step, capacity, ring, gamma=0.9, sampler=sampler, budget=budget)

    stream, replay = ScriptedStream(script, stack), fresh()
    replay.begin(stream.reset())
    with TemporaryDirectory() as folder:
        path = Path(folder) / "replay"
        segments = ReplaySegments(path)
        kept: list[dict[str, Fingerprint]] = []
        for gap in gaps:
            for _ in range(gap):
                replay.append(*stream.step())
                segments.stream(replay)
            kept = [*kept, segments.save(replay)][-keep:]
            segments.prune(name for names in kept for name in names)
        state, steps = reopened(replay.state_dict()), [stream.step() for _ in range(2 * later)]

        twin = fresh()
        segments = restored(path, kept[-1], state, twin)
        assert segments.save(twin) == kept[-1]  # nothing is new yet
        assert_twins(replay, twin)
        for step in steps[:later]:
            replay.append(*step)
            twin.append(*step)
            assert_twins(replay, twin)

        names, state, heir = segments.save(twin), reopened(twin.state_dict()), fresh()
        segments.prune(names)
        restored(path, names, state, heir)
        assert_twins(replay, heir)
        for step in steps[later:]:
            replay.append(*step)
            heir.append(*step)
        assert_twins(replay, heir)


@pytest.mark.parametrize("sampler", ["uniform", "prioritized"])
def test_items_whose_frames_another_packer_cannot_fit_leave(tmp_path, monkeypatch, sampler):
    """As after an update of the library that packs: frames take more bytes, and the budget is the run's."""
    replay, twin = (make_replay(2, 4, 3, 200, 600, sampler=sampler, budget=2_000) for _ in range(2))
    stream = ScriptedStream([[Episode(4)], [Episode(7, terminated=False)]], 4)
    replay.begin(stream.reset())
    for _ in range(200):
        replay.append(*stream.step())
    names, state, whole = ReplaySegments(tmp_path).save(replay), reopened(replay.state_dict()), contents(replay)

    compress, decompress = lz4.block.compress, lz4.block.decompress
    worse = SimpleNamespace(
        compress=lambda row, **kwargs: compress(row, **kwargs) + bytes(8),
        decompress=lambda packed, size: decompress(packed[:-8], size),
    )
    monkeypatch.setattr(compressed_frames, "lz4", SimpleNamespace(block=worse))  # of the ring alone
    restored(tmp_path, names, state, twin)
    assert twin.frames.oldest > replay.frames.oldest
    assert 0 < len(twin) < len(replay)
    assert contents(twin) == whole[-len(twin) :]
    assert (np.asarray(twin.sample(64, 0).key) >= twin.items.tail).all()


def ranges(names: list[str]) -> list[tuple[int, int]]:
    """First and last frame that each segment's name says."""
    found = [re.fullmatch(r"(\d{12})-(\d{12})\.segment", name) for name in names]
    assert all(found)
    return [(int(match[1]), int(match[2])) for match in found if match]


def test_a_checkpoint_writes_only_what_is_new_and_names_what_it_needs(tmp_path):
    replay, segments = make_replay(2, 1, 3, 30, 40), ReplaySegments(tmp_path / "replay")
    stream = ScriptedStream([[Episode(4)], [Episode(7, terminated=False)]], 1)
    assert segments.save(replay) == {}
    replay.begin(stream.reset())
    saved, keys = 0, 0
    for _ in range(12):
        for _ in range(5):
            replay.append(*stream.step())
        written = segments.save(replay)
        names = list(written)
        assert written == {name: fingerprint(tmp_path / "replay" / name) for name in names}
        content = torch.load(tmp_path / "replay" / names[-1], weights_only=True)
        assert ranges(names[-1:]) == [(saved + 1, replay.frames.written)]
        assert content["first_frame"] == saved + 1
        assert content["shape"] == [3]
        assert content["items"]["first"] == keys
        assert len(content["items"]["action"]) == replay.items.head - keys
        saved, keys = replay.frames.written, replay.items.head

        spans = ranges(names)
        assert [first for first, _ in spans[1:]] == [last + 1 for _, last in spans[:-1]]
        oldest = max(1, saved - 40 + 1)
        assert spans[0][0] <= oldest <= spans[0][1]  # the oldest frame is there, and no segment in vain
        assert segments.save(replay) == written


@pytest.mark.parametrize("first", [5, 20, 35])
@pytest.mark.parametrize("second", [1, 10, 20, 30, 38])
def test_items_outlive_the_first_segments_of_their_checkpoint(tmp_path, monkeypatch, first, second):
    """One frame a segment: those of the first checkpoint go one by one, its items must stay while they live."""
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES", 1)
    replay, segments = make_replay(1, 1, 1, 40, 40), ReplaySegments(tmp_path)
    stream = ScriptedStream([[Episode(50)]], 1)
    replay.begin(stream.reset())
    for steps in (first, second):
        for _ in range(steps):
            replay.append(*stream.step())
        names = segments.save(replay)
    segments.prune(names)
    twin = make_replay(1, 1, 1, 40, 40)
    restored(tmp_path, names, reopened(replay.state_dict()), twin)
    assert_twins(replay, twin)


def test_a_long_pause_between_checkpoints_writes_what_still_lives(tmp_path):
    replay, segments = make_replay(1, 1, 1, 10, 20), ReplaySegments(tmp_path / "replay")
    stream = ScriptedStream([[Episode(9)]], 1)
    replay.begin(stream.reset())
    segments.save(replay)
    for _ in range(100):
        replay.append(*stream.step())
    names = segments.save(replay)
    assert ranges(list(names)) == [(replay.frames.written - 19, replay.frames.written)]
    twin = make_replay(1, 1, 1, 10, 20)
    restored(tmp_path / "replay", names, replay.state_dict(), twin)
    assert_twins(replay, twin)


def test_pruning_deletes_what_no_checkpoint_needs_and_nothing_else(tmp_path):
    replay, segments = make_replay(1, 1, 1, 100, 200), ReplaySegments(tmp_path)
    stream = ScriptedStream([[Episode(9)]], 1)
    replay.begin(stream.reset())
    for _ in range(3):
        replay.append(*stream.step())
        names = list(segments.save(replay))
    (tmp_path / "notes.txt").write_text("mine")
    segments.prune([])
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "notes.txt"]  # the next checkpoint needs all
    ReplaySegments(tmp_path).prune(names[1:])
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names[1:], "notes.txt"]


def plain_replay(frames: DenseHostFrames, capacity: int) -> Replay:
    items, sampler = ItemTable(capacity, 1), UniformSampler(np.random.Generator(np.random.PCG64(0)))
    return Replay(frames, items, NStepWriter(1, 1, 1, 0.9), sampler, HostBatches(frames, items, torch.device("cpu")), 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.bool_])
@pytest.mark.parametrize("size", [1, 41, 1 << 26], ids=["frame by frame", "few", "at once"])
def test_frames_come_back_bit_for_bit(tmp_path, monkeypatch, dtype, size):
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES", size)
    raw = np.random.Generator(np.random.PCG64(0)).integers(0, 2 if dtype == np.bool_ else 256, (23, 1, 5, 4))
    frames = raw.astype(dtype)
    if dtype == np.float32:
        frames[3], frames[4], frames[5] = np.nan, -0.0, np.inf

    def fresh() -> Replay:
        return plain_replay(DenseHostFrames(30, (5, 4), np.dtype(dtype)), 30)

    replay, no = fresh(), np.zeros(1, np.bool_)
    replay.begin(frames[:1])
    for frame in frames[1:]:
        replay.append(*Step(np.zeros(1, np.int64), np.zeros(1), no, no, frame[None], no, frame[None]))
    twin, segments = fresh(), ReplaySegments(tmp_path)
    restored(tmp_path, segments.save(replay), reopened(replay.state_dict()), twin)
    assert twin.frames.export(1, 23).tobytes() == frames.tobytes()
    assert twin.frames.export(1, 23).dtype == dtype
    assert torch.equal(
        twin.sample(99, 0).observation.view(torch.uint8), replay.sample(99, 0).observation.view(torch.uint8)
    )


def test_a_checkpoint_needs_little_memory_beside_the_replay(tmp_path, monkeypatch):
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES", 1 << 20)
    replay = plain_replay(DenseHostFrames(4096, (64, 64), np.dtype(np.uint8)), 1)
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (4096, 64, 64), np.uint8)
    replay.frames.append(noise)  # 16 MiB that nothing can compress
    tracemalloc.start()
    names = ReplaySegments(tmp_path).save(replay)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(names) == 16
    assert peak < 6 << 20


class TestState:
    def filled(self) -> tuple[Replay, ScriptedStream]:
        replay = make_replay(2, 4, 3, 300, 600)
        stream = ScriptedStream([[Episode(4)], [Episode(7, terminated=False)]], 4)
        replay.begin(stream.reset())
        for _ in range(100):
            replay.append(*stream.step())
        return replay, stream

    def test_the_state_is_small_and_reads_back(self):
        replay, _ = self.filled()
        assert str(reopened(replay.state_dict())) == str(replay.state_dict())

        def tensors(state: Any) -> Iterator[torch.Tensor]:
            values = state.values() if isinstance(state, dict) else state
            for value in values:
                if isinstance(value, dict | list):
                    yield from tensors(value)
                elif isinstance(value, torch.Tensor):
                    yield value

        assert sum(tensor.nbytes for tensor in tensors(replay.state_dict())) < 1_000

    def test_a_state_does_not_change_with_the_replay(self):
        replay, stream = self.filled()
        state = replay.state_dict()
        before = str(state)
        for _ in range(30):
            replay.append(*stream.step())
            replay.sample(3, 0)
        assert str(state) == before

    def test_a_state_without_its_frames_is_refused(self):
        replay, _ = self.filled()
        with pytest.raises(ValueError, match=f"frames end at 0, its state at {replay.frames.written}"):
            make_replay(2, 4, 3, 300, 600).load_state_dict(replay.state_dict())

    @pytest.mark.parametrize(
        ("other", "what"),
        [
            ((3, 4, 3, 300, 600), "env.num_envs: the checkpoint has 2, the config 3"),
            ((2, 1, 3, 300, 600), "env.stack: the checkpoint has 4, the config 1"),
            ((2, 4, 5, 300, 600), "replay.n_step: the checkpoint has 3, the config 5"),
            ((2, 4, 3, 300, 601), "frames of the ring: the checkpoint has 600, the config 601"),
            ((2, 4, 3, 300, 200), "frames of the ring: the checkpoint has 600, the config 200"),
            ((2, 4, 3, 100, 600), "replay.capacity: the checkpoint has 300, the config 100"),
        ],
    )
    def test_a_state_of_other_sizes_is_refused(self, other, what, tmp_path):
        replay, _ = self.filled()
        twin = make_replay(*other)
        with pytest.raises(UsageError, match=what):
            restored(tmp_path, ReplaySegments(tmp_path).save(replay), replay.state_dict(), twin)
