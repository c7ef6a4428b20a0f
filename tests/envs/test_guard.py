"""What may come out of one Gymnasium environment, and what is said of the rest."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dqn_cli.core.errors import BrokenEnvironmentError
from dqn_cli.envs.guard import Guarded
from tests.envs.hostile import FAULTY_SPACES, Faulty

FLOATS, BYTES = spaces.Box(-1, 1, (2,), np.float32), spaces.Box(0, 255, (2,), np.uint8)
FLAGS, LONGS = spaces.MultiBinary(2), spaces.Box(-9, 9, (2,), np.int64)
DISCRETE, MULTI = spaces.Discrete(3, start=1), spaces.MultiDiscrete([3, 2], start=[0, -1])
SCALAR = spaces.Box(-5, 5, (), np.float64)


class Returning(gymnasium.Env[Any, Any]):
    """Returns what it is told to."""

    def __init__(self, space: spaces.Space[Any], observation: Any, *rest: Any) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(2)
        self.returned = (observation, *rest)
        self.seeds: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.seeds.append((seed, options))
        return self.returned[0], "no dictionary"

    def step(self, action: Any) -> Any:
        return self.returned


def returning(space: spaces.Space[Any], observation: Any, reward: Any = 1.0, *rest: Any) -> Guarded:
    return Guarded(Returning(space, observation, reward, *(rest or (False, False, None))), 3, "Some-v0")


def message(environment: Guarded, call: str = "step") -> str:
    """Returns what is said of a step or a reset that fails."""
    with pytest.raises(BrokenEnvironmentError) as error:
        environment.step(0) if call == "step" else environment.reset(seed=7)
    assert error.value.env_index == 3
    place = "step" if call == "step" else "reset with seed 7"
    begin = f"environment 3 ('Some-v0') failed in {place}: "
    assert str(error.value).startswith(begin)
    return str(error.value).removeprefix(begin)


@pytest.mark.parametrize("call", ["step", "reset"])
class TestObservations:
    @pytest.mark.parametrize(
        ("space", "found", "expected"),
        [
            (FLOATS, np.array([0.1, 7.0], np.float32), [np.float32(0.1), 7.0]),  # outside, as LunarLander's
            (FLOATS, np.array([0.5, -0.5]), [0.5, -0.5]),
            (FLOATS, [1, True], [1.0, 1.0]),
            (FLOATS, (0.5, np.float16(0.25)), [0.5, 0.25]),
            (FLOATS, np.array([0.5, -0.5], ">f4"), [0.5, -0.5]),
            (BYTES, np.array([300, 4]) % 256, [44, 4]),
            (BYTES, [255, 0.0], [255, 0]),
            (FLAGS, [True, False], [1, 0]),
            (LONGS, np.array([10, -10], np.int8), [10, -10]),
            (DISCRETE, 3, 3),
            (DISCRETE, np.int64(1), 1),
            (DISCRETE, np.array(2.0), 2),
            (MULTI, np.array([2, -1]), [2, -1]),
            (SCALAR, 0.5, 0.5),
            (SCALAR, np.array(0.5, np.float32), 0.5),
        ],
        ids=str,
    )
    def test_what_has_the_same_value_in_the_space_is_taken(self, space, found, expected, call):
        environment = returning(space, found)
        observation = environment.step(0)[0] if call == "step" else environment.reset(seed=7)[0]
        np.testing.assert_array_equal(observation, expected)
        assert np.asarray(observation).dtype == space.dtype
        assert np.shape(observation) == space.shape

    @pytest.mark.parametrize(
        ("space", "found", "words"),
        [
            (FLOATS, np.zeros(1, np.float32), "the observation has shape (1,), its space (2,)"),
            (FLOATS, np.zeros((2, 1), np.float32), "the observation has shape (2, 1), its space (2,)"),
            (FLOATS, 0.5, "the observation has shape (), its space (2,)"),
            (SCALAR, np.zeros(1), "the observation has shape (1,), its space ()"),
            (DISCRETE, np.array([1]), "the observation has shape (1,), its space ()"),
            (FLOATS, None, "the observation is no array of numbers, but None"),
            (FLOATS, {"a": 1}, "the observation is no array of numbers, but {'a': 1}"),
            (FLOATS, ["0.5", "1.5"], "the observation is no array of numbers, but ['0.5', '1.5']"),
            (FLOATS, np.array([1j, 0]), "the observation is no array of numbers"),
            (FLOATS, [[1], [1, 2]], "ValueError: "),
            (BYTES, np.array([300, 0]), "the observation array([300, 0]) does not fit the uint8 of its space"),
            (BYTES, [-1, 0], "the observation [-1, 0] does not fit the uint8 of its space"),
            (BYTES, [0.5, 0], "the observation [0.5, 0] does not fit the uint8 of its space"),
            (BYTES, [np.nan, 0], "the observation [nan, 0] does not fit the uint8 of its space"),
            (FLAGS, [2, 0], "the observation [2, 0] is not in MultiBinary(2)"),
            (FLAGS, np.array([-1, 0], np.int8), "is not in MultiBinary(2)"),
            (DISCRETE, 4, "the observation 4 is not in Discrete(3, start=1)"),
            (DISCRETE, 0, "the observation 0 is not in Discrete(3, start=1)"),
            (DISCRETE, np.int64(4), "is not in Discrete(3, start=1)"),
            (DISCRETE, np.nan, "the observation nan does not fit the int64 of its space"),
            (MULTI, np.array([0, 1]), "the observation array([0, 1]) is not in MultiDiscrete([3 2]"),
            (MULTI, np.array([3, 0]), "the observation array([3, 0]) is not in MultiDiscrete([3 2]"),
            (LONGS, [2**70, 0], "the observation is no array of numbers"),
            (LONGS, [1e30, 0], "does not fit the int64 of its space"),
        ],
        ids=str,
    )
    def test_what_has_not_is_refused(self, space, found, words, call):
        assert words in message(returning(space, found), call)


class TestRewards:
    @pytest.mark.parametrize("reward", [1, True, 1.0, np.float32(1), np.int8(1), np.bool_(True), np.array(1), [1.0]])
    def test_a_number(self, reward):
        found = returning(FLOATS, [0, 0], reward).step(0)[1]
        assert (type(found), found) == (float, 1.0)

    @pytest.mark.parametrize("reward", ["1.5", "abc", None, np.array([1.0, 2.0]), np.array([]), 1j, {}], ids=str)
    def test_no_number(self, reward):
        assert message(returning(FLOATS, [0, 0], reward)).endswith(", no real number")

    def test_a_number_beyond_all_floats(self):
        assert "OverflowError" in message(returning(FLOATS, [0, 0], 10**400))

    def test_what_the_vector_judges(self):
        """All N rewards are held to be finite at once."""
        assert returning(FLOATS, [0, 0], np.float64("inf")).step(0)[1] == np.inf


class TestEnds:
    @pytest.mark.parametrize(("flag", "expected"), [(True, True), (np.bool_(False), False), (1, True), ([0.0], False)])
    def test_true_or_false(self, flag, expected):
        for flags in ((flag, False), (False, flag)):
            found = returning(FLOATS, [0, 0], 1.0, *flags, {}).step(0)[2:4]
            assert set(map(type, found)) == {bool}
            assert any(found) is expected

    @pytest.mark.parametrize("flag", [np.nan, None, "no", 2, np.array([True, False])], ids=str)
    def test_neither(self, flag):
        for name, flags in (("terminated", (flag, False)), ("truncated", (False, flag))):
            found = message(returning(FLOATS, [0, 0], 1.0, *flags, {}))
            assert found.startswith(f"{name} is ")
            assert found.endswith(", neither true nor false")


def test_infos_and_options_do_not_pass():
    """Legal infos of any two environments may not fit together, and nothing of ours reads them."""
    environment = returning(FLOATS, [0, 0])
    assert environment.reset(seed=5, options={"some": "thing"})[1] == {}
    assert environment.step(0)[4] == {}
    assert environment.unwrapped.seeds == [(5, None)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("returned", [(np.zeros(2), 0.0, False, {}), None, (1, 2, 3, 4, 5, 6)])
def test_something_else_than_five_values(returned):
    environment = returning(FLOATS, [0, 0])
    environment.unwrapped.returned = returned  # type: ignore[attr-defined]
    assert message(environment).startswith(("ValueError: ", "TypeError: "))


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("none")


class Raising(Returning):
    """Raises what it is told to."""

    def step(self, action: Any) -> Any:
        raise self.returned[0]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        raise self.returned[0]

    def close(self) -> None:
        raise self.returned[0]


@pytest.mark.parametrize("call", ["step", "reset"])
@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (MemoryError("no more"), "MemoryError: no more"),
        (SystemExit(0), "SystemExit: 0"),
        (SystemExit("bye"), "SystemExit: bye"),
        (WordlessError(), "WordlessError"),
        (ValueError("one\n  two\tthree\r\n"), "ValueError: one two three"),
        (ValueError("\x1b[31m bad \udcff \x00"), "ValueError: \\x1b[31m bad \\udcff \\x00"),
        (ValueError("x" * 10_000_000), "ValueError: " + "x" * 288 + " ..."),
        (ValueError("\x1b" * 300), "ValueError: " + "\\x1b" * 72 + " ..."),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_failures_are_one_line(failure, words, call):
    assert message(Guarded(Raising(FLOATS, failure), 3, "Some-v0"), call) == words


def test_what_a_user_does_is_no_failure():
    with pytest.raises(KeyboardInterrupt):
        Guarded(Raising(FLOATS, KeyboardInterrupt()), 3, "Some-v0").step(0)


@pytest.mark.parametrize("failure", [ValueError("boom"), SystemExit(3)])
def test_what_cannot_be_closed_is_left(failure):
    Guarded(Raising(FLOATS, failure), 3, "Some-v0").close()


def test_a_failure_finds_its_way_through_a_pipe():
    environment = Guarded(Faulty("local class", "step 0"), 3, "Some-v0")
    environment.reset(seed=0)
    with pytest.raises(BrokenEnvironmentError) as error:
        environment.step(0)
    found = pickle.loads(pickle.dumps(error.value))
    assert str(found) == "environment 3 ('Some-v0') failed in step: LocalError: boom"
    assert (type(found), found.env_index, found.whole) == (BrokenEnvironmentError, 3, False)


@pytest.mark.parametrize("name", FAULTY_SPACES)
def test_a_healthy_environment_passes(name):
    bare: Any = Faulty(space=name)
    guarded = Guarded(Faulty(space=name), 0, "Some-v0")
    np.testing.assert_array_equal(guarded.reset(seed=3)[0], bare.reset(seed=3)[0])
    for _ in range(3):
        expected, *rest = bare.step(0)
        found, *values = guarded.step(0)
        np.testing.assert_array_equal(found, expected)
        assert values == rest
