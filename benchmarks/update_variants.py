"""Variants of one update of the NatureCNN on a CPU, in alternation, and how near it comes to the hardware's limit.

    python benchmarks/update_variants.py

Each variant updates its own networks from the same batches; the order changes at random from round to round, so that a
machine that drifts slows all of them. What decision 0003 rejects was measured by this.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pong_speed import OVERRIDES  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dqn_cli.agent.gradient import AutogradGradient, WrittenOutGradient
from dqn_cli.agent.learner import Learner
from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import make_environments, make_training
from dqn_cli.config.load import load_config
from dqn_cli.core.machine import describe_machine
from dqn_cli.core.types import Batch
from dqn_cli.hardware import resolve_hardware
from dqn_cli.schema import RunOptions

BATCHES, B = 40, 32
Update = Callable[[Batch], object]


def as_it_is(learner: Learner) -> Update:
    """The learner's own update."""
    return lambda batch: learner.update(batch, 1)


def by_autograd(learner: Learner) -> Update:
    """Gradients by autograd, as all that cannot be written out has them."""
    written = cast("WrittenOutGradient", learner._gradient)
    learner._gradient = AutogradGradient(learner.online, learner.target, written._bootstrap, written._objective)
    return as_it_is(learner)


def relu_in_place(learner: Learner) -> Update:
    """The same, and activations overwrite what the convolutions put out."""
    for network in (learner.online, learner.target):
        for module in network.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = True
    return by_autograd(learner)


class _MatrixGradient(torch.autograd.Function):
    """A channels-last convolution whose weight gradient is one matrix product over unfolded patches."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return nn.functional.conv2d(x, weight, bias, stride)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        stride, (batch, out, height, width), (_, channels, kernel, _) = ctx.stride, gradient.shape, weight.shape
        image = x.permute(0, 2, 3, 1)
        rows, columns = image.shape[1] * image.shape[2] * channels, image.shape[2] * channels
        patches = image.as_strided(
            (batch, height, width, kernel, kernel * channels),
            (rows, stride * columns, stride * channels, columns, 1),
        ).reshape(-1, kernel * kernel * channels)
        flat = gradient.permute(0, 2, 3, 1).reshape(-1, out)
        by_patch = (patches.t() @ flat).t().reshape(out, kernel, kernel, channels)
        mask = [True, False, False]
        arguments = ([stride] * 2, [0, 0], [1, 1], False, [0, 0], 1, mask)
        (towards_x, _, _) = torch.ops.aten.convolution_backward(gradient, x, weight, [out], *arguments)
        return towards_x, by_patch.permute(0, 3, 1, 2), flat.sum(0), None


class _MatrixConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        y: Tensor = _MatrixGradient.apply(x, self.weight, self.bias, self.stride[0])  # type: ignore[no-untyped-call]
        return y


def matrix_gradients(learner: Learner) -> Update:
    """By autograd, all convolutions but the first, where unfolding costs more than it saves."""
    convolutions = [module for module in learner.online.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions[1:]:
        module.__class__ = _MatrixConv
    return by_autograd(learner)


def two_halves(learner: Learner) -> Update:
    """Half of the batch in each of two threads, one core each, and the gradients added."""
    parameters = list(learner.online.parameters())
    pool = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
    written, optimizer = cast("WrittenOutGradient", learner._gradient), learner._gradient_step._optimizer
    greedy, objective = written._bootstrap, written._objective

    def gradients(batch: Batch, half: slice) -> tuple[Tensor, ...]:
        part = Batch(*(getattr(batch, name)[half] for name in Batch.__slots__))
        prediction = learner.online(part.observation).select(part.action)
        with torch.no_grad():
            backup = greedy(learner.online, learner.target, part)
        losses, _ = objective(prediction, backup)
        return torch.autograd.grad((part.weight * losses).sum() / B, parameters)

    def update(batch: Batch) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        other = pool.submit(gradients, batch, slice(B // 2, B))
        own = gradients(batch, slice(0, B // 2))
        torch.set_num_threads(threads)
        torch._foreach_add_(own, other.result())
        for parameter, gradient in zip(parameters, own, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()

    return update


def plain_torch(learner: Learner) -> Update:
    """Autograd, Adam of torch, contiguous images: what an update is elsewhere."""
    learner._gradient_step._optimizer = torch.optim.Adam(learner.online.parameters(), lr=1.0e-4)
    for network in (learner.online, learner.target):
        network._memory_format = torch.contiguous_format
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return by_autograd(learner)


VARIANTS = (as_it_is, by_autograd, plain_torch, relu_in_place, matrix_gradients, two_halves)


def batches() -> list[Batch]:
    """Returns batches of noise: no arithmetic here depends on values."""
    found = []
    for _ in range(BATCHES):
        both = torch.randint(0, 256, (2 * B, 4, 84, 84), dtype=torch.uint8)
        ones = torch.ones(B)
        found.append(Batch(both[:B], torch.randint(0, 6, (B,)), ones, 0.99 * ones, both[B:], ones, np.arange(B)))
    return found


def limit() -> float:
    """Returns the floating point operations a second of a large matrix product."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    seconds = []
    for _ in range(20):
        begun = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - begun)
    return float(2 * 1024**3 / min(seconds))


def main() -> None:
    """Measures the variants and prints their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "update_variants.json")
    arguments = parser.parse_args()
    options = load_config("atari/default", [*OVERRIDES, "precision=float32"], RunOptions, presets_folder()).options
    hardware = resolve_hardware(options)
    hardware.apply()
    environments = make_environments(options)
    learners = [make_training(options, hardware, environments).learner for _ in VARIANTS]
    environments.close()
    updates = [variant(learner) for variant, learner in zip(VARIANTS, learners, strict=True)]
    pool = batches()
    with FlopCounterMode(display=False) as counter:
        updates[0](pool[0])
    operations = counter.get_total_flops()
    seconds: list[list[float]] = [[] for _ in VARIANTS]
    for number in range(-2, arguments.rounds):
        for index in random.sample(range(len(VARIANTS)), len(VARIANTS)):
            begun = time.perf_counter()
            updates[index](pool[number % BATCHES])
            if number >= 0:
                seconds[index].append(time.perf_counter() - begun)
    medians = {v.__name__: statistics.median(s) for v, s in zip(VARIANTS, seconds, strict=True)}
    peak = limit()
    for name, median in medians.items():
        share = operations / median / peak
        ratio = median / medians["as_it_is"]
        print(f"{name:18} {median * 1e3:6.1f} ms  {ratio:5.2f} of as_it_is  {share:4.0%} of {peak / 1e9:.0f} GFLOP/s")
    record = {"medians": medians, "operations": operations, "peak": peak, "machine": describe_machine()}
    arguments.out.write_text(json.dumps(record | {"threads": hardware.threads}) + "\n")


if __name__ == "__main__":
    main()
