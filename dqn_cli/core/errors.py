"""Errors that a user sees: one clear line and the exit code that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


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


class BrokenEnvironmentError(RunError):
    """An environment broke its contract: it raised, died, hung, or returned what nobody can learn from.

    Attributes:
        env_index: Which of the N environments; None if unknown.
        in_step: Whether it failed in a step, so that the state before that step is whole.
        episode: What plays its episode again, as plain values; None if that is unknown.
    """

    def __init__(
        self, message: str, env_index: int | None, in_step: bool, episode: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.env_index, self.in_step, self.episode = env_index, in_step, episode


def nearest(name: str, candidates: Iterable[str], limit: int = 3) -> str:
    """Returns ``" Did you mean 'a' or 'b'?"`` for the candidates close to ``name``, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(f"'{by_lower[match]}'" for match in close) + "?"
