"""``key=value`` strings."""

import pytest

from dqn_cli.config.overrides import read_overrides
from dqn_cli.core.errors import UsageError


@pytest.mark.parametrize(
    ("override", "mapping"),
    [
        ("seed=3", {"seed": 3}),
        ("learning.gamma=1e-4", {"learning": {"gamma": 1e-4}}),
        ("network.torso.hidden=[64, 64]", {"network": {"torso": {"hidden": [64, 64]}}}),
        ("stop={return_mean: 475, window: 10}", {"stop": {"return_mean": 475, "window": 10}}),
        ("stop=null", {"stop": None}),
        ("env.id=ALE/Pong-v5", {"env": {"id": "ALE/Pong-v5"}}),
        ("env.id=''", {"env": {"id": ""}}),
        ("env.kwargs.text='a=b'", {"env": {"kwargs": {"text": "a=b"}}}),
        (" seed = 3 ", {"seed": 3}),
    ],
)
def test_values_are_yaml(override, mapping):
    assert read_overrides([override]).mapping == mapping


def test_overrides_merge_and_the_later_one_wins():
    layer = read_overrides(["a.x=1", "a.y=2", "b=1", "a.x=3", "b.c=4"])
    assert layer.mapping == {"a": {"x": 3, "y": 2}, "b": {"c": 4}}
    assert layer.places["a", "x"] == "override a.x=3"
    assert layer.places["a", "y"] == "override a.y=2"


def test_options_that_stand_beside_a_kind_stay_in_any_order():
    expected = {"optimizer": {"kind": "rmsprop", "lr": 0.1}}
    assert read_overrides(["optimizer.kind=rmsprop", "optimizer.lr=0.1"]).mapping == expected
    assert read_overrides(["optimizer.lr=0.1", "optimizer.kind=rmsprop"]).mapping == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "override seed: there is no '='"),
        ("=3", "the key is malformed"),
        ("a..b=3", "the key is malformed"),
        (".a=3", "the key is malformed"),
        ("a\x07=3", "the key is malformed"),
        (".".join(["a"] * 5000) + "=3", "the key is malformed"),
        ("seed=", "there is no value; write seed=null"),
        ("seed= # five", "there is no value"),
        ("a=[1", "the value is not YAML"),
        ("a={b: 1, b: 2}", "key 'b' appears twice"),
        ("a=!!python/none x", "not allowed"),
        ("a=\udc80", "not allowed"),
    ],
)
def test_malformed_overrides_are_refused_in_one_printable_line(override, message):
    with pytest.raises(UsageError) as caught:
        read_overrides([override])
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200
