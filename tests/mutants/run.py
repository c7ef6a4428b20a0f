"""Applies each defect to a copy of the project and shows that its tests catch it.

    python tests/mutants/run.py            # all of them; make mutants
    python tests/mutants/run.py gamma      # those whose name holds the word

The result goes into the table of ``docs/correctness.md`` when all were run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.mutants.defects import DEFECTS, Defect  # noqa: E402 needs the path above

PAGE = ROOT / "docs" / "correctness.md"
WORKERS = 2


def survives(defect: Defect, copy: Path) -> bool:
    """Returns whether the tests of a defect pass in spite of it; the copy is as it was afterwards."""
    file = copy / defect.file
    right = file.read_text()
    file.write_text(right.replace(defect.right, defect.wrong))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *defect.tests.split()]
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    finally:
        file.write_text(right)
    if done.returncode not in (0, 1):  # 1: tests failed; anything else is no verdict
        raise SystemExit(f"{defect.name}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}")
    return done.returncode == 0


def table(results: dict[str, bool]) -> str:
    """Returns the table of the page."""
    rows = ["| defect | file | caught by |", "|---|---|---|"]
    for defect in DEFECTS:
        tests = ", ".join(f"`{test}`" for test in defect.tests.split())
        rows.append(f"| {defect.name} | `{defect.file}` | {tests if not results[defect.name] else '**nothing**'} |")
    caught = sum(not survived for survived in results.values())
    return "\n".join([*rows, "", f"{caught} of {len(results)} are caught."])


def main() -> None:
    """Runs the defects that were asked for."""
    words = sys.argv[1:]
    chosen = [defect for defect in DEFECTS if all(word in defect.name for word in words)]
    results: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="dqn-mutants-") as scratch:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(WORKERS):
            copy = Path(scratch) / str(number)
            ignored = shutil.ignore_patterns(".venv", ".git", "runs", "__pycache__", ".*_cache", ".hypothesis")
            shutil.copytree(ROOT, copy, ignore=ignored)
            copies.put(copy)

        def one(defect: Defect) -> None:
            copy = copies.get()
            results[defect.name] = survives(defect, copy)
            copies.put(copy)
            print(f"{'SURVIVES' if results[defect.name] else 'caught':8}  {defect.name}", flush=True)

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(one, chosen))
    if not words:
        pattern = r"(<!-- generated: mutants -->\n).*?(<!-- end -->)"
        page = re.sub(pattern, lambda m: f"{m[1]}\n{table(results)}\n\n{m[2]}", PAGE.read_text(), flags=re.DOTALL)
        PAGE.write_text(page)
    survivors = [name for name, survived in results.items() if survived]
    print(f"{len(results) - len(survivors)} of {len(results)} caught")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
