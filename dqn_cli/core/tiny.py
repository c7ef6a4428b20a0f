"""Numbers too small for a normal float, on which a processor is slow."""

from __future__ import annotations

import torch


class TinyIsZero:
    """While entered, this thread's results below 1e-38 in float32 (2e-308 in float64) are zero.

    The moments that Adam keeps of a unit that has died fall through that range for thousands of updates, and one
    operation with such a number takes a processor as long as a hundred others. The setting is the thread's, for every
    library in it, so it must not outlive the work that it is meant for. Does nothing on a processor without the switch.
    """

    def __enter__(self) -> None:
        """Turns the setting on."""
        torch.set_flush_denormal(True)

    def __exit__(self, *_: object) -> None:
        """Turns it off."""
        torch.set_flush_denormal(False)
