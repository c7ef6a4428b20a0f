"""What is wrong in our own code between the environments and the batch is found by the audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dqn_cli.core.types import Batch
from dqn_cli.envs.contract import StepResult
from dqn_cli.envs.lineage import TrainingSeeds
from dqn_cli.envs.vector import EpisodicVector
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.frames import DenseHostFrames
from dqn_cli.replay.items import Items, ItemTable
from dqn_cli.replay.samplers import UniformSampler
from dqn_cli.replay.writer import NStepWriter
from tests.experiments.audits import audited, breakout, failed

Patch = pytest.MonkeyPatch


def items_with(items: Items, **changes: Any) -> Items:
    return Items(**({name: getattr(items, name) for name in Items.__slots__} | changes))


def changed_items(patch: Patch, change: Callable[[Items], Items]) -> None:
    append = NStepWriter.append
    patch.setattr(NStepWriter, "append", lambda self, *args: change(append(self, *args)))


def drop_a_transition(patch: Patch) -> None:
    changed_items(patch, lambda items: items_with(items, **{n: getattr(items, n)[:-1] for n in Items.__slots__}))


def gamma_to_the_n(patch: Patch) -> None:
    changed_items(patch, lambda i: items_with(i, discount=np.where(i.discount > 0, np.float32(0.99**3), np.float32(0))))


def truncation_as_termination(patch: Patch) -> None:
    append = NStepWriter.append
    patch.setattr(
        NStepWriter,
        "append",
        lambda self, actions, reward, terminal, truncated, ids: append(
            self, actions, reward, terminal | truncated, truncated, ids
        ),
    )


def actions_of_a_neighbour(patch: Patch) -> None:
    append = NStepWriter.append
    patch.setattr(NStepWriter, "append", lambda self, actions, *rest: append(self, np.roll(actions, 1), *rest))


def rewards_of_the_wrong_sign(patch: Patch) -> None:
    changed_items(patch, lambda items: items_with(items, reward=-items.reward))


def stale_observation(patch: Patch) -> None:
    changed_items(patch, lambda items: items_with(items, stack=np.maximum(items.stack - 3, 0)))


def successor_of_the_next_episode(patch: Patch) -> None:
    append: Any = Replay.append

    def wrong(self: Replay, *arguments: Any) -> None:
        successor = arguments[6]
        append(self, *arguments[:4], successor, *arguments[5:])

    patch.setattr(Replay, "append", wrong)


def a_frame_that_is_overwritten(patch: Patch) -> None:
    write = DenseHostFrames._write

    def wrong(self: DenseHostFrames, first: int, frames: Any) -> Any:
        ids = write(self, first, frames)
        if first > 30:
            self._frames[(first - 21) % self.capacity + 1] = 7
        return ids

    patch.setattr(DenseHostFrames, "_write", wrong)


def items_that_leave_early(patch: Patch) -> None:
    expire = ItemTable.expire
    patch.setattr(ItemTable, "expire", lambda self, oldest: expire(self, oldest + 120))


def a_batch_that_is_shuffled(patch: Patch) -> None:
    sample = Replay.sample

    def wrong(self: Replay, size: int, step: int) -> Batch:
        batch = sample(self, size, step)
        values = {name: getattr(batch, name) for name in Batch.__slots__}
        return Batch(**(values | {"observation": batch.observation.flip(0)}))

    patch.setattr(Replay, "sample", wrong)


def a_phantom_step(patch: Patch) -> None:
    """The environment is stepped once more after each reset."""
    begin = EpisodicVector._begin

    def wrong(self: EpisodicVector, mask: Any) -> Any:
        reset = begin(self, mask)
        self._backend.send(np.zeros(len(mask), np.int64))
        step = self._backend.recv()
        return type(reset)(step.observation, reset.lives, reset.frames)

    patch.setattr(EpisodicVector, "_begin", wrong)


@pytest.mark.parametrize(
    ("defect", "check"),
    [
        (drop_a_transition, "transitions stored"),
        (gamma_to_the_n, "discounts"),
        (truncation_as_termination, "discounts"),
        (actions_of_a_neighbour, "actions"),
        (rewards_of_the_wrong_sign, "n-step rewards"),
        (stale_observation, "observation stacks"),
        (successor_of_the_next_episode, "successors"),
        (a_frame_that_is_overwritten, "items that live"),
        (items_that_leave_early, "items that live"),
        (a_batch_that_is_shuffled, "sampled batches"),
        (a_phantom_step, "episodes played again"),
        (a_phantom_step, "episode ends"),
    ],
)
def test_of_replay(defect, check, monkeypatch):
    defect(monkeypatch)
    assert check in failed(audited())


def test_an_item_that_has_left_and_is_sampled(monkeypatch):
    extend = UniformSampler.extend
    monkeypatch.setattr(UniformSampler, "extend", lambda self, tail, head: extend(self, max(0, tail - 40), head))
    found = failed(audited())
    assert "was sampled and does not live" in found["sampled batches"]
    assert "was drawn and does not live" in found["sampling frequencies"]


def told_wrong(patch: Patch, change: Callable[[StepResult], StepResult]) -> None:
    recv = EpisodicVector.recv
    patch.setattr(EpisodicVector, "recv", lambda self: change(recv(self)))


def with_episodes(step: StepResult, **changes: Any) -> StepResult:
    return replace(step, episodes=tuple(replace(end, **changes) for end in step.episodes))


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        pytest.param(
            lambda s: replace(s, terminal=s.terminal | s.truncated, truncated=s.truncated & False),
            {"episode ends", "discounts"},
            id="truncation as termination",
        ),
        pytest.param(
            lambda s: replace(s, truncated=s.truncated & False),
            {"episode ends", "transitions stored"},
            id="truncation lost",
        ),
        pytest.param(
            lambda s: replace(s, terminal=s.terminal & False, truncated=s.restarted),
            {"episode ends", "discounts"},
            id="termination as truncation",
        ),
        pytest.param(
            lambda s: replace(s, terminal=s.terminal & False),
            {"episode ends", "transitions stored"},
            id="termination lost",
        ),
        pytest.param(
            lambda s: replace(s, terminal=s.terminal | True),
            {"episode ends", "transitions stored"},
            id="every step terminal",
        ),
        pytest.param(
            lambda s: replace(s, restarted=s.restarted & False), {"episode ends"}, id="a new episode not announced"
        ),
        pytest.param(
            lambda s: replace(s, successor=s.observation),
            {"steps handed on", "successors"},
            id="the next episode's first frame",
        ),
        pytest.param(
            lambda s: replace(s, observation=s.successor),
            {"steps handed on", "observation stacks"},
            id="the last episode's last frame",
        ),
        pytest.param(
            lambda s: replace(s, reward=np.clip(s.reward, -0.5, 0.5)),
            {"steps handed on", "n-step rewards"},
            id="clipped rewards",
        ),
        pytest.param(lambda s: with_episodes(s, score=1.0), {"episode records"}, id="another score"),
        pytest.param(lambda s: with_episodes(s, seed=1), {"episode records"}, id="another seed"),
        pytest.param(lambda s: replace(s, episodes=s.episodes[1:]), {"episode records"}, id="an episode not recorded"),
    ],
)
def test_of_what_is_told_of_a_step(change, checks, monkeypatch):
    told_wrong(monkeypatch, change)
    assert checks <= set(failed(audited()))


def test_of_truncation_by_the_environment_itself(monkeypatch):
    told_wrong(monkeypatch, lambda s: replace(s, terminal=s.terminal | s.truncated, truncated=s.truncated & False))
    assert {"episode ends", "discounts"} <= set(failed(audited("OneState")))


def test_of_actions_on_their_way(monkeypatch):
    send = EpisodicVector.send
    monkeypatch.setattr(EpisodicVector, "send", lambda self, actions: send(self, actions[::-1].copy()))
    assert {"steps handed on", "actions"} <= set(failed(audited()))


def test_of_a_reset_of_everyone(monkeypatch):
    """Where one episode ends, those of the neighbours are reset too (trap 28)."""
    begin = EpisodicVector._begin
    monkeypatch.setattr(EpisodicVector, "_begin", lambda self, mask: begin(self, mask | True))
    found = failed(audited("Bimodal"))
    assert "did not end and was reset" in found["episode ends"]


def test_of_environments_that_play_the_same_episodes(monkeypatch):
    seed = TrainingSeeds.next_seed
    monkeypatch.setattr(TrainingSeeds, "next_seed", lambda self, index, *rest: seed(self, 0, *rest))
    assert "environments 0 and 1 both played episode 0 from seed" in failed(audited())["episode records"]


def test_of_one_buffer_for_all_observations(monkeypatch):
    recv = EpisodicVector.recv
    buffer: list[Any] = []

    def wrong(self: EpisodicVector) -> StepResult:
        result = recv(self)
        buffer[:] = buffer or [np.empty_like(result.observation)]
        buffer[0][:] = result.observation
        return replace(result, observation=buffer[0])

    monkeypatch.setattr(EpisodicVector, "recv", wrong)
    assert "another observation of the step before" in failed(audited())["steps handed on"]


def test_of_an_observation_that_is_written_again(monkeypatch):
    restart = EpisodicVector._restart

    def wrong(self: EpisodicVector, step: Any, *rest: Any) -> StepResult:
        result = restart(self, step, *rest)
        step.observation[:] = result.observation
        return result

    monkeypatch.setattr(EpisodicVector, "_restart", wrong)
    assert {"steps handed on", "successors"} <= set(failed(audited()))


def test_of_items_that_outlive_their_frames(monkeypatch):
    """The second session cuts its episodes so short that a ring of large frames is crowded."""
    monkeypatch.setattr(ItemTable, "expire", lambda *_: None)
    assert "items that live" in failed(breakout(1_200, num_envs=2))


@pytest.mark.parametrize("ends", [True, False])
def test_of_lost_lives(ends, monkeypatch):
    """The config says the one, the code does the other."""
    init = EpisodicVector.__init__

    def wrong(self: EpisodicVector, *arguments: Any, **named: Any) -> None:
        init(self, *arguments, **(named | {"terminal_on_life_loss": not ends}))

    monkeypatch.setattr(EpisodicVector, "__init__", wrong)
    assert "episode ends" in failed(breakout(240, num_envs=2, terminal_on_life_loss=ends))
