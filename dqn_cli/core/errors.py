"""Errors that a user sees: one clear line and the exit code that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DqnError(Exception):
    """A failure with a message for the user; the command line prints it without a traceback.

    The message names what is wrong, where, the value, and what to do.
    """

    exit_code = 1


class UsageError(DqnError):
    """Wrong usage, config or file: nothing was started. Exit code 2."""

    exit_code = 2


class RunError(DqnError):
    """A run failed after it had started. Exit code 1."""


def nearest(name: str, candidates: Iterable[str], limit: int = 3) -> str:
    """Returns ``" Did you mean 'a' or 'b'?"`` for the candidates close to ``name``, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(f"'{by_lower[match]}'" for match in close) + "?"
