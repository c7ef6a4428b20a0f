"""The base of the options models: strict, frozen, and at ease with ``1e6``."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dqn_cli.core.options import Count, Counts, Fraction, Options, PositiveCount, PositiveFloat


class Example(Options):
    count: Count = 0
    positive: PositiveCount = 1
    rate: PositiveFloat = 0.1
    share: Fraction = 0.5
    widths: Counts = (1,)
    flag: bool = False


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"count": 1e6}, 1_000_000),
        ({"positive": 1e6}, 1_000_000),
        ({"count": 0}, 0),
        ({"rate": 1}, 1.0),
        ({"share": 0}, 0.0),
        ({"share": 1.0}, 1.0),
        ({"widths": [256, 1e2]}, (256, 100)),
        ({"widths": []}, ()),
    ],
)
def test_taken(given, value):
    (name,) = given
    taken = getattr(Example.model_validate(given), name)
    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 1.5},
        {"count": -1},
        {"count": "5"},
        {"count": True},
        {"count": float("inf")},
        {"count": float("nan")},
        {"count": None},
        {"positive": 0},
        {"positive": 0.0},
        {"rate": 0.0},
        {"rate": "0.1"},
        {"rate": float("inf")},
        {"rate": float("nan")},
        {"share": 1.01},
        {"share": -0.01},
        {"widths": [0]},
        {"widths": [1.5]},
        {"widths": 3},
        {"widths": "12"},
        {"flag": 1},
        {"flag": "true"},
        {"unknown": 1},
    ],
)
def test_refused(wrong):
    with pytest.raises(ValidationError):
        Example.model_validate(wrong)


def test_frozen():
    example = Example()
    with pytest.raises(ValidationError):
        example.count = 2  # type: ignore[misc]
