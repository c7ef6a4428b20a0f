"""Written-out gradients beside those of autograd, before a run relies on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dqn_cli.agent.gradient import Gradient
from dqn_cli.core.devices import to_device
from dqn_cli.core.rounding import deviation
from dqn_cli.core.types import Batch, ObservationSpec
from dqn_cli.networks.qnetwork import QNetwork

GRADIENT_TOLERANCE = 2e-2
"""Of a gradient's norm: five times what a unit at the kink of its ReLU was seen to change."""


def tried(
    quick: Gradient,
    plain: Gradient,
    online: QNetwork,
    target: QNetwork,
    batch: Batch,
    tell: Callable[[str], None],
) -> Gradient:
    """Returns the written-out way to gradients, or the plain one if the two differ on a batch; waits for the device.

    Then neither network is written out any more, in whatever it computes, and it is said. A refusal by the device
    counts as a difference. The networks keep their parameters, and have no gradients.

    Args:
        quick: The written-out way.
        plain: By autograd.
        online: The network that learns; it must not draw random numbers.
        target: Its slow copy.
        batch: ``[quick.most * B]``, as many batches as the quick way takes at once.
        tell: Is told in what they differ.
    """
    problem = _trial(quick, plain, online, target, batch)
    if problem is None:
        return quick
    for network in (online, target):
        network.give_up_written_out()
    tell(f"written out, {problem}; all is computed by torso and head, gradients by autograd")
    return plain


def _trial(quick: Gradient, plain: Gradient, online: QNetwork, target: QNetwork, batch: Batch) -> str | None:
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
    return difference(found, expected, [name for name, _ in online.named_parameters()] * quick.most)


def _measured(gradient: Gradient, online: QNetwork, batches: Sequence[Batch], count: int) -> list[Tensor]:
    """Returns losses, priorities, and the gradients of each batch; each of ``batches`` holds ``count`` of them."""
    gradients: list[Tensor] = []

    def keep() -> None:
        gradients.extend(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in online.parameters())

    online.zero_grad()  # each way has memory of its own for them
    measured = [gradient(batch, count, keep) for batch in batches]
    return [torch.cat([each.loss for each in measured]), torch.cat([each.priority for each in measured]), *gradients]


def difference(found: Sequence[Tensor], expected: Sequence[Tensor], names: Sequence[str]) -> str | None:
    """Returns in what losses, priorities and then gradients, of the parameters ``names``, differ, or None.

    Gradients are compared by their norm: where a unit stands at the kink of its ReLU rounding decides whether a sample
    counts, which changes a row of a weight's gradient and no more. One that is small beside the others may be what is
    left of sums that cancel, and so all rounding: a hundredth of the largest norm counts as the size of any.
    """
    for name, ours, theirs in zip(("the loss", "the priority"), found, expected, strict=False):
        if problem := deviation(ours, theirs):
            return f"{name} {problem}"
    least = 0.01 * max((float(theirs.norm()) for theirs in expected[2:]), default=0.0)
    for name, ours, theirs in zip(names, found[2:], expected[2:], strict=True):
        error, size = float((ours - theirs).norm()), max(float(theirs.norm()), least)
        if not error <= GRADIENT_TOLERANCE * size + torch.finfo(torch.float32).tiny:
            return f"the gradient of {name} is off by {error:.3g} where its norm is {size:.3g}"
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
