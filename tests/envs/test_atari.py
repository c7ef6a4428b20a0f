"""Atari: the emulator's own vector environment, without its surprises."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from pydantic import ValidationError

from dqn_cli.core.errors import UsageError
from dqn_cli.envs.atari import (
    AtariBackend,
    AtariOptions,
    AtariProtocol,
    canonical_game,
    emulator_arguments,
)
from dqn_cli.envs.lineage import TrainingSeeds
from dqn_cli.envs.vector import EpisodicVector

FIRE = 1


def backend(game: str, num_envs: int = 1, **protocol) -> AtariBackend:
    return AtariBackend(AtariProtocol(game, **protocol), num_envs, threads=1)


def everything(envs: AtariBackend):
    return np.ones(envs.spec.num_envs, dtype=np.bool_)


def play(envs: AtariBackend, actions):
    """Steps ``actions [T, N]`` and returns the list of steps."""
    steps = []
    for row in actions:
        envs.send(np.array(row, dtype=np.int64))
        steps.append(envs.recv())
    return steps


class TestOptions:
    def test_defaults_are_those_of_the_protocol(self):
        options = AtariOptions(kind="atari")
        assert options.protocol() == AtariProtocol("Pong")
        assert (options.num_envs, options.threads, options.max_episode_frames) == (8, "auto", 108_000)
        assert options.terminal_on_life_loss is False
        assert all(field.description for field in AtariOptions.model_fields.values())

    def test_the_game_is_written_in_one_way(self):
        assert AtariOptions(kind="atari", game="ms_pacman").game == "MsPacman"
        with pytest.raises(ValidationError, match="Did you mean 'Breakout'"):
            AtariOptions(kind="atari", game="Brekout")

    @pytest.mark.parametrize("wrong", [{"screen": 15}, {"screen": 211}, {"sticky": 1.1}, {"threads": 0}])
    def test_wrong_values_are_refused(self, wrong):
        with pytest.raises(ValidationError):
            AtariOptions(kind="atari", **wrong)


class TestGames:
    @pytest.mark.parametrize(
        "name",
        [
            "MsPacman",
            "mspacman",
            "ms_pacman",
            "ALE/MsPacman-v5",
            "MsPacmanNoFrameskip-v4",
            "MsPacmanDeterministic-v0",
        ],
    )
    def test_spellings(self, name):
        assert canonical_game(name) == ("ms_pacman", "MsPacman")

    def test_digits_and_short_names(self):
        assert canonical_game("TicTacToe3D")[0] == "tic_tac_toe_3d"
        assert canonical_game("ET")[0] == "et"

    @pytest.mark.parametrize("name", ["Pongg", "Pong-ram-v4", "", "ALE/", "ALE/Pong-v5-v5"])
    def test_unknown_games(self, name):
        with pytest.raises(UsageError, match="there is no Atari game"):
            canonical_game(name)

    def test_nearest_names(self):
        with pytest.raises(UsageError, match="Did you mean 'SpaceInvaders'"):
            canonical_game("space_invader")


def test_every_emulator_argument_is_stated():
    import inspect

    arguments = emulator_arguments(AtariProtocol("Pong"), num_envs=3, threads=2)
    assert set(arguments) == set(inspect.signature(AtariVectorEnv).parameters)
    assert arguments["repeat_action_probability"] == 0.25
    assert arguments["reward_clipping"] is False
    assert arguments["episodic_life"] is False
    assert arguments["life_loss_info"] is False
    assert arguments["maxpool"] is True
    assert arguments["max_num_frames_per_episode"] >= 2**30
    assert arguments["autoreset_mode"] == AutoresetMode.NEXT_STEP


def test_options_reach_the_emulator():
    envs = backend("Pong", 2, full_action_set=True, frame_skip=2, stack=3, screen=42)
    assert envs.spec.num_actions == 18
    assert envs.spec.frames_per_step == 2
    assert envs.spec.atari_game == envs.spec.name == "Pong"
    assert envs.spec.observation.shape == (42, 42)
    reset = envs.reset(everything(envs), [1, 2])
    assert reset.observation.shape == (2, 3, 42, 42)
    assert reset.observation.dtype == np.uint8
    assert backend("Pong").spec.num_actions == 6


def test_no_ops_start_a_game():
    without, with_no_ops = (
        backend("Pong", 3, noop_max=noop_max).reset(np.ones(3, dtype=np.bool_), [1, 2, 3]).frames
        for noop_max in (0, 30)
    )
    assert without is not None
    assert with_no_ops is not None
    assert len(set(without.tolist())) == 1
    assert len(set(with_no_ops.tolist())) > 1
    assert max(with_no_ops) <= 30 + max(without)


def test_each_step_is_exactly_its_frames_pooled():
    """Frame skip 1 shows every frame: a step with skip 4 is the maximum over the last two of four."""
    skipping, single = backend("Pong", sticky=0.0), backend("Pong", sticky=0.0, frame_skip=1)
    raw = AtariVectorEnv(**emulator_arguments(AtariProtocol("Pong", sticky=0.0), 1, 1))
    skipping.reset(np.array([True]), [3])
    single.reset(np.array([True]), [3])
    _, info = raw.reset(seed=np.array([3]))
    differs = False
    for _ in range(40):
        frame_before = info["episode_frame_number"][0]
        _, _, _, _, info = raw.step(np.array([2]))
        assert info["episode_frame_number"][0] - frame_before == 4
        (skipped,) = play(skipping, [[2]])
        frames = [single_step.observation[0, -1] for single_step in play(single, [[2]] * 4)]
        assert skipped.observation[0, -1].shape == (84, 84)
        differs |= not np.array_equal(skipped.observation[0, -1], frames[-1])
        visible = np.abs(skipped.observation[0, -1].astype(int) - np.maximum(frames[-1], frames[-2]))
        assert visible.mean() < 0.5
    assert differs


def test_lives_fall_without_a_reset_and_the_score_is_the_emulators():
    """Breakout: the game goes on when a life is lost, and ends with the last one."""
    actions = np.random.default_rng(3).integers(0, 4, (220, 1))
    steps = play_one(backend("Breakout"), actions)
    lives = [5] + [int(one.lives[0]) for one in steps]
    end = next(time for time, one in enumerate(steps) if one.terminated[0])
    assert sorted(set(lives[: end + 2])) == [0, 1, 2, 3, 4, 5]
    assert np.all(np.diff(lives[: end + 2]) <= 0)
    envs = EpisodicVector(backend("Breakout"), FixedSeeds(7), 108_000, terminal_on_life_loss=True)
    envs.reset()
    for time in range(end + 1):
        envs.send(actions[time])
        result = envs.recv()
        np.testing.assert_array_equal(result.successor, steps[time].observation)
        assert result.terminal[0] == (lives[time + 1] < lives[time])
        assert result.restarted[0] == (time == end)
    (episode,) = result.episodes
    assert episode.score == sum(float(one.reward[0]) for one in steps[: end + 1]) > 0
    assert (episode.length, episode.seed, episode.terminated) == (end + 1, 7, True)
    assert episode.actions == bytes(actions[: end + 1, 0].tolist())


class FixedSeeds:
    """Seeds the first episode, and continues its lineage from there on."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def next_seed(self, env_index, episode, lineage_steps):
        return self._seed + env_index if episode == 0 else None


