"""Optimisers: Adam on torch's kernel, RMSProp in both forms of its epsilon; and the limit of a gradient's norm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from math import hypot, isfinite
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from dqn_cli.core.options import Fraction, Options, PositiveCount, PositiveFloat
from dqn_cli.core.stateful import State


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


class Optimizer(ABC):
    """Moves parameters against the gradients that they carry; ``Stateful``, in the format of `torch.optim.Optimizer`.

    It is not one of those: the first that is made in a process imports torch's compiler, for two seconds of every run.

    Args:
        parameters: What to optimise.
        settings: Numbers of the one group that all of them are in.

    Attributes:
        param_groups: The group: ``params`` and the settings, which may change between steps.
        state: What is known of each parameter; one that is taken out starts like new.
    """

    def __init__(self, parameters: Iterable[Tensor], **settings: Any) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters), **settings}]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Takes one step; parameters without a gradient stay."""
        (group,) = self.param_groups
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        for p in parameters:
            if p not in self.state:
                self.state[p] = self._begin(p)
        self._move(parameters, [p.grad for p in parameters], [self.state[p] for p in parameters], group)

    @abstractmethod
    def _begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns what is known of a parameter before its first step."""

    @abstractmethod
    def _move(
        self, parameters: list[Tensor], gradients: list[Tensor], states: list[dict[str, Tensor]], group: dict[str, Any]
    ) -> None:
        """Moves the parameters, and brings their states up to date."""

    def state_dict(self) -> State:
        """Returns settings and states, parameters numbered in their order; tensors are those in use."""
        (group,) = self.param_groups
        numbers = {parameter: number for number, parameter in enumerate(group["params"])}
        return {
            "state": {numbers[parameter]: dict(state) for parameter, state in self.state.items()},
            "param_groups": [{**group, "params": list(numbers.values())}],
        }

    def load_state_dict(self, state: State) -> None:
        """Takes over settings and states that ``state_dict`` returned.

        Raises:
            ValueError: They are of other parameters or of another optimiser.
        """
        (own,), (saved,) = self.param_groups, state["param_groups"]
        parameters = own["params"]
        if saved["params"] != list(range(len(parameters))):
            raise ValueError(f"the optimiser's state is of {len(saved['params'])} parameters, not {len(parameters)}")
        if saved.keys() != own.keys() or any(not _alike(saved[name], own[name]) for name in own.keys() - {"params"}):
            raise ValueError("the optimiser's settings are those of another one")
        taken: dict[Tensor, dict[str, Tensor]] = {}
        for number, found in state["state"].items():
            if type(number) is not int or not 0 <= number < len(parameters):
                raise ValueError(f"the optimiser's state names a parameter {number!r}")
            taken[parameters[number]] = fresh = self._begin(parameters[number])
            if {name: _form(value) for name, value in fresh.items()} != {name: _form(v) for name, v in found.items()}:
                raise ValueError(f"the optimiser's state of parameter {number} does not fit it")
            for name, value in fresh.items():
                value.copy_(found[name])
        self.state = taken
        own.update({**saved, "params": parameters})


def _form(value: Tensor) -> tuple[torch.Size, torch.dtype, torch.layout]:
    return value.shape, value.dtype, value.layout


def _alike(saved: Any, own: Any) -> bool:
    """Returns whether a saved setting can stand for ``own``: of one type, and a finite number where that is one."""
    if isinstance(own, tuple):
        # A file may keep tuples as lists.
        pairs = isinstance(saved, tuple | list) and len(saved) == len(own)
        return pairs and all(_alike(*pair) for pair in zip(saved, own, strict=True))
    return type(saved) is type(own) and (not isinstance(own, float) or isfinite(saved))


class Adam(Optimizer):
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
        super().__init__(parameters, lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        self._kernel = torch._fused_adamw_ if weight_decay else torch._fused_adam_

    def _begin(self, parameter: Tensor) -> dict[str, Tensor]:
        return {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }

    def _move(
        self, parameters: list[Tensor], gradients: list[Tensor], states: list[dict[str, Tensor]], group: dict[str, Any]
    ) -> None:
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        self._kernel(
            parameters,
            gradients,
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


class RMSProp(Optimizer):
    """RMSProp with epsilon inside the root, ``p -= lr * g / sqrt(v + eps)``, or outside, ``lr * g / (sqrt(v) + eps)``.

    ``v`` is the moving average of g^2, less the square of that of g where centred. The Lua DQN code has epsilon inside,
    torch outside.

    Args:
        parameters: What to optimise.
        lr: Step size.
        decay: Decay of the moving averages.
        eps: Added to the variance, or to its root.
        centered: Whether the mean is subtracted.
        eps_inside_sqrt: Whether epsilon is added to the variance.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        decay: float,
        eps: float,
        centered: bool,
        eps_inside_sqrt: bool = True,
    ) -> None:
        super().__init__(parameters, lr=lr, decay=decay, eps=eps, centered=centered)
        self._inside = eps_inside_sqrt

    def _begin(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"square": torch.zeros_like(parameter), "mean": torch.zeros_like(parameter)}

    def _move(
        self, parameters: list[Tensor], gradients: list[Tensor], states: list[dict[str, Tensor]], group: dict[str, Any]
    ) -> None:
        squares = [state["square"] for state in states]
        means = [state["mean"] for state in states]
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - group["decay"])
        inside = group["eps"] if self._inside else 0.0
        variances = torch._foreach_add(squares, inside)
        if group["centered"]:
            torch._foreach_lerp_(means, gradients, 1.0 - group["decay"])
            torch._foreach_addcmul_(variances, means, means, value=-1.0)
            # v - m^2 is never negative, but rounding makes it so where the gradient hardly varies.
            torch._foreach_clamp_min_(variances, inside)
        torch._foreach_sqrt_(variances)
        if not self._inside:
            torch._foreach_add_(variances, group["eps"])
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
    # The 1e-6 that is added is torch's; what is so near the limit that rounding decides is left to its arithmetic.
    if norms[0].device.type == "cpu" and hypot(*(norm.item() for norm in norms)) + 1e-6 < (1.0 - 1e-6) * max_norm:
        return
    norm = torch.linalg.vector_norm(torch.stack(norms))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
