"""The command line, called in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from dqn_cli.cli.main import main


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def dqn(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs ``dqn`` with the given arguments."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        code = exit_info.value.code
        assert isinstance(code, int)
        return Result(code, out, err)

    return run
