"""How the state of a run reads."""

from __future__ import annotations

import pytest

from dqn_cli.telemetry.snapshot import number, percent, remaining
from tests.telemetry.streams import snapshot


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (-20.7, "-20.70"),
        (0.74, "0.7400"),
        (1.2e-5, "1.2e-05"),
        (312.44, "312.4"),
        (12_345.6, "12,346"),
        (2e12, "2e+12"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_about_four_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("step", "rate", "text"),
    [
        (0, 1.0, "0:16:40 left"),
        (999, 1.0, "0:00:01 left"),
        (0, 0.2, "1:23:20 left"),
        (0, 0.004, "2d 21h left"),
        (0, 0.0, "-:--:-- left"),
        (0, 1e-300, "-:--:-- left"),
        (1000, 1.0, "done"),
        (1004, 0.0, "done"),
    ],
)
def test_time_left(step: int, rate: float, text: str) -> None:
    assert remaining(snapshot(step, steps_per_second=rate), 1000) == text


def test_a_hundred_percent_only_at_the_end() -> None:
    assert [percent(step, 1000) for step in (0, 9, 10, 999, 1000, 1100)] == [0, 0, 1, 99, 100, 100]
