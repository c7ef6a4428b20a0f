"""Errors that a user sees: one clear line and the exit code that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

MOST_CHARACTERS = 300
"""How much of a stranger's exception is told."""


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


class DivergedError(RunError):
    """Values stopped being finite numbers: what was learnt is lost, and to go on would lead there again."""


class BrokenEnvironmentError(RunError):
    """An environment broke its contract: it raised, died, hung, or returned what nobody can learn from.

    Attributes:
        env_index: Which of the N environments; None if unknown.
        episode: What plays its episode again, as plain values; None if that is unknown.
        whole: Whether the state before it is whole, so that it can be saved.
    """

    # One argument is enough: a worker process sends the exception to its parent, where it is made anew.
    def __init__(
        self, message: str, env_index: int | None = None, episode: dict[str, Any] | None = None, whole: bool = False
    ) -> None:
        super().__init__(message)
        self.env_index, self.episode, self.whole = env_index, episode, whole


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether torch ran out of memory, for which it has several errors and no common class."""
    return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """Returns a stranger's words as one line of about ``most`` characters, without what a terminal would obey."""
    line = " ".join(text[: 4 * most].split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return shown if len(shown) <= most and len(text) <= 4 * most else f"{shown[:most]} ..."


def told(failure: BaseException) -> str:
    """Returns type and text of a stranger's exception in one line."""
    try:
        text = str(failure)
    except Exception:  # its class is a stranger's too
        text = ""
    return one_line(f"{type(failure).__name__}: {text}").removesuffix(":")


def nearest(name: str, candidates: Iterable[str], limit: int = 3) -> str:
    """Returns ``" Did you mean 'a' or 'b'?"`` for the candidates close to ``name``, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.6)
    if not close:
        return ""
    return " Did you mean " + " or ".join(f"'{by_lower[match]}'" for match in close) + "?"
