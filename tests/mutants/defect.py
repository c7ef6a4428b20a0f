"""What one defect is."""

from __future__ import annotations

from typing import NamedTuple


class Defect(NamedTuple):
    """One wrong line.

    Attributes:
        name: What it does wrong, in words.
        file: Where.
        right: What stands there, once.
        wrong: What the defect puts in its place.
        tests: The tests that must fail.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: str
