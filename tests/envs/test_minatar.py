"""MinAtar: its games are registered when asked for, forget what ran before, and show their planes first."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dqn_cli.core.errors import UsageError
from dqn_cli.envs.gymnasium import GymnasiumBackend
from dqn_cli.envs.gymnasium_make import environment_factory
from dqn_cli.envs.lineage import TrainingSeeds
from dqn_cli.envs.vector import EpisodicVector
from dqn_cli.experiments.audit.audit import audit
from dqn_cli.schema import RunOptions

pytest.importorskip("minatar")

BREAKOUT = "MinAtar/Breakout-v1"
PLANES = {"Asterix": 4, "Breakout": 4, "Freeway": 7, "Seaquest": 10, "SpaceInvaders": 6}
MINIMAL_ACTIONS = {"Asterix": 5, "Breakout": 3, "Freeway": 3, "Seaquest": 6, "SpaceInvaders": 4}
STICKY = {"sticky_action_prob": 0.9}
"""So sticky that the action before a reset would decide the first steps after it."""


def adapted(name: str = BREAKOUT, wrappers=(), **kwargs) -> gymnasium.Env[Any, Any]:
    return environment_factory(name, kwargs, wrappers)()


def bare(name: str = BREAKOUT, **kwargs) -> gymnasium.Env[Any, Any]:
    """Returns what MinAtar itself makes."""
    return gymnasium.make(environment_factory(name, {}, ()).spec, **kwargs)


def usage_error(name: str) -> str:
    with pytest.raises(UsageError) as refused:
        environment_factory(name, {}, ())
    message = str(refused.value)
    assert "\n" not in message
    return message


def episode(env, seed: int, steps: int = 40) -> list[tuple[bytes, float, bool]]:
    """Plays the actions that belong to a seed and returns all that was seen."""
    seen = [(env.reset(seed=seed)[0].tobytes(), 0.0, False)]
    for action in np.random.default_rng(seed).integers(env.action_space.n, size=steps):
        observation, reward, terminated, truncated, _ = env.step(action)
        assert not truncated
        seen.append((observation.tobytes(), float(reward), terminated))
        if terminated:
            break
    return seen


def whole_state(env) -> str:
    """Returns every attribute of a game in words, generators by what they will draw."""
    game = env.unwrapped.game
    attributes = {
        f"{type(part).__module__}.{name}": value for part in (game, game.env) for name, value in vars(part).items()
    }
    del attributes["minatar.environment.env"]
    return repr(
        {
            name: value.get_state() if isinstance(value, np.random.RandomState) else value
            for name, value in attributes.items()
        }
    )


@pytest.fixture
def unregistered(monkeypatch):
    for name in [name for name in gymnasium.registry if name.startswith("MinAtar/")]:
        monkeypatch.delitem(gymnasium.registry, name)


class TestReset:
    @pytest.mark.parametrize("game", PLANES)
    @pytest.mark.parametrize(("make", "forgets"), [(adapted, True), (bare, False)])
    def test_an_episode_does_not_depend_on_what_ran_before(self, game, make, forgets):
        """The bare game keeps its last action; see the trap in ``dqn_cli.envs.minatar``."""
        name = f"MinAtar/{game}-v0"
        used = make(name, **STICKY)
        same = []
        for seed in range(12):
            episode(used, 100 + seed)
            same.append(episode(used, seed) == episode(make(name, **STICKY), seed))
        assert all(same) == forgets

    @pytest.mark.parametrize("game", PLANES)
    def test_a_seeded_reset_leaves_nothing_of_an_older_episode(self, game):
        used, fresh = adapted(f"MinAtar/{game}-v0", **STICKY), adapted(f"MinAtar/{game}-v0", **STICKY)
        for seed in range(8):
            episode(used, 100 + seed, steps=300)
        assert whole_state(used) != whole_state(fresh)
        used.reset(seed=7)
        fresh.reset(seed=7)
        assert whole_state(used) == whole_state(fresh)

    def test_the_seed_reaches_the_generator_that_wrappers_draw_from(self):
        wrappers = [("StickyAction", {"repeat_action_probability": 0.5})]
        first, second = (adapted(wrappers=wrappers, sticky_action_prob=0.0) for _ in range(2))
        assert [episode(first, seed) for seed in range(12)] == [episode(second, seed) for seed in range(12)]

    def test_seeds_differ_and_episodes_without_a_seed_go_on(self):
        env = adapted("MinAtar/Freeway-v1")
        firsts = {env.reset(seed=seed)[0].tobytes() for seed in range(5)}
        firsts |= {env.reset()[0].tobytes() for _ in range(5)}
        assert len(firsts) == 10

    def test_freeway_ends_by_its_own_clock(self):
        env = adapted("MinAtar/Freeway-v1")
        env.reset(seed=0)
        for step in range(1, 2502):
            _, _, terminated, truncated, _ = env.step(0)
            assert (terminated, truncated) == (step == 2501, False)


class TestObservations:
    @pytest.mark.parametrize("version", ["v0", "v1"])
    @pytest.mark.parametrize("game", PLANES)
    def test_planes_come_first(self, game, version):
        name = f"MinAtar/{game}-{version}"
        env, twin = adapted(name), bare(name)
        assert env.observation_space == spaces.Box(0, 1, (PLANES[game], 10, 10), np.bool_)  # type: ignore[arg-type]
        observation, expected = env.reset(seed=3)[0], twin.reset(seed=3)[0]
        kept = []
        for action in np.random.default_rng(3).integers(twin.action_space.n, size=60):  # type: ignore[attr-defined]
            kept.append((observation, expected.copy()))
            observation, expected = env.step(action)[0], twin.step(action)[0]
        for observation, expected in kept:  # at the end: nothing was written again
            assert env.observation_space.contains(observation)
            assert observation.dtype == np.bool_
            assert observation.flags.c_contiguous
            np.testing.assert_array_equal(observation, np.moveaxis(expected, -1, 0))

    @pytest.mark.parametrize("game", PLANES)
    def test_the_program_stores_them_as_they_are(self, game):
        backends = [GymnasiumBackend(f"MinAtar/{game}-{version}", 2) for version in ("v0", "v1")]
        assert [backend.spec.num_actions for backend in backends] == [6, MINIMAL_ACTIONS[game]]
        for backend in backends:
            frame = backend.spec.observation
            assert (frame.shape, frame.dtype, frame.scale) == ((PLANES[game], 10, 10), np.dtype(bool), 1.0)
            observation = backend.reset(np.ones(2, np.bool_), [1, 2]).observation
            assert (observation.shape, observation.dtype) == ((2, 1, PLANES[game], 10, 10), np.dtype(bool))

    def test_wrappers_get_them_too(self):
        flat = adapted(wrappers=[("FlattenObservation", {})])
        np.testing.assert_array_equal(flat.reset(seed=1)[0], adapted().reset(seed=1)[0].reshape(-1))


def test_sync_and_async_give_the_same_trajectories():
    trajectories = []
    for vectorization in ("sync", "async"):
        backend = GymnasiumBackend(BREAKOUT, 2, STICKY, vectorization=vectorization)
        environments = EpisodicVector(backend, TrainingSeeds(0, 0), None, terminal_on_life_loss=False)
        rng = np.random.default_rng(0)
        steps: list[Any] = [environments.reset().tolist()]
        for _ in range(80):
            environments.send(rng.integers(0, 3, 2))
            result = environments.recv()
            steps += [result.observation.tolist(), result.successor.tolist(), result.reward.tolist(), result.episodes]
        environments.close()
        trajectories.append(steps)
    assert trajectories[0] == trajectories[1]
    assert sum(len(step) for step in trajectories[0][4::4]) > 5


class TestIds:
    def test_they_are_registered_once_when_asked_for(self, unregistered):
        assert BREAKOUT not in gymnasium.registry
        for name in (BREAKOUT, f"minatar.gym:{BREAKOUT}", "MinAtar/Seaquest-v0"):
            adapted(name).reset(seed=0)
        usage_error("MinAtar/Pong-v1")  # a second registration would warn

    @pytest.mark.parametrize("name", [BREAKOUT, "MinAtar/Pong-v1"])
    def test_missing_package(self, name, unregistered, monkeypatch):
        monkeypatch.setitem(sys.modules, "minatar.gym", None)
        assert usage_error(name) == f"environment '{name}' needs MinAtar: pip install 'dqn_cli[minatar]'"

    @pytest.mark.parametrize(
        "name", ["MinAtar/Pong-v1", "MinAtar/Breakout", "MinAtar/Breakout-v9", "MinAtar/", "minatar/breakout-v1"]
    )
    def test_unknown_ids(self, name, unregistered):
        message = usage_error(name)
        assert f"there is no environment '{name}'" in message
        assert all(f"MinAtar/{game}" in message for game in PLANES)

    def test_games_that_others_register_are_adapted_too(self, unregistered, monkeypatch):
        mine = gymnasium.envs.registration.EnvSpec(
            "Mine/Breakout-v0", entry_point="minatar.gym:BaseEnv", kwargs={"game": "breakout"}
        )
        monkeypatch.setitem(gymnasium.registry, mine.id, mine)
        assert adapted(mine.id).observation_space.shape == (4, 10, 10)
        adapted(BREAKOUT)  # which they have not registered

    def test_arguments(self):
        game: Any = adapted("MinAtar/Asterix-v1", sticky_action_prob=0.25, difficulty_ramping=False).unwrapped
        assert (game.game.sticky_action_prob, game.game.env.ramping) == (0.25, False)
        with pytest.raises(UsageError, match="unexpected keyword argument 'sticky'"):
            adapted(sticky=0.25)


@pytest.mark.parametrize("game", PLANES)
def test_every_game_passes_the_audit(game):
    options = {
        "device": "cpu",
        "env": {"id": f"MinAtar/{game}-v1", "num_envs": 3, "kwargs": STICKY},
        "network": {"torso": {"hidden": [4]}},
        "replay": {"n_step": 3},
        "learning": {"batch_size": 8},
    }
    report = audit(RunOptions.model_validate(options), 600)
    assert [check.failure for check in report.checks if check.failure is not None] == []
    assert report.episodes > 3
