"""Optimisers: Adam on torch's kernel, RMSProp in both forms of its epsilon; and the limit of a gradient's norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import hypot
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from dqn_cli.core.options import Fraction, Options, PositiveCount, PositiveFloat


class AdamOptions(Options):
    """Adam (Kingma and Ba 2015)."""

    kind: Literal["adam"] = "adam"
    lr: PositiveFloat = Field(5.0e-4, description="Step size.")
    eps: PositiveFloat = Field(1.0e-8, description="Added to the root of the second moment.")


class AdamWOptions(Options):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: PositiveFloat = Field(5.0e-4, description="Step size.")
    eps: PositiveFloat = Field(1.0e-8, description="Added to the root of the second moment.")
    weight_decay: PositiveFloat = Field(1.0e-2, description="Part of each weight that a step of size 1 removes.")


class RMSPropOptions(Options):
    """RMSProp (Tieleman and Hinton 2012; Graves 2013 for the centred form)."""

    kind: Literal["rmsprop"] = "rmsprop"
    lr: PositiveFloat = Field(2.5e-4, description="Step size.")
    decay: Fraction = Field(0.95, description="Decay of the moving averages.")
    centered: bool = Field(True, description="Divide by the standard deviation of the gradient, not by its RMS.")
    eps: PositiveFloat = Field(1.0e-2, description="Added where eps_inside_sqrt says.")
    eps_inside_sqrt: bool = Field(
        True, description="Add eps to the variance (Lua DQN, dqn_zoo, Dopamine), not to its root (torch)."
    )


class LinearRateOptions(Options):
    """The step size falls along a straight line, over agent steps."""

    kind: Literal["linear"] = "linear"
    end_factor: Fraction = Field(0.0, description="Final step size as a fraction of the optimiser's.")
    over_steps: PositiveCount | None = Field(None, description="Agent steps until then; null: total_steps.")


class CosineRateOptions(Options):
    """The step size falls along half a cosine, over agent steps (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    end_factor: Fraction = Field(0.0, description="Final step size as a fraction of the optimiser's.")
    over_steps: PositiveCount | None = Field(None, description="Agent steps until then; null: total_steps.")


class Adam(torch.optim.Optimizer):
    """Adam with torch's fused kernels, bit for bit ``torch.optim.Adam(fused=True)`` or ``AdamW(fused=True)``.

    What torch does around its kernel takes longer than the kernel where a network is small.

    Args:
        parameters: What to optimise.
        lr: Step size.
        eps: Added to the root of the second moment.
        betas: Decays of the first and second moment.
        weight_decay: Decoupled weight decay.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        eps: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        # `fused` tells load_state_dict that the counts of steps belong on the device.
        defaults = {"lr": lr, "eps": eps, "betas": betas, "weight_decay": weight_decay, "fused": True}
        super().__init__(parameters, defaults)
        self._kernel = torch._fused_adamw_ if weight_decay else torch._fused_adam_

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Takes one step from the gradients that the parameters carry."""
        if closure is not None:
            raise ValueError("a closure is not supported: call backward() before step()")
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for p in parameters:
                if not self.state[p]:
                    self.state[p] = {
                        "step": torch.zeros((), device=p.device),
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
            states = [self.state[p] for p in parameters]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            beta1, beta2 = group["betas"]
            self._kernel(
                parameters,
                [p.grad for p in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    # torch wraps the method of each optimiser that does not say so, for hooks that nobody has here.
    step.hooked = True  # type: ignore[attr-defined]


class RMSPropInsideRoot(torch.optim.Optimizer):
    """RMSProp with epsilon inside the root: ``p -= lr * g / sqrt(v - m^2 + eps)``.

    ``v`` and ``m`` are moving averages of g^2 and g; ``m`` is left out where not centred. This is the optimiser of
    the Lua DQN code, which torch does not have.

    Args:
        parameters: What to optimise.
        lr: Step size.
        decay: Decay of the moving averages.
        eps: Added to the variance.
        centered: Whether the mean is subtracted.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, decay: float, eps: float, centered: bool) -> None:
        super().__init__(parameters, {"lr": lr, "decay": decay, "eps": eps, "centered": centered})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Takes one step from the gradients that the parameters carry."""
        if closure is not None:
            raise ValueError("a closure is not supported: call backward() before step()")
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            for p in parameters:
                if not self.state[p]:
                    self.state[p] = {"square": torch.zeros_like(p), "mean": torch.zeros_like(p)}
            squares = [self.state[p]["square"] for p in parameters]
            means = [self.state[p]["mean"] for p in parameters]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - group["decay"])
            variances = torch._foreach_add(squares, group["eps"])
            if group["centered"]:
                torch._foreach_lerp_(means, gradients, 1.0 - group["decay"])
                torch._foreach_addcmul_(variances, means, means, value=-1.0)
                # v - m^2 is never negative, but rounding makes it so where the gradient hardly varies.
                torch._foreach_clamp_min_(variances, group["eps"])
            torch._foreach_sqrt_(variances)
            torch._foreach_addcdiv_(parameters, gradients, variances, value=-group["lr"])


@torch.no_grad()
def limit_norm(parameters: Sequence[Tensor], max_norm: float) -> None:
    """Scales the gradients of ``parameters`` down to the norm ``max_norm``, as ``torch.nn.utils.clip_grad_norm_`` does.

    On a CPU gradients below the limit are left alone, not multiplied by one: the same bits, and no pass over memory.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    norms = torch._foreach_norm(gradients)
    if norms[0].device.type == "cpu" and hypot(*(norm.item() for norm in norms)) < (1.0 - 1e-6) * max_norm:
        return
    norm = torch.linalg.vector_norm(torch.stack(norms))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
