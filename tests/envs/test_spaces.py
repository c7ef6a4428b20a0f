"""What observation and action spaces become."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.core.errors import UsageError
from dqn_cli.core.types import Array
from dqn_cli.envs.spaces import discrete_actions, observation_encoding
from tests.envs.hostile import ACTION_SPACES, OBSERVATION_SPACES


def encode(space: spaces.Space[Any], raw: Any) -> Array:
    """Encodes observations batched as a backend does, and checks the result against the spec."""
    encoding = observation_encoding(space, "test")
    batch = np.empty((len(raw), *(space.shape or ())), space.dtype)
    for index, observation in enumerate(raw):
        batch[index] = observation
    encoded = encoding.encode(batch)
    assert encoded.dtype == encoding.spec.dtype
    assert encoded.shape == (len(raw), *encoding.spec.shape)
    return encoded


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64, np.int64, np.uint16]
)
def test_box_keeps_values_and_stores_small_dtypes_as_they_are(dtype):
    space = spaces.Box(0, 1, (2, 3), dtype)
    raw = np.arange(12).reshape(2, 2, 3).astype(dtype)
    encoded = encode(space, raw)
    kept = np.dtype(dtype).name in ("bool", "uint8", "int8", "int16", "int32", "float32")
    assert encoded.dtype == (dtype if kept else np.float32)
    np.testing.assert_array_equal(encoded, raw)


def test_box_without_dimensions_becomes_a_vector_of_one():
    np.testing.assert_array_equal(encode(OBSERVATION_SPACES["ScalarObs"], [1.5, -2.0]), [[1.5], [-2.0]])


@pytest.mark.parametrize(
    ("space", "shape", "scale"),
    [
        (spaces.Box(0, 255, (6, 8), np.uint8), (6, 8), 1 / 255),
        (spaces.Box(0, 255, (6, 8, 3), np.uint8), (3, 6, 8), 1 / 255),
        (spaces.Box(0, 255, (6, 8, 1), np.uint8), (1, 6, 8), 1 / 255),
        (spaces.Box(0, 255, (3, 6, 8), np.uint8), (3, 6, 8), 1 / 255),
        (spaces.Box(0, 255, (4, 84, 84), np.uint8), (4, 84, 84), 1 / 255),
        (spaces.Box(0, 255, (4, 6, 3), np.uint8), (4, 6, 3), 1 / 255),
        (spaces.Box(0, 1, (10, 10, 4), cast(Any, np.bool_)), (4, 10, 10), 1.0),
        (spaces.Box(0, 255, (128,), np.uint8), (128,), 1.0),
        (spaces.Box(0, 7, (6, 8), np.uint8), (6, 8), 1.0),
        (spaces.Box(0, 255, (6, 8), np.float32), (6, 8), 1.0),
        (spaces.Discrete(5), (5,), 1.0),
    ],
)
def test_shape_and_scale(space, shape, scale):
    spec = observation_encoding(space, "test").spec
    assert (spec.shape, spec.scale, spec.stack) == (shape, scale, 1)


def test_channels_go_first():
    raw = np.random.default_rng(0).integers(0, 255, (2, 6, 8, 3), np.uint8)
    np.testing.assert_array_equal(encode(OBSERVATION_SPACES["ImageObs"], raw), raw.transpose(0, 3, 1, 2))


def test_multi_binary():
    raw = [[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]]
    encoded = encode(OBSERVATION_SPACES["MultiBinaryObs"], raw)
    assert encoded.dtype == np.uint8
    np.testing.assert_array_equal(encoded, raw)


@given(st.integers(1, 9), st.integers(-5, 5), st.data())
def test_discrete_is_one_hot_with_its_offset(n, start, data):
    values = data.draw(st.lists(st.integers(start, start + n - 1), min_size=1, max_size=4))
    expected = [[int(place == value - start) for place in range(n)] for value in values]
    np.testing.assert_array_equal(encode(spaces.Discrete(n, start=start), values), expected)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-3, 3)), min_size=1, max_size=4), st.data())
def test_multi_discrete_is_the_one_hot_codes_side_by_side(components, data):
    sizes, starts = zip(*components, strict=True)
    value = [data.draw(st.integers(start, start + size - 1)) for size, start in components]
    expected = [
        int(place == single - start)
        for single, size, start in zip(value, sizes, starts, strict=True)
        for place in range(size)
    ]
    space = spaces.MultiDiscrete(np.array(sizes), start=np.array(starts))
    np.testing.assert_array_equal(encode(space, [value]), [expected])


def test_multi_discrete_of_two_dimensions():
    space = spaces.MultiDiscrete(np.array([[2, 3], [1, 2]]))
    np.testing.assert_array_equal(encode(space, [[[1, 0], [0, 1]]]), [[0, 1, 1, 0, 0, 1, 0, 1]])


@pytest.mark.parametrize("name", ["MultiBinaryObs", "DiscreteObs", "MultiDiscreteObs", "ScalarObs", "ImageObs"])
def test_encoders_take_what_gymnasium_batches(name):
    space: Any = OBSERVATION_SPACES[name]
    samples = [space.sample() for _ in range(3)]
    empty: Any = create_empty_array(space, 3)
    batch: Any = concatenate(space, samples, empty)
    assert batch_space(space, 3).contains(batch)
    np.testing.assert_array_equal(observation_encoding(space, "test").encode(batch), encode(space, samples))


@pytest.mark.parametrize("name", ["DictObs", "TupleObs", "TextObs", "SequenceObs"])
def test_other_observation_spaces_are_refused_with_advice(name):
    space = OBSERVATION_SPACES[name]
    with pytest.raises(UsageError) as refused:
        observation_encoding(space, "Some-v0")
    message = str(refused.value)
    assert "'Some-v0'" in message
    assert str(space) in message
    assert ("FlattenObservation" in message) == (name in ("DictObs", "TupleObs"))
    assert "env.wrappers" in message


def test_discrete_actions_and_their_start():
    assert discrete_actions(spaces.Discrete(3, start=-1), "Some-v0") == (3, -1)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Continuous", "continuous actions; DQN needs discrete actions"),
        ("MultiDiscreteActions", "MultiDiscrete actions"),
        ("MultiBinaryActions", "MultiBinary actions"),
        ("TupleActions", "Tuple actions"),
        ("TooManyActions", "more than 65536 actions"),
    ],
)
def test_other_action_spaces_are_refused(name, reason):
    with pytest.raises(UsageError, match=reason) as refused:
        discrete_actions(ACTION_SPACES[name], "Some-v0")
    assert "'Some-v0'" in str(refused.value)
