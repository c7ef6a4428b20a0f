"""What only reads text answers at once: nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "gymnasium", "ale_py", "tensorboard"}

PROGRAM = """
import sys
from dqn_cli.cli.main import main
try:
    main({arguments})
except SystemExit as end:
    print("code", end.code, *sorted({heavy} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["eval", "--help"], ["config", "list"], ["trian"], ["--version"]]
)
def test_nothing_heavy_is_imported(arguments):
    program = PROGRAM.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == ("code 2" if arguments == ["trian"] else "code 0")


def test_a_run_imports_no_compiler(tmp_path):
    """torch imports its own in corners where nobody needs it: it would take half of the time of a short run."""
    arguments = ["train", "cartpole", "total_steps=300", "replay.warmup_steps=10", "device=cpu", "--quiet"]
    compilers = {"torch._dynamo", "torch._inductor", "sympy"}
    program = PROGRAM.format(arguments=[*arguments, "--run-dir", str(tmp_path / "run")], heavy=compilers)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "code 0"
