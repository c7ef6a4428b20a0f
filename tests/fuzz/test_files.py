"""A few hundred mutated files; ``python -m tests.fuzz.files`` makes ten thousand."""

from __future__ import annotations

from tests.fuzz.files import bytes_case, run_cases, values_case


def test_bytes(tmp_path):
    counts = run_cases(bytes_case, 300, 1, tmp_path)
    assert counts["refused"] + counts["equal"] == 300


def test_values(tmp_path):
    counts = run_cases(values_case, 150, 1, tmp_path)
    assert counts["refused"] > 50