def play_one(envs: AtariBackend, actions):
    envs.reset(np.array([True]), [7])
    return play(envs, actions)


def test_rewards_are_raw():
    """MsPacman pays 10 points a dot."""
    steps = play_one(backend("MsPacman"), [[action] for action in [3, 2] * 40])
    assert max(float(one.reward[0]) for one in steps) == 10.0
    assert steps[0].reward.dtype == np.float64


@pytest.mark.parametrize("game", ["Pong", "Breakout"])
def test_a_seeded_reset_forgets_whatever_happened_before(game):
    """The seed decides everything, sticky actions on, whatever the past and the neighbours."""
    actions = np.random.default_rng(1).integers(0, 4, (60, 1))
    expected = play_one(backend(game), actions)
    envs = backend(game, 2)
    envs.reset(everything(envs), [7, 8])
    other_seed = play(envs, np.repeat(actions, 2, axis=1))[-1].observation[1]
    assert not np.array_equal(other_seed, expected[-1].observation[0])
    envs.reset(np.array([False, True]), [None, 7])
    got = play(envs, np.concatenate([actions * 0, actions], axis=1))
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one.observation[0], other.observation[1])
        assert one.reward[0] == other.reward[1]


def test_two_partial_resets_in_a_row_leave_the_others_alone():
    envs = backend("Pong", 3)
    envs.reset(everything(envs), [1, 2, 3])
    (last,) = play(envs, [[2, 3, 2]] * 10)[-1:]
    mask = np.array([False, True, False])
    for seeds in ([None, 5, None], [None, None, None]):
        reset = envs.reset(mask, seeds)
        np.testing.assert_array_equal(reset.observation[[0, 2]], last.observation[[0, 2]])
        assert not reset.observation[1, :-1].any()
        assert reset.observation[1, -1].any()
    assert mask.tolist() == [False, True, False]
    seeded = envs.reset(mask, [None, 7, None]).observation[1]
    np.testing.assert_array_equal(seeded, backend("Pong").reset(np.array([True]), [7]).observation[0])


