"""Networks that are nothing but linear layers and ReLU, written out.

What autograd does around such layers can take longer than the layers. The kernels are those that it calls, in the same
order: values are the same bits, gradients the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dqn_cli.networks.heads import PlainStream, ScalarHead
from dqn_cli.networks.layers import Linear
from dqn_cli.networks.torsos import Mlp


class Perceptron:
    """Linear layers with a ReLU behind each but the last; shares its parameters with a network.

    Call it without gradients: it writes into what it is given, as autograd would not allow.

    Args:
        layers: The layers, first to last.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._parameters = [(layer.weight, layer.bias) for layer in layers]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(weight.numel() + bias.numel() for weight, bias in self._parameters)

    def activations(self, inputs: Tensor) -> list[Tensor]:
        """Returns ``inputs [B, F]`` and what each layer makes of them; the last are the outputs."""
        found = [inputs]
        last = len(self._parameters)
        for number, (weight, bias) in enumerate(self._parameters, start=1):
            outputs = linear(found[-1], weight, bias)
            found.append(outputs.relu_() if number < last else outputs)
        return found

    def backward(self, activations: Sequence[Tensor], gradient: Tensor) -> None:
        """Puts into each parameter's ``grad`` what follows from the ``gradient`` of the outputs.

        Args:
            activations: What `activations` returned, under the parameters as they are now.
            gradient: Derivative of a scalar by each output, of the outputs' shape.
        """
        for number in reversed(range(len(self._parameters))):
            weight, bias = self._parameters[number]
            if weight.grad is None or bias.grad is None:
                weight.grad, bias.grad = torch.empty_like(weight), torch.empty_like(bias)
            # Into the memory of the last gradient: with fresh memory each time the cache would hold both.
            torch.mm(gradient.t(), activations[number], out=weight.grad)
            torch.sum(gradient, 0, out=bias.grad)
            if number:
                # Where a ReLU gave zero, nothing flows back: its output tells as well as its input.
                gradient = torch.ops.aten.threshold_backward(gradient.mm(weight), activations[number], 0)


def perceptron_of(torso: nn.Module, head: nn.Module) -> Perceptron | None:
    """Returns a torso and a head written out, or None where they are more than linear layers and ReLU."""
    if not (type(torso) is Mlp and type(head) is ScalarHead and type(head.streams) is PlainStream):
        return None
    modules = [*torso.layers, *head.streams.body]
    layers, rectifiers = [*modules[::2], head.streams.out], modules[1::2]
    if any(type(module) is not Linear for module in layers) or any(type(m) is not nn.ReLU for m in rectifiers):
        return None  # noisy or normalised
    return Perceptron([layer for layer in layers if isinstance(layer, Linear)])
