"""Numbers too small for a normal float."""

from __future__ import annotations

import pytest
import torch

from dqn_cli.core.tiny import TinyIsZero


def smallest() -> float:
    """A number below the normal ones, as a result of this thread's arithmetic."""
    return (torch.tensor([1e-30, 1.0]) * torch.tensor([1e-10, 1.0]))[0].item()


def test_they_are_zero_while_it_is_entered_and_not_after():
    assert 0.0 < smallest() < 1.2e-38
    with TinyIsZero():
        assert smallest() == 0.0
    assert smallest() > 0.0


def test_they_are_there_again_after_a_failure():
    with pytest.raises(RuntimeError, match="boom"), TinyIsZero():
        raise RuntimeError("boom")
    assert smallest() > 0.0
