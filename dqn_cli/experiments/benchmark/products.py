"""The matrix products inside of an update, and how long the hardware takes for them alone."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Product:
    """A product of ``[batch, m, k]`` and ``[batch, k, n]``.

    Attributes:
        batch: Products side by side.
        m: Rows.
        k: What is summed over.
        n: Columns.
        dtype: Of both factors.
    """

    batch: int
    m: int
    k: int
    n: int
    dtype: torch.dtype

    @property
    def operations(self) -> int:
        """Floating point operations, a multiplication and an addition each."""
        return 2 * self.batch * self.m * self.k * self.n


def products_of(work: Callable[[], object]) -> Counter[Product]:
    """Runs ``work`` and returns the matrix products that it amounts to, with how often each occurs.

    A convolution is the product of its patches, unfolded, and its weights; its gradients are two products more.
    """
    recorder = _Recorder()
    with recorder:
        work()
    return recorder.found


def seconds_alone(products: Counter[Product], device: torch.device, repeats: int = 5) -> float:
    """Returns the time of all ``products``, each at the best of its ``repeats``, on numbers that lie ready."""
    total = 0.0
    for product, count in products.items():
        shape = (product.batch,) if product.batch > 1 else ()
        a = torch.randn(*shape, product.m, product.k, device=device).to(product.dtype)
        b = torch.randn(*shape, product.k, product.n, device=device).to(product.dtype)
        out = torch.matmul(a, b)
        best = math.inf
        for _ in range(repeats):
            synchronize(device)
            begun = time.perf_counter()
            torch.matmul(a, b, out=out)
            synchronize(device)
            best = min(best, time.perf_counter() - begun)
        total += count * best
    return total


def synchronize(device: torch.device) -> None:
    """Waits until a GPU has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the products of every operation that passes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and notes it."""
        result = func(*args, **(kwargs or {}))
        kind = func.overloadpacket
        if kind in (_aten.mm, _aten.addmm):
            a, b = args[-2:]
            self._note(1, a.shape[0], a.shape[1], b.shape[1], a.dtype)
        elif kind in (_aten.bmm, _aten.baddbmm):
            a, b = args[-2:]
            self._note(a.shape[0], a.shape[1], a.shape[2], b.shape[2], a.dtype)
        elif kind is _aten.convolution:
            self._convolution(result, args[0], args[1])
        elif kind is _aten.convolution_backward:
            gradient, x, weight, mask = args[0], args[1], args[2], args[-1]
            places, patch = _places(gradient), _patch(weight)
            if mask[0]:
                self._note(1, places, weight.shape[0], patch, x.dtype)
            if mask[1]:
                self._note(1, weight.shape[0], places, patch, x.dtype)
        return result

    def _convolution(self, out: Any, x: Any, weight: Any) -> None:
        self._note(1, _places(out), _patch(weight), weight.shape[0], x.dtype)

    def _note(self, batch: int, m: int, k: int, n: int, dtype: torch.dtype) -> None:
        self.found[Product(batch, m, k, n, dtype)] += 1


def _places(out: Any) -> int:
    """Returns how many places of how many images a convolution has looked at, from its output ``[B, C, H, W]``."""
    return int(out.shape[0] * math.prod(out.shape[2:]))


def _patch(weight: Any) -> int:
    """Returns the numbers in a patch, from the weights ``[O, C, kH, kW]``."""
    return int(math.prod(weight.shape[1:]))
