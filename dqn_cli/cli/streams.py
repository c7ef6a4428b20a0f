"""stdout is for data."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stdout_kept_for_data() -> Iterator[None]:
    """Sends to stderr whatever is written to stdout while the block runs.

    Environments, their C++ libraries and their worker processes print greetings and warnings; a program that reads
    our stdout must not see them.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ValueError):  # one of the streams is closed: there is nothing to keep apart
            sys.stdout.flush()
            stdout = os.dup(1)
            stack.callback(os.close, stdout)
            os.dup2(2, 1)
            stack.callback(os.dup2, stdout, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield
