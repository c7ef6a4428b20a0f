"""Golden runs: the same numbers as when they were written down.

Where one fails, first find out why: an unintended change is a bug. A change that is meant is written down anew with
``python tests/golden/make.py``, with a line under *Numerics* in ``CHANGELOG.md``.
"""

from __future__ import annotations

import json

import pytest

from tests.golden.make import FOLDER, LOSSES, RUNS, cpu_class, golden_run


@pytest.mark.parametrize("name", RUNS)
def test_golden_run(name):
    golden = json.loads((FOLDER / f"{name}.json").read_text())
    assert golden["run"] == list(RUNS[name]), "the run was changed: python tests/golden/make.py"
    found = golden_run(name)
    assert len(golden["losses"]) == min(LOSSES, golden["updates"])
    if golden["cpu"] == cpu_class():
        expected = {key: golden[key] for key in found}
        assert found == expected
    else:
        assert found["updates"] == golden["updates"]
        assert found["losses"] == pytest.approx(golden["losses"], rel=1e-3)


def test_every_file_belongs_to_a_run():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(RUNS)
