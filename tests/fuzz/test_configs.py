"""A few hundred mutated configs; ``python -m tests.fuzz.configs`` makes ten thousand."""

from __future__ import annotations

from tests.fuzz.configs import run_cases


def test_configs(tmp_path):
    counts = run_cases(300, 1, tmp_path)
    assert counts["refused"] > 150
    assert counts["planned"] > 10
