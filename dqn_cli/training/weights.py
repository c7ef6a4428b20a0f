"""From the weights of a checkpoint, which may be a stranger's, to a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dqn_cli.core.errors import UsageError
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.training.checkpoint import Checkpoint


def load_weights(network: QNetwork, checkpoint: Checkpoint, whose: str) -> None:
    """Copies the weights of a checkpoint into ``network``.

    Raises:
        UsageError: They are of a network of other sizes, or no numbers; ``whose`` says which was expected.
    """
    check_weights(network, checkpoint, whose)
    network.load_state_dict(checkpoint.weights)


def check_weights(network: QNetwork, checkpoint: Checkpoint, whose: str) -> None:
    """Compares the weights of a checkpoint with ``network``, whose parameters need no memory behind them.

    Raises:
        UsageError: They are of a network of other sizes, or no numbers; ``whose`` says which was expected.
    """
    expected = {name: _form(tensor, expected=True) for name, tensor in network.state_dict().items()}
    found = {name: _form(tensor) for name, tensor in checkpoint.weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise UsageError(
                f"{checkpoint.path} does not fit the network that {whose}: {name} is "
                f"{found.get(name, 'missing')} in the file, {expected.get(name, 'absent')} in the network"
            )
    if _share_memory(list(checkpoint.weights.values())):
        raise UsageError(
            f"{checkpoint.path}: its weights share memory, which those of a network never do; it is foreign"
        )
    for name, tensor in checkpoint.weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UsageError(
                f"{checkpoint.path}: {name} holds values that are no finite numbers: its training had diverged; use "
                "an earlier checkpoint"
            )


def _form(tensor: torch.Tensor, expected: bool = False) -> str:
    """Returns what must be equal for one tensor to be copied into another, for people."""
    if not expected and not _has_values(tensor):
        return "a tensor without values of its own"
    dtype = "" if tensor.dtype is torch.float32 else f" {tensor.dtype}"
    return f"{list(tensor.shape)}{dtype}"


def _has_values(tensor: torch.Tensor) -> bool:
    """Returns whether each element has its own memory: a small file can claim any shape without."""
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    if not plain or tensor.is_nested or tensor.layout is not torch.strided or tensor.is_meta:
        return False
    return tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _share_memory(tensors: Sequence[torch.Tensor]) -> bool:
    """Returns whether some memory is claimed by more than one tensor."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in (t.untyped_storage() for t in tensors)}
    return sum(storages.values()) < sum(tensor.numel() * tensor.element_size() for tensor in tensors)
