"""Written-out gradients beside those of autograd, before a run relies on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dqn_cli.agent.gradient import Gradient
from dqn_cli.core.captured import off
from dqn_cli.core.devices import to_device
from dqn_cli.core.types import Batch, ObservationSpec
from dqn_cli.networks.qnetwork import QNetwork


def difference_of(quick: Gradient, plain: Gradient, online: QNetwork, target: QNetwork, batch: Batch) -> str | None:
    """Returns in what written-out gradients differ from the plain ones, or None; waits for the device.

    The plain way uses torso and head of both networks, also in what it computes without gradients. A refusal by the
    device counts as a difference. The networks are left as they were, without gradients.

    Args:
        quick: The written-out way.
        plain: By autograd.
        online: The network that learns; it must not draw random numbers.
        target: Its slow copy.
        batch: ``[quick.most * B]``, as many batches as the quick way takes at once.
    """
    with online.plainly(), target.plainly():
        expected = _measured(plain, online, [batch.part(number, quick.most) for number in range(quick.most)], 1)
    try:
        found = _measured(quick, online, [batch], quick.most)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as failure:
        return f"the device refuses: {str(failure).partition(chr(10))[0]}"
    finally:
        online.zero_grad()
    names = [f"the gradient of {name}" for name, _ in online.named_parameters()] * quick.most
    return difference(found, expected, ["the loss", "the priority", *names])


def _measured(gradient: Gradient, online: QNetwork, batches: Sequence[Batch], count: int) -> list[Tensor]:
    """Returns losses, priorities, and the gradients of each batch; each of ``batches`` holds ``count`` of them."""
    gradients: list[Tensor] = []

    def keep() -> None:
        gradients.extend(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in online.parameters())

    online.zero_grad()  # each way has memory of its own for them
    measured = [gradient(batch, count, keep) for batch in batches]
    return [torch.cat([each.loss for each in measured]), torch.cat([each.priority for each in measured]), *gradients]


def difference(found: Sequence[Tensor], expected: Sequence[Tensor], names: Sequence[str]) -> str | None:
    """Returns in what losses, priorities and then gradients differ from those expected, or None.

    A gradient that is small beside the others may be what is left of sums that cancel, and so all rounding: a hundredth
    of the largest number of all gradients counts as the size of any.
    """
    least = 0.01 * max((float(theirs.abs().max()) for theirs in expected[2:]), default=0.0)
    for number, (name, ours, theirs) in enumerate(zip(names, found, expected, strict=True)):
        if problem := off(ours, theirs, least if number >= 2 else 0.0):
            return f"{name} {problem}"
    return None


def random_batch(observation: ObservationSpec, num_actions: int, size: int, device: torch.device) -> Batch:
    """Returns ``size`` transitions of random numbers, the same each time; one in eight is terminal."""
    rng = np.random.Generator(np.random.PCG64(0))
    shape = (2, size, observation.stack, *observation.shape)
    pixels = np.issubdtype(observation.dtype, np.integer)
    values = rng.integers(256, size=shape) if pixels else rng.standard_normal(shape)
    both = to_device(values.astype(observation.dtype), device)
    return Batch(
        observation=both[0],
        action=to_device(rng.integers(num_actions, size=size), device, torch.int64),
        reward=to_device(rng.standard_normal(size), device, torch.float32),
        discount=to_device(np.where(rng.random(size) < 1 / 8, 0.0, 0.99), device, torch.float32),
        next_observation=both[1],
        weight=to_device(rng.random(size), device, torch.float32),
        key=np.arange(size),
    )
