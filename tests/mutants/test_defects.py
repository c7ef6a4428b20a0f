"""Every defect can still be applied; ``make mutants`` shows that the tests catch it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.defects import DEFECTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_the_line_is_there_once(defect):
    assert (ROOT / defect.file).read_text().count(defect.right) == 1
    assert defect.wrong != defect.right
    assert all((ROOT / test).is_file() for test in defect.tests.split())


def test_names_differ():
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 25
