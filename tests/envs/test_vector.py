"""The stream of whole episodes, on Gymnasium environments."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.core.errors import BrokenEnvironmentError, UsageError
from dqn_cli.core.types import Array, ObservationSpec
from dqn_cli.envs.contract import BackendReset, BackendStep, Environments, EnvironmentSpec, StepResult
from dqn_cli.envs.gymnasium import GymnasiumBackend
from dqn_cli.envs.lineage import EpisodeQueue, TrainingSeeds
from dqn_cli.envs.vector import EpisodicVector
from tests.envs.hostile import env_id


def environments(name, num_envs=2, cap=None, life_loss=False, seeds=None, **kwargs) -> EpisodicVector:
    backend = GymnasiumBackend(env_id(name), num_envs, kwargs)
    return EpisodicVector(backend, seeds or TrainingSeeds(0, 0), cap, life_loss)


def step(envs: Environments, action: int = 0) -> StepResult:
    envs.send(np.full(envs.spec.num_envs, action))
    return envs.recv()


class TestEpisodes:
    @pytest.mark.parametrize("truncate", [False, True])
    def test_no_step_leads_from_one_episode_into_the_next(self, truncate):
        envs = environments("Counting", length=3, truncate=truncate)
        observation = envs.reset()
        for count in range(12):
            episode, time = divmod(count, 3)
            assert observation[:, 0].tolist() == [[episode, time]] * 2
            result = step(envs)
            assert result.successor[:, 0].tolist() == [[episode, time + 1]] * 2
            assert result.reward.tolist() == [time + 1] * 2
            ended = time == 2
            assert result.restarted.tolist() == [ended] * 2
            assert result.terminal.tolist() == [ended and not truncate] * 2
            assert result.truncated.tolist() == [ended and truncate] * 2
            observation = result.observation

    def test_sides_share_memory_until_an_episode_ends(self):
        envs = environments("Counting", length=2)
        envs.reset()
        result = step(envs)
        assert np.shares_memory(result.observation, result.successor)
        assert not np.shares_memory(step(envs).observation, result.successor)
        result = step(environments_after_reset("Counting", length=1))
        assert not np.shares_memory(result.observation, result.successor)

    def test_episodes_are_described_as_they_were_played(self):
        envs = environments("Counting", length=3)
        envs.reset()
        actions = [0, 1, 1, 1, 0, 1]
        ended = [end for action in actions for end in step(envs, action).episodes]
        assert [(end.env_index, end.episode) for end in ended] == [(0, 0), (1, 0), (0, 1), (1, 1)]
        assert len({end.seed for end in ended}) == 4
        for end in ended:
            assert (end.score, end.length, end.frames, end.terminated) == (6.0, 3, 3, True)
            assert end.lineage_steps == 0
            assert list(end.actions) == actions[3 * end.episode :][:3]

    def test_time_limit_truncates_and_the_successor_still_has_a_value(self):
        envs = environments("OneState")
        envs.reset()
        results = [step(envs) for _ in range(10)]
        assert [bool(result.truncated.any()) for result in results] == [False] * 9 + [True]
        assert not any(result.terminal.any() for result in results)
        assert [end.terminated for end in results[-1].episodes] == [False, False]

    def test_the_last_reward_counts(self):
        envs = environments("LastStepReward")
        envs.reset()
        results = [step(envs) for _ in range(3)]
        assert [result.reward.tolist() for result in results] == [[0, 0], [0, 0], [1, 1]]
        assert [end.score for end in results[-1].episodes] == [1.0, 1.0]

    def test_episodes_of_one_step(self):
        envs = environments("OneStepEpisodes")
        envs.reset()
        for count in range(3):
            result = step(envs, action=1)
            assert result.successor[:, 0].tolist() == [[0, 1]] * 2
            assert result.observation[:, 0].tolist() == [[1, 0]] * 2
            assert [(end.episode, end.length, end.score) for end in result.episodes] == [(count, 1, 1.0)] * 2

    def test_environments_end_independently(self):
        envs = environments("Bimodal", num_envs=6, short=2, long=7)
        envs.reset()
        seen = set()
        for _ in range(30):
            result = step(envs)
            assert {end.env_index for end in result.episodes} == set(np.flatnonzero(result.restarted).tolist())
            seen |= {(end.length, end.score) for end in result.episodes}
        assert seen == {(2, 2.0), (7, 7.0)}

    def test_actions_of_many_kinds_are_logged_in_two_bytes(self):
        envs = environments("ManyActions", cap=2)
        envs.reset()
        step(envs, 299)
        (end, _) = step(envs, 1).episodes
        assert np.frombuffer(end.actions, "<u2").tolist() == [299, 1]


def environments_after_reset(name, **kwargs) -> EpisodicVector:
    envs = environments(name, **kwargs)
    envs.reset()
    return envs


class TestFrameCap:
    def test_an_environment_that_never_ends_is_cut_as_truncated(self):
        envs = environments_after_reset("NeverEnds", cap=4)
        results = [step(envs) for _ in range(8)]
        assert [result.truncated.tolist() for result in results] == ([[False] * 2] * 3 + [[True] * 2]) * 2
        assert not any(result.terminal.any() for result in results)
        ended = [end for result in results for end in result.episodes]
        assert [(end.length, end.frames, end.terminated) for end in ended] == [(4, 4, False)] * 4

    def test_an_end_at_the_cap_is_an_end(self):
        envs = environments_after_reset("Counting", cap=3, length=3)
        step(envs)
        step(envs)
        result = step(envs)
        assert result.terminal.all()
        assert not result.truncated.any()
        assert all(end.terminated for end in result.episodes)


class TestSend:
    @pytest.mark.parametrize(
        "actions",
        [
            np.array([0, 2]),
            np.array([0, -1]),
            np.array([0, -(2**62)]),
            np.array([0]),
            np.array([[0, 0]]),
            np.array([0, 0], np.int32),
            np.array([0.0, 0.0]),
            np.array([True, False]),
            [0, 0],
            torch.zeros(2, dtype=torch.int64),
        ],
        ids=str,
    )
    def test_wrong_actions_fail_at_once_and_nothing_is_sent(self, actions):
        envs = environments_after_reset("Counting")
        with pytest.raises(ValueError, match="actions must"):
            envs.send(actions)
        assert step(envs).successor[:, 0].tolist() == [[0, 1]] * 2

    def test_the_order_of_calls_is_checked(self):
        envs = environments("Counting")
        with pytest.raises(RuntimeError, match="reset first"):
            envs.send(np.zeros(2, np.int64))
        envs.reset()
        with pytest.raises(RuntimeError, match="without send"):
            envs.recv()
        envs.send(np.zeros(2, np.int64))
        with pytest.raises(RuntimeError, match="between two sends"):
            envs.send(np.zeros(2, np.int64))

    def test_the_caller_may_reuse_its_array(self):
        envs = environments_after_reset("OffsetActions", num_envs=1, cap=2)
        actions = np.array([2])
        for _ in range(2):
            actions[:] = 2
            envs.send(actions)
            actions[:] = 0
            result = envs.recv()
            assert result.reward.tolist() == [1.0]
        assert list(result.episodes[0].actions) == [2, 2]


def test_a_fixed_set_of_episodes_is_played_to_the_end_whatever_their_lengths():
    seeds = list(range(100, 120))
    queue = EpisodeQueue(seeds)
    envs = environments("Bimodal", num_envs=7, seeds=queue)
    envs.reset()
    lengths: dict[int, int] = {}
    while len(lengths) < len(seeds):
        for end in step(envs).episodes:
            position = queue.position(end.env_index, end.episode)
            if position >= 0:
                assert position not in lengths
                assert end.seed == seeds[position]
                lengths[position] = end.length
    for position, seed in enumerate(seeds):
        alone = environments("Bimodal", num_envs=1, seeds=EpisodeQueue([seed]))
        alone.reset()
        while not (ended := step(alone).episodes):
            pass
        assert ended[0].length == lengths[position]
    assert set(lengths.values()) == {2, 40}


class Scripted:
    """A backend of one environment with lives, no-ops and four frames a step, played from a script."""

    def __init__(
        self,
        lives: Sequence[int],
        terminated: Sequence[int | tuple[int, int]] = (),
        reset_frames: int = 0,
        num_envs: int = 1,
        reset_lives: int | None = None,
    ) -> None:
        self.spec = EnvironmentSpec(
            "scripted", num_envs, ObservationSpec((1,), np.dtype(np.uint8), 2, 1.0), 2, frames_per_step=4
        )
        self._lives, self._terminated = lives, terminated
        self._reset_frames, self._reset_lives = reset_frames, reset_lives
        self.time, self.resets = 0, 0

    def _observation(self) -> Array:
        return np.full((self.spec.num_envs, 2, 1), self.time, np.uint8)

    def reset(self, mask, seeds):
        self.resets += 1
        # Outside the mask a backend may return anything.
        observation = np.where(mask[:, None, None], self._observation(), 255).astype(np.uint8)
        lives = np.where(mask, self._reset_lives or self._lives[self.time], 99)
        return BackendReset(observation, lives, np.where(mask, self._reset_frames, 9999))

    def send(self, actions):
        self.time += 1

    def recv(self):
        n = self.spec.num_envs
        terminated = np.array(
            [self.time in self._terminated or (self.time, index) in self._terminated for index in range(n)]
        )
        lives = np.full(n, self._lives[self.time])
        return BackendStep(self._observation(), np.full(n, 2.0), terminated, np.zeros(n, np.bool_), lives)

    def close(self):
        pass


class TestLives:
    LIVES = (3, 3, 2, 2, 3, 1, 0, 0, 0)

    def play(self, life_loss: bool, cap: int | None = None) -> tuple[Scripted, list[StepResult]]:
        backend = Scripted(self.LIVES, terminated=(7,))
        envs = EpisodicVector(backend, TrainingSeeds(0, 0), cap, life_loss)
        envs.reset()
        return backend, [step(envs) for _ in range(7)]

    def test_a_lost_life_ends_the_bootstrap_but_not_the_game(self):
        backend, results = self.play(life_loss=True)
        assert [bool(result.terminal[0]) for result in results] == [
            False,
            True,
            False,
            False,
            True,
            True,
            True,
        ]
        assert [bool(result.restarted[0]) for result in results] == [False] * 6 + [True]
        assert [len(result.episodes) for result in results] == [0] * 6 + [1]
        assert (results[-1].episodes[0].score, results[-1].episodes[0].length) == (14.0, 7)
        assert backend.resets == 2

    def test_lives_mean_nothing_unless_the_config_says_so(self):
        _, results = self.play(life_loss=False)
        assert [bool(result.terminal[0]) for result in results] == [False] * 6 + [True]

    def test_a_life_lost_at_the_cap_ends_the_bootstrap(self):
        _, results = self.play(life_loss=True, cap=8)
        assert (results[1].terminal[0], results[1].truncated[0], results[1].restarted[0]) == (
            True,
            False,
            True,
        )
        assert not results[1].episodes[0].terminated

    def test_the_lives_of_a_new_game_are_not_a_loss(self):
        backend = Scripted((5, 1, 0, 5, 3, 3), terminated=(2,), reset_lives=5)
        envs = EpisodicVector(backend, TrainingSeeds(0, 0), None, True)
        envs.reset()
        terminal = [bool(step(envs).terminal[0]) for _ in range(5)]
        assert terminal == [True, True, False, True, False]

    def test_the_first_life_of_a_new_game_may_be_lost_in_its_first_step(self):
        envs = EpisodicVector(Scripted((5, 0, 4, 4), terminated=(1,), reset_lives=5), TrainingSeeds(0, 0), None, True)
        envs.reset()
        assert [bool(step(envs).terminal[0]) for _ in range(3)] == [True, True, False]


def test_a_reset_touches_only_what_ended():
    backend = Scripted((3,) * 20, terminated=((2, 1),), reset_frames=3, num_envs=3)
    envs = EpisodicVector(backend, TrainingSeeds(0, 0), 23, True)
    envs.reset()
    results = [step(envs) for _ in range(5)]
    assert [result.restarted.tolist() for result in results] == [
        [False] * 3,
        [False, True, False],
        [False] * 3,
        [False] * 3,
        [True, False, True],
    ]
    for time, result in enumerate(results, start=1):
        assert (result.observation == time).all()
        assert not result.terminal[[0, 2]].any()


@pytest.mark.parametrize(("reset_frames", "length"), [(0, 5), (1, 5), (3, 5), (4, 4), (19, 1), (20, 1), (99, 1)])
def test_the_cap_counts_frames_and_those_of_the_reset(reset_frames, length):
    envs = EpisodicVector(Scripted((0,) * 50, reset_frames=reset_frames), TrainingSeeds(0, 0), 20, False)
    envs.reset()
    for _ in range(2):
        ended = [end for _ in range(length) for end in step(envs).episodes]
        assert [(end.length, end.frames) for end in ended] == [(length, reset_frames + 4 * length)]


def played(envs: EpisodicVector, steps: int) -> EpisodicVector:
    envs.reset()
    for _ in range(steps):
        step(envs)
    return envs


class FailingReset(Scripted):
    """Fails in reset number ``fails``, of the environment ``env_index``."""

    def __init__(self, fails: int, env_index: int | None, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fails, self._env_index = fails, env_index
        self.seeds: list[list[int | None]] = []

    def reset(self, mask, seeds):
        self.seeds.append(list(seeds))
        if self.resets == self._fails:
            raise BrokenEnvironmentError("boom", self._env_index)
        return super().reset(mask, seeds)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("every", "seeded"), [(3, [True, True]), (4, [False, True]), (6, [False, True]), (7, [False] * 2)]
)
def test_the_step_that_ends_an_episode_counts_for_its_lineage(every, seeded):
    backend = FailingReset(99, 0, (0,) * 20, (3, 6))
    played(EpisodicVector(backend, TrainingSeeds(0, every), None, False), 6)
    assert [seeds[0] is not None for seeds in backend.seeds] == [True, *seeded]


class TestFailures:
    LIVES = (3, 3, 2, 2, 2, 1, 1, 1, 1, 1)

    def failing(self, fails: int, env_index: int | None = 1, every: int = 0) -> tuple[FailingReset, EpisodicVector]:
        ends = ((3, 0), (3, 1), (6, 0), (6, 1))
        backend = FailingReset(fails, env_index, self.LIVES, ends, reset_frames=3, num_envs=2)
        return backend, EpisodicVector(backend, TrainingSeeds(0, every), 1000, True)

    @pytest.mark.parametrize("every", [0, 100])
    def test_a_reset_that_fails_leaves_the_state_before_the_step(self, every):
        backend, envs = self.failing(2, every=every)
        before = played(envs, 5).state_dict()
        with pytest.raises(BrokenEnvironmentError) as error:
            step(envs)
        assert error.value.whole
        assert str(envs.state_dict()) == str(before)
        # And the twin whose reset goes well arrives where no failure ever was.
        healthy = played(self.failing(99, every=every)[1], 5)
        backend.time, backend._fails = 5, 99
        assert str(step(envs)) == str(step(healthy))
        assert str(envs.state_dict()) == str(healthy.state_dict())

    def test_where_a_seeded_reset_failed_and_what_plays_it_again(self):
        backend, envs = self.failing(2)
        envs.reset()
        for action in (0, 0, 0, 0, 0):
            step(envs, action)
        with pytest.raises(BrokenEnvironmentError) as error:
            step(envs, 1)
        seed = backend.seeds[1][1]
        place = f"before episode 2, after episode 1, step 2, action 1, lineage seed {seed}"
        assert str(error.value) == f"boom ({place})"
        # Its seed is where a lineage begins: nothing before it matters.
        found: dict[str, Any] = {
            "env": 1,
            "episode": 2,
            "seed": backend.seeds[2][1],
            "episode_offset": 0,
            "actions": [],
        }
        assert error.value.episode == found
        assert found["seed"] not in (seed, None)

    def test_an_unseeded_reset_needs_all_that_was_played(self):
        backend, envs = self.failing(2, every=100)
        envs.reset()
        for action in (0, 0, 1, 0, 0):
            step(envs, action)
        with pytest.raises(
            BrokenEnvironmentError, match="before episode 2, after episode 1, step 2, action 1"
        ) as error:
            step(envs, 1)
        seed = backend.seeds[0][1]
        assert backend.seeds[2] == [None, None]
        assert error.value.episode == {
            "env": 1,
            "episode": 2,
            "seed": seed,
            "episode_offset": 6,
            "actions": [0, 0, 1, 0, 0, 1],
        }

    def test_before_the_first_episode_there_is_nothing_to_save(self):
        backend, envs = self.failing(0)
        with pytest.raises(BrokenEnvironmentError, match=r"^boom \(before episode 0\)$") as error:
            envs.reset()
        assert not error.value.whole
        seed = backend.seeds[0][1]
        assert error.value.episode == {"env": 1, "episode": 0, "seed": seed, "episode_offset": 0, "actions": []}
        with pytest.raises(RuntimeError, match="is whole only"):
            envs.state_dict()

    @pytest.mark.parametrize(("fails", "whole"), [(0, False), (1, True)])
    def test_nobody_knows_which(self, fails, whole):
        _, envs = self.failing(fails, None)
        with pytest.raises(BrokenEnvironmentError, match=r"^boom$") as error:
            played(envs, 3)
        assert (error.value.whole, error.value.episode) == (whole, None)

    @pytest.mark.parametrize("call", ["send", "recv"])
    def test_a_step_that_fails_was_not_taken(self, call, monkeypatch):
        backend, envs = self.failing(99)
        envs.reset()
        for action in (0, 1, 0, 1):
            step(envs, action)
        before = envs.state_dict()

        def fail(*_: Any) -> None:
            raise BrokenEnvironmentError("boom", 1)

        monkeypatch.setattr(backend, call, fail)
        with pytest.raises(BrokenEnvironmentError) as error:
            step(envs, 1)
        seed = backend.seeds[1][1]
        assert str(error.value) == f"boom (episode 1, step 1, action 1, lineage seed {seed})"
        assert error.value.episode == {"env": 1, "episode": 1, "seed": seed, "episode_offset": 0, "actions": [1, 1]}
        assert error.value.whole
        assert str(envs.state_dict()) == str(before)

    @pytest.mark.parametrize(
        ("reward", "words"),
        [(np.nan, "nan"), (-np.inf, "-inf"), (1e39, "1e+39, more than float32 holds"), (-1e39, "-1e+39, more than")],
    )
    def test_a_reward_that_replay_cannot_hold(self, reward, words, monkeypatch):
        backend, envs = self.failing(99)
        envs.reset()
        recv: Any = backend.recv
        monkeypatch.setattr(backend, "recv", lambda: replace(recv(), reward=np.array([1.0, reward])))
        with pytest.raises(BrokenEnvironmentError) as error:
            step(envs)
        assert str(error.value).startswith(f"environment 1 gave the reward {words}")
        assert (error.value.env_index, error.value.whole) == (1, True)

    def test_the_largest_reward(self, monkeypatch):
        backend, envs = self.failing(99)
        envs.reset()
        recv: Any = backend.recv
        most = float(np.finfo(np.float32).max)
        monkeypatch.setattr(backend, "recv", lambda: replace(recv(), reward=np.array([most, -most])))
        assert step(envs).reward.tolist() == [most, -most]


class TestState:
    def reopened(self, state: Any) -> Any:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    @settings(max_examples=15, deadline=None)
    @given(steps=st.integers(0, 40), every=st.sampled_from([0, 12]))
    def test_the_state_is_whole_and_replays(self, steps, every):
        """A replay of the saved lineages arrives at the saved observations, scores and lengths."""
        rng = np.random.default_rng(0)
        envs = environments("Bimodal", num_envs=3, seeds=TrainingSeeds(0, every), short=3, long=11)
        envs.reset()
        for _ in range(steps):
            envs.send(rng.integers(0, 2, 3))
            envs.recv()
        state = self.reopened(envs.state_dict())
        for index, actions in enumerate(state["lineages"]["actions"]):
            alone = environments(
                "Bimodal",
                num_envs=1,
                short=3,
                long=11,
                seeds=EpisodeQueue([state["lineages"]["seeds"][index]]),
            )
            observation = alone.reset()
            for action in actions.tolist():
                observation = step(alone, action).observation
            replayed = alone.state_dict()
            np.testing.assert_array_equal(observation[0], state["observation"][index].numpy())
            for key in ("length", "frames", "score"):
                assert replayed[key][0] == state[key][index]
            assert replayed["lineages"]["episode_offsets"][0] == state["lineages"]["episode_offsets"][index]

    def test_a_loaded_state_goes_on_as_the_saved_one(self):
        def play(envs: EpisodicVector, backend: Scripted, steps: int) -> list[Any]:
            seen = []
            for _ in range(steps):
                result = step(envs, backend.time % 2)
                seen.append((result.terminal.tolist(), result.truncated.tolist(), result.episodes))
            return seen

        lives = (3, 3, 2, 2, 3, 1, 0, 4, 4, 3, 3, 3, 2, 2, 1, 1, 1, 0, 0, 0)
        for steps in range(10):
            backend = Scripted(lives, terminated=(6, 14), reset_frames=3, num_envs=2)
            envs = EpisodicVector(backend, TrainingSeeds(0, 5), 24, True)
            envs.reset()
            play(envs, backend, steps)
            state = self.reopened(envs.state_dict())
            twin_backend = Scripted(lives, terminated=(6, 14), reset_frames=3, num_envs=2)
            twin_backend.time = steps
            twin = EpisodicVector(twin_backend, TrainingSeeds(0, 5), 24, True)
            twin.load_state_dict(state)
            assert str(twin.state_dict()) == str(envs.state_dict())
            assert play(twin, twin_backend, 9) == play(envs, backend, 9)

    def test_there_is_no_state_in_the_middle_of_a_step(self):
        envs = environments("Counting")
        with pytest.raises(RuntimeError, match="between a recv and a send"):
            envs.state_dict()
        envs.reset()
        envs.send(np.zeros(2, np.int64))
        with pytest.raises(RuntimeError, match="between a recv and a send"):
            envs.state_dict()

    def test_another_number_of_environments_is_refused(self):
        state = environments_after_reset("Counting", num_envs=2).state_dict()
        with pytest.raises(UsageError, match=r"set env\.num_envs=2"):
            environments("Counting", num_envs=3).load_state_dict(state)
