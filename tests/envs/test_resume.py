"""Environments are brought back by playing their lineages again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.core.interruption import Interrupted, Waiting
from dqn_cli.envs.atari import AtariBackend, AtariProtocol
from dqn_cli.envs.contract import StepResult, VectorBackend
from dqn_cli.envs.gymnasium import GymnasiumBackend
from dqn_cli.envs.lineage import TrainingSeeds
from dqn_cli.envs.vector import EpisodicVector
from tests.core.saving import reloaded
from tests.envs.hostile import env_id

BREAKOUT = AtariProtocol("Breakout", screen=32)


def vector(backend: VectorBackend, every: int = 0, cap: int | None = None, life_loss: bool = False) -> EpisodicVector:
    return EpisodicVector(backend, TrainingSeeds(3, every), cap, life_loss)


def play(envs: EpisodicVector, steps: int, seed: int) -> list[StepResult]:
    rng, results = np.random.default_rng(seed), []
    for _ in range(steps):
        envs.send(rng.integers(envs.spec.num_actions, size=envs.spec.num_envs))
        results.append(envs.recv())
    return results


def assert_same(one: StepResult, other: StepResult) -> None:
    for name in ("observation", "successor", "reward", "terminal", "truncated", "restarted"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.episodes == other.episodes


def assert_goes_on(make: Callable[[], EpisodicVector], before: int, after: int, used: int = 0) -> None:
    """Saves after ``before`` steps and compares the next ones; ``used``: the emulators have played before."""
    envs = make()
    envs.reset()
    play(envs, before, 0)
    state = reloaded(envs.state_dict())
    twin = make()
    if used:
        twin.reset()
        play(twin, used, 5)
    twin.load_state_dict(state)
    assert not twin.resume().any()
    assert np.array_equal(twin.observation, envs.observation)
    for one, other in zip(play(envs, after, 1), play(twin, after, 1), strict=True):
        assert_same(one, other)
    envs.close()
    twin.close()


@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 130), num_envs=st.integers(1, 5), used=st.sampled_from([0, 7]))
def test_cartpole_anywhere(before, num_envs, used):
    assert_goes_on(lambda: vector(GymnasiumBackend("CartPole-v1", num_envs)), before, 40, used)


def test_in_worker_processes():
    assert_goes_on(lambda: vector(GymnasiumBackend("CartPole-v1", 2, vectorization="async")), 37, 20)


@pytest.mark.parametrize(
    ("before", "every", "cap"), [(0, 50, None), (260, 5_000, 400), (261, 100, 300), (331, 60, None)]
)
def test_atari_with_sticky_actions(before, every, cap):
    """Lineages over several episodes, caps, lives; emulators that have played something else before."""
    assert_goes_on(lambda: vector(AtariBackend(BREAKOUT, 3, 1), every, cap, life_loss=True), before, 60, used=11)


def test_who_arrives_elsewhere_is_told_and_can_begin_anew():
    def make() -> EpisodicVector:
        return vector(GymnasiumBackend(env_id("Counting"), 3, {"length": 4}))

    envs = make()
    envs.reset()
    play(envs, 6, 0)  # in its second episode: another process would be in its first
    twin = make()
    twin.load_state_dict(reloaded(envs.state_dict()))
    assert twin.resume().tolist() == [True] * 3
    before = twin.state_dict()
    observation = twin.restart(np.array([True, False, True]))
    assert observation[[0, 2], 0, 1].tolist() == [0.0, 0.0]
    after = twin.state_dict()
    assert after["episode"] == [2, 1, 2]
    assert after["length"] == [0, before["length"][1], 0]
    seeds = TrainingSeeds(3, 0)
    assert after["lineages"]["seeds"] == [
        seeds.next_seed(0, 2, 0),
        before["lineages"]["seeds"][1],
        seeds.next_seed(2, 2, 0),
    ]


def test_a_restart_never_goes_on_with_a_lineage():
    envs = vector(AtariBackend(BREAKOUT, 2, 1), every=5_000)
    envs.reset()
    play(envs, 10, 0)
    envs.restart(np.array([False, True]))
    state = envs.state_dict()["lineages"]
    assert [len(actions) for actions in state["actions"]] == [10, 0]
    assert state["seeds"][1] == TrainingSeeds(3, 5_000).next_seed(1, 1, 5_000)
    envs.close()


class Interrupting(Waiting):
    """Interrupts the n-th wait, in it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def __enter__(self) -> Interrupting:
        super().__enter__()
        self.left -= 1
        if self.left == 0:
            try:
                self.interrupt()
            except Interrupted:
                self.__exit__(Interrupted, None, None)
                raise
        return self


@pytest.mark.parametrize("number", range(2, 40))
def test_an_interrupted_wait_leaves_the_state_before_the_step(number):
    """In a send, in a recv, or in the reset of an episode that ended."""
    backend = GymnasiumBackend(env_id("OneState"), 2)
    envs = EpisodicVector(backend, TrainingSeeds(0, 0), 7, False, Interrupting(number))
    envs.reset()
    while True:
        state = reloaded(envs.state_dict())
        try:
            envs.send(np.zeros(2, np.int64))
            envs.recv()
        except Interrupted:
            break
    envs.abandon()
    found = reloaded(envs.state_dict())
    assert str(found) == str(state)


def test_only_waits_are_interrupted_and_only_once():
    waiting = Waiting()
    waiting.interrupt()
    with waiting:
        pass
    waiting.interrupt()
    with pytest.raises(Interrupted), waiting, waiting:
        waiting.interrupt()
    with waiting:
        waiting.interrupt()
