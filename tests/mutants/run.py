"""Applies each defect to a copy of the project and shows that its tests catch it.

    python tests/mutants/run.py            # all of them; make mutants
    python tests/mutants/run.py gamma      # those whose name holds the word

The tests must pass without a defect first. The result goes into the table of ``docs/correctness.md`` when all were run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.mutants.defect import Defect  # noqa: E402 needs the path above
from tests.mutants.defects import DEFECTS  # noqa: E402

PAGE = ROOT / "docs" / "correctness.md"
WORKERS = 2
SECONDS = 600

T = TypeVar("T")


def chosen(words: Sequence[str]) -> list[Defect]:
    """Returns the defects whose names hold all words; raises ``SystemExit`` where there is none."""
    found = [defect for defect in DEFECTS if all(word in defect.name for word in words)]
    if not found:
        raise SystemExit(f"no defect has a name with {' and '.join(map(repr, words))}")
    return found


def pytest_passes(tests: Sequence[str], copy: Path, what: str) -> bool:
    """Returns whether tests pass in a copy.

    Raises:
        SystemExit: pytest gave no verdict on ``what``.
        subprocess.TimeoutExpired: They did not end.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode not in (0, 1):  # 1: tests failed; anything else is no verdict
        raise SystemExit(f"{what}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}")
    return done.returncode == 0


def verdict(defect: Defect, copy: Path) -> str:
    """Returns ``caught``, ``timed out``, or ``SURVIVES`` if its tests pass in spite of a defect.

    The copy is as it was afterwards.
    """
    file = copy / defect.file
    right = file.read_text()
    file.write_text(right.replace(defect.right, defect.wrong))
    try:
        return "SURVIVES" if pytest_passes(defect.tests.split(), copy, defect.name) else "caught"
    except subprocess.TimeoutExpired:  # whoever runs the tests sees that as well
        return "timed out"
    finally:
        file.write_text(right)


def baseline(test: str, copy: Path) -> bool:
    """Returns whether a file of tests passes without a defect: otherwise it would catch everything."""
    try:
        return pytest_passes([test], copy, test)
    except subprocess.TimeoutExpired:
        return False


def table(results: dict[str, str]) -> str:
    """Returns the table of the page."""
    rows = ["| defect | file | caught by |", "|---|---|---|"]
    for defect in DEFECTS:
        tests = ", ".join(f"`{test}`" for test in defect.tests.split())
        caught_by = "**nothing**" if results[defect.name] == "SURVIVES" else tests
        rows.append(f"| {defect.name} | `{defect.file}` | {caught_by} |")
    caught = sum(result != "SURVIVES" for result in results.values())
    return "\n".join([*rows, "", f"{caught} of {len(results)} are caught."])


def in_copies(work: Callable[[T, Path], None], things: Iterable[T], copies: SimpleQueue[Path]) -> None:
    """Does the work on all things, each in a copy that nobody else uses meanwhile."""

    def one(thing: T) -> None:
        copy = copies.get()
        try:
            work(thing, copy)
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, things))


def main() -> None:
    """Runs the defects that were asked for."""
    words = sys.argv[1:]
    defects = chosen(words)
    passes: dict[str, bool] = {}
    results: dict[str, str] = {}

    def check(test: str, copy: Path) -> None:
        passes[test] = baseline(test, copy)

    def judge(defect: Defect, copy: Path) -> None:
        results[defect.name] = verdict(defect, copy)
        print(f"{results[defect.name]:9}  {defect.name}", flush=True)

    with tempfile.TemporaryDirectory(prefix="dqn-mutants-") as scratch:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(WORKERS):
            copy = Path(scratch) / str(number)
            ignored = shutil.ignore_patterns(".venv*", ".git", "runs", "__pycache__", ".*_cache", ".hypothesis")
            shutil.copytree(ROOT, copy, ignore=ignored)
            copies.put(copy)
        in_copies(check, sorted({test for defect in defects for test in defect.tests.split()}), copies)
        if not all(passes.values()):
            failing = ", ".join(sorted(test for test, passed in passes.items() if not passed))
            raise SystemExit(f"without any defect these do not pass: {failing}")
        in_copies(judge, defects, copies)
    if not words:
        pattern = r"(<!-- generated: mutants -->\n).*?(<!-- end -->)"
        page = re.sub(pattern, lambda m: f"{m[1]}\n{table(results)}\n\n{m[2]}", PAGE.read_text(), flags=re.DOTALL)
        PAGE.write_text(page)
    survivors = sum(result == "SURVIVES" for result in results.values())
    print(f"{len(results) - survivors} of {len(results)} caught")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
