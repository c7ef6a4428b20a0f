"""Layers that a written-out network is made of, each with its way forward and its way back.

Call them without gradients.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear

from dqn_cli.networks.layers import Convolution, Linear


class _Copy:
    """A parameter in the dtype of the arithmetic, copied anew when it has changed.

    Args:
        parameter: In float32.
        dtype: Of the copy; None for the parameter itself.
    """

    def __init__(self, parameter: Tensor, dtype: torch.dtype | None) -> None:
        self.parameter, self._dtype = parameter, dtype
        self._copy: Tensor = parameter
        self._version = -1

    def __deepcopy__(self, memo: dict[int, Any]) -> _Copy:
        """Returns one that has copied nothing yet: a copied parameter begins to count anew."""
        return _Copy(copy.deepcopy(self.parameter, memo), self._dtype)

    @property
    def value(self) -> Tensor:
        """The parameter as it is now."""
        # Torch counts what is written into a tensor, so that its own checks see a change; so does a copy.
        if self._dtype is not None and self._version != self.parameter._version:
            with torch.inference_mode(False):  # who acts may be in that mode, and who learns uses the copy after it
                self._copy = self.parameter.detach().to(self._dtype)
            self._version = self.parameter._version
        return self._copy


class _Layer:
    """The parameters of a layer, as they are and in the dtype of the arithmetic.

    Args:
        layer: Whose parameters are used.
        dtype: Of the arithmetic; None for the parameters' own.
    """

    def __init__(self, layer: Linear | Convolution, dtype: torch.dtype | None = None) -> None:
        assert layer.bias is not None, "all layers have one"
        self.weight, self.bias = layer.weight, layer.bias
        self._weight, self._bias = _Copy(layer.weight, dtype), _Copy(layer.bias, dtype)


class LinearLayer(_Layer):
    """A linear layer, forward and backward."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the outputs ``[B, O]`` for ``inputs [B, I]``."""
        return linear(inputs, self._weight.value, self._bias.value)

    def backward(self, inputs: Tensor, gradient: Tensor, wanted: bool) -> Tensor | None:
        """Puts the gradients of the parameters into them, given the ``gradient`` of the outputs.

        Returns:
            The gradient of the inputs, where it is ``wanted``.
        """
        of_weight, of_bias = _gradients(self.weight, self.bias)
        if gradient.dtype == of_weight.dtype:
            # Into the memory of the last gradient: with fresh memory each time the cache would hold both.
            torch.mm(gradient.t(), inputs, out=of_weight)
        else:
            of_weight.copy_(gradient.t().mm(inputs))
        torch.sum(gradient, 0, dtype=of_bias.dtype, out=of_bias)
        return gradient.mm(self._weight.value) if wanted else None


class ConvolutionLayer(_Layer):
    """The same of a convolution without padding or groups, on images ``[B, C, H, W]``."""

    def __init__(self, layer: Convolution, dtype: torch.dtype | None = None) -> None:
        super().__init__(layer, dtype)
        self._stride = layer.stride

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the outputs for ``inputs``."""
        return conv2d(inputs, self._weight.value, self._bias.value, self._stride)

    def backward(self, inputs: Tensor, gradient: Tensor, wanted: bool) -> Tensor | None:
        """Puts the gradients of the parameters into them, given the ``gradient`` of the outputs.

        Returns:
            The gradient of the inputs, where it is ``wanted``.
        """
        of_weight, of_bias = _gradients(self.weight, self.bias)
        if self.weight.is_contiguous(memory_format=torch.channels_last):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        passed: Tensor | None
        passed, weight, bias = torch.ops.aten.convolution_backward(
            gradient,
            inputs,
            self._weight.value,
            [len(self.bias)],
            self._stride,
            [0, 0],
            [1, 1],
            False,
            [0, 0],
            1,
            (wanted, True, True),
        )
        of_weight.copy_(weight)  # in the weight's own layout, as the optimiser's kernels take for granted
        of_bias.copy_(bias)
        return passed


def _gradients(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the memory of the gradients of a layer's parameters, laid out as they are."""
    if weight.grad is None or bias.grad is None:
        weight.grad, bias.grad = torch.empty_like(weight), torch.empty_like(bias)
    return weight.grad, bias.grad