def test_unseeded_resets_go_on_in_the_random_numbers_of_the_lineage():
    envs, frames = backend("Pong"), []
    for seed in (1, None, None, None):
        reset_frames = envs.reset(np.array([True]), [seed]).frames
        assert reset_frames is not None
        frames.append(int(reset_frames[0]))
    assert len(set(frames)) > 2


def test_a_cut_game_shows_its_true_last_observation_and_begins_again():
    """The emulator's own cap would return a stale screen."""
    cap = 200
    free = EpisodicVector(backend("Breakout", 2), FixedSeeds(3), None, terminal_on_life_loss=False)
    capped = EpisodicVector(backend("Breakout", 2), FixedSeeds(3), cap, terminal_on_life_loss=False)
    np.testing.assert_array_equal(free.reset(), capped.reset())
    running, rng = {0, 1}, np.random.default_rng(0)
    while running:
        actions = rng.integers(0, 4, 2)
        free.send(actions)
        capped.send(actions)
        expected, got = free.recv(), capped.recv()
        for index in running:
            np.testing.assert_array_equal(expected.successor[index], got.successor[index])
        for end in got.episodes:
            if end.env_index in running:
                assert got.truncated[end.env_index]
                assert not got.terminal[end.env_index]
                assert cap <= end.frames < cap + 4
                assert not got.observation[end.env_index, :-1].any()
                running.remove(end.env_index)


def test_rows_are_in_the_order_of_the_games():
    vector = AtariVectorEnv(**emulator_arguments(AtariProtocol("Pong"), 4, threads=3))
    vector.reset(seed=np.arange(4))
    for _ in range(50):
        assert vector.step(np.zeros(4, dtype=np.int64))[4]["env_id"].tolist() == [0, 1, 2, 3]


def test_what_was_returned_is_never_written_again():
    envs = backend("Breakout", 2)
    returned = [envs.reset(everything(envs), [1, 2]).observation]
    returned += [one.observation for one in play(envs, [[FIRE, FIRE]] * 3)]
    copies = [observation.copy() for observation in returned]
    play(envs, [[2, 3]] * 3)
    envs.reset(everything(envs), [3, 4])
    for observation, copy in zip(returned, copies, strict=True):
        np.testing.assert_array_equal(observation, copy)


def test_an_action_out_of_range_fails_at_once_and_the_game_goes_on():
    envs = EpisodicVector(backend("Pong", 2), TrainingSeeds(0, 5000), 108_000, False)
    envs.reset()
    for wrong in ([0, 6], [-1, 0]):
        with pytest.raises(ValueError, match="actions must be in 0 to 5"):
            envs.send(np.array(wrong))
    envs.send(np.array([0, 5]))
    assert envs.recv().successor.shape == (2, 4, 84, 84)


def test_a_lineage_goes_on_over_games_and_replays_from_its_seed_and_actions():
    rng = np.random.default_rng(0)
    envs = EpisodicVector(backend("Breakout", 2), FixedSeeds(5), 240, False)
    envs.reset()
    scores = []
    for _ in range(150):
        envs.send(rng.integers(0, 4, 2))
        scores += [(end.env_index, end.score, end.lineage_steps) for end in envs.recv().episodes]
    assert len(scores) >= 4
    state = envs.state_dict()
    for index, actions in enumerate(state["lineages"]["actions"]):
        assert len(actions) == 150
        alone = EpisodicVector(backend("Breakout"), FixedSeeds(state["lineages"]["seeds"][index]), 240, False)
        observation, replayed = alone.reset(), []
        for action in actions.tolist():
            alone.send(np.array([action]))
            result = alone.recv()
            observation = result.observation
            replayed += [(index, end.score, end.lineage_steps) for end in result.episodes]
        assert replayed == [score for score in scores if score[0] == index]
        np.testing.assert_array_equal(observation[0], state["observation"][index].numpy())
        for key in ("score", "length", "frames", "lives"):
            assert alone.state_dict()[key][0] == state[key][index]


def test_close_with_a_step_in_flight_and_twice():
    envs = backend("Pong", 2)
    envs.reset(everything(envs), [1, 2])
    envs.send(np.zeros(2, dtype=np.int64))
    envs.close()
    envs.close()
    with pytest.raises(RuntimeError, match="closed"):
        envs.recv()


def test_nothing_is_printed(monkeypatch, tmp_path):
    from ale_py import roms

    monkeypatch.setenv("ALE_ROMS_DIR", str(roms.__path__[0]))
    code = (
        "import numpy as np; from dqn_cli.envs.atari import *;"
        "AtariBackend(AtariProtocol('Pong'), 1, 1).reset(np.array([True]), [1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert "Stella" not in done.stderr
