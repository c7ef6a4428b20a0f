"""Reading what ``torch.save`` wrote without running anything that the file holds."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from dqn_cli.core.errors import UsageError, is_out_of_memory

_NOT_AS_SAVED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What objects raise when they take over a state that none of them can have returned."""


@contextmanager
def _taking_over() -> Iterator[None]:
    """Keeps remarks of torch on odd tensors from a user's terminal while a state from the disk is taken over."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def refusing(problem: str) -> Iterator[None]:
    """Makes a state that cannot be taken over an error for the user; memory that runs out is no fault of the state.

    Raises:
        UsageError: With ``problem``.
    """
    try:
        with _taking_over():
            yield
    except _NOT_AS_SAVED as failure:
        if is_out_of_memory(failure):
            raise
        raise UsageError(problem) from failure


def load_plain(file: Path) -> Any:
    """Returns the tensors and plain values of a file.

    Raises:
        UsageError: It is missing, damaged, foreign or hostile; nothing of it was run.
    """
    try:
        # torch reads bare pickles too, and does not look at the checksums: a flipped bit would be a wrong weight.
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            # torch packs nothing: a packed entry is a foreign one, and may unpack to any size.
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            stored = stored and sum(entry.file_size for entry in entries) <= file.stat().st_size
            whole = stored and archive.testzip() is None
        if not stored:
            reason = "is not a file of dqn: its content is packed"
        elif whole:
            with _taking_over():
                return torch.load(file, map_location="cpu", weights_only=True)
        else:
            reason = "is damaged: a checksum is wrong; use another checkpoint"
    except zipfile.BadZipFile:
        reason = "is truncated or not a checkpoint of dqn"
    except UnpicklingError:
        reason = (
            "is not a checkpoint of dqn: it holds something other than tensors and plain values, and nothing of it "
            "was run"
        )
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    except MemoryError:
        reason = "needs more memory than there is, unless it is damaged or foreign"
    except Exception as failure:
        if is_out_of_memory(failure):
            raise
        reason = "cannot be read: it is damaged or not a checkpoint of dqn"
    raise UsageError(f"{file} {reason}")
