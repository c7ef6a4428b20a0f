"""Human-normalized scores against closed forms and the emulator's own list of games."""

from __future__ import annotations

import gymnasium
import pytest

from dqn_cli.evaluation.atari_scores import RANDOM_HUMAN, human_normalized


def test_random_is_zero_and_human_is_one_on_every_game() -> None:
    assert len(RANDOM_HUMAN) == 57
    for game, (random, human) in RANDOM_HUMAN.items():
        assert human_normalized(game, random) == 0.0
        assert human_normalized(game, human) == 1.0


@pytest.mark.parametrize(
    ("game", "score", "expected"),
    [
        ("Pong", 21.0, (21.0 + 20.7) / (14.6 + 20.7)),
        (
            "Breakout",
            401.2,
            (401.2 - 1.7) / (30.5 - 1.7),
        ),
        ("MsPacman", 0.0, -307.3 / (6951.6 - 307.3)),
        ("DoubleDunk", -17.5, 0.5),
        ("DoubleDunk", -14.2, 2.0),  # a tiny span
        ("Skiing", -17098.1 - 12761.2, -1.0),  # all scores are negative
        ("Freeway", 29.6 * 1.5, 1.5),  # random is 0
        ("Pitfall", 0.0, 229.4 / 6693.1),  # doing nothing beats random
    ],
)
def test_closed_forms(game: str, score: float, expected: float) -> None:
    assert human_normalized(game, score) == pytest.approx(expected)


@pytest.mark.parametrize("game", ["Tetris", "CartPole-v1", "ms_pacman", "pong", ""])
def test_a_game_without_a_reference_has_no_normalized_score(game: str) -> None:
    assert human_normalized(game, 100.0) is None


def test_every_name_is_a_game_of_the_emulator() -> None:
    import ale_py

    gymnasium.register_envs(ale_py)
    games = {identifier.removeprefix("ALE/").removesuffix("-v5") for identifier in gymnasium.registry}
    assert set(RANDOM_HUMAN) <= games


def test_humans_beat_random_and_the_table_cannot_be_changed() -> None:
    assert all(human > random for random, human in RANDOM_HUMAN.values())
    with pytest.raises(TypeError):
        RANDOM_HUMAN["Pong"] = (0.0, 1.0)  # type: ignore[index]
