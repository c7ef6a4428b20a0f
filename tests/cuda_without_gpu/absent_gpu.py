"""A GPU without data: torch runs shapes and devices, and says where the host would wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from dqn_cli.core.rng import torch_stream
from dqn_cli.core.types import Array
from dqn_cli.hardware import Hardware, resolve_hardware
from dqn_cli.schema import RunOptions

CUDA = torch.device("cuda")


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for the device: copies to the host, and copies from memory that is not locked.

    What asks for a single value (``.item()``, ``float()``, ``nonzero()``, a mask as an index) raises instead, and so
    does an operation whose tensors are on different devices.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Looks at one operation on its way to the device that is not there."""
        result = function(*args, **(kwargs or {}))
        # Copies have several names, in inference mode more than elsewhere: what counts is from where to where.
        source = args[1] if function is torch.ops.aten.copy_.default else next(iter(args), None)
        if isinstance(source, Tensor) and isinstance(result, Tensor):
            self._moved(source, result)
        return result

    def _moved(self, source: Tensor, destination: Tensor) -> None:
        pair = source.device.type, destination.device.type
        self.count += pair == ("cuda", "cpu") or (pair == ("cpu", "cuda") and not getattr(source, "is_locked", False))

    def during(self, work: Callable[[], Any]) -> int:
        """Returns how often the host waits during ``work``."""
        before = self.count
        work()
        return self.count - before


class _Generator(torch.Generator):
    """A generator that says it is on the device; nothing is drawn from it."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA


def _stream(seed: int, name: str, device: torch.device | None = None) -> torch.Generator:
    return _Generator() if device is not None and device.type == "cuda" else torch_stream(seed, name)


def _lock(tensor: Tensor) -> Tensor:
    locked = tensor.clone()
    locked.is_locked = True  # type: ignore[attr-defined]
    return locked


def _values(tensor: Tensor) -> Array:
    """Returns zeros for what a tensor on the host would say."""
    if tensor.device.type != "cpu":
        raise TypeError("can't convert a tensor on a GPU to an array")
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _moved(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Does what `torch.nn.Module._apply` does, which cannot exchange tensors without data."""
    for child in module.children() if recurse else ():
        child._apply(function)  # type: ignore[no-untyped-call]
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                module._parameters[name] = nn.Parameter(function(parameter), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


def hardware_of(options: RunOptions) -> Hardware:
    """Returns what a run computes on where there is a GPU."""
    with ExitStack() as stack:
        for name, answer in (("is_available", True), ("device_count", 1), ("is_bf16_supported", True)):
            stack.enter_context(patch.object(torch.cuda, name, lambda answer=answer: answer))
        return resolve_hardware(options)


@contextmanager
def absent_gpu() -> Iterator[Waits]:
    """While entered tensors are without data, and may be on a GPU; gives what counts the waits."""
    with ExitStack() as stack:
        # Autocast asks torch. Whoever told it that there is a GPU would have it look for the driver.
        stack.enter_context(patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False))
        stack.enter_context(patch.object(torch.cuda, "is_bf16_supported", lambda *_, **__: True))
        stack.enter_context(patch("dqn_cli.compose.torch_stream", _stream))
        stack.enter_context(patch.object(Tensor, "pin_memory", _lock))
        stack.enter_context(patch.object(Tensor, "numpy", _values))
        stack.enter_context(patch.object(nn.Module, "_apply", _moved))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(Waits())
