"""Every defect can still be applied; ``make mutants`` shows that the tests catch it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.mutants import run
from tests.mutants.defect import Defect
from tests.mutants.defects import DEFECTS

ROOT = Path(__file__).resolve().parents[2]
TOY = Defect("a toy", "toy.py", "1", "22", "test_toy.py")


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_the_line_is_there_once(defect):
    assert (ROOT / defect.file).read_text().count(defect.right) == 1
    assert defect.wrong != defect.right
    assert all((ROOT / test).is_file() for test in defect.tests.split())


def test_names_differ():
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 25


def test_words_choose_defects():
    assert run.chosen([]) == list(DEFECTS)
    assert [defect.name for defect in run.chosen(["gamma", "for"])] == ["gamma^n for gamma^k"]
    with pytest.raises(SystemExit, match="no defect has a name with 'gamma' and 'nonsense'"):
        run.chosen(["gamma", "nonsense"])


@pytest.mark.parametrize(
    ("test", "passes", "said"),
    [
        ("from toy import ONE\ndef test_it(): assert ONE == 1", True, "caught"),
        ("def test_it(): pass", True, "SURVIVES"),
        ("def test_it(): assert False", False, "caught"),
    ],
)
def test_a_verdict_counts_after_the_tests_have_passed(tmp_path, test, passes, said):
    (tmp_path / "toy.py").write_text("ONE = 1")
    (tmp_path / "test_toy.py").write_text(test)
    assert run.baseline("test_toy.py", tmp_path) == passes
    assert run.verdict(TOY, tmp_path) == said
    assert (tmp_path / "toy.py").read_text() == "ONE = 1"


def test_no_verdict(tmp_path):
    (tmp_path / "toy.py").write_text("ONE = 1")
    with pytest.raises(SystemExit, match="a toy: pytest ended with 4"):
        run.verdict(TOY, tmp_path)


def test_tests_that_do_not_end(tmp_path, monkeypatch):
    def late(*arguments: object, **named: object) -> None:
        raise subprocess.TimeoutExpired("pytest", 1)

    (tmp_path / "toy.py").write_text("ONE = 1")
    monkeypatch.setattr(subprocess, "run", late)
    assert run.verdict(TOY, tmp_path) == "timed out"
    assert (tmp_path / "toy.py").read_text() == "ONE = 1"
    assert not run.baseline("test_toy.py", tmp_path)
