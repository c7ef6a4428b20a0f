"""Errors carry their exit code, and suggestions come from the names that exist."""

from __future__ import annotations

import pytest

from dqn_cli.core.errors import DqnError, RunError, UsageError, nearest


def test_exit_codes():
    assert (UsageError.exit_code, RunError.exit_code) == (2, 1)
    assert issubclass(UsageError, DqnError)
    assert issubclass(RunError, DqnError)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Pog", " Did you mean 'Pong'?"),
        ("PONG", " Did you mean 'Pong'?"),
        ("Breakot", " Did you mean 'Breakout'?"),
        ("zzzz", ""),
        ("", ""),
    ],
)
def test_nearest(name, text):
    assert nearest(name, ["Pong", "Breakout", "MsPacman"]) == text


def test_nearest_names_several():
    assert nearest("alpha1", ["alpha2", "alpha3", "beta"]) in (
        " Did you mean 'alpha2' or 'alpha3'?",
        " Did you mean 'alpha3' or 'alpha2'?",
    )
