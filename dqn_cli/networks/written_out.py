"""Networks of convolutions, linear layers and ReLU under a scalar head, written out.

What autograd does around such layers can take longer than the layers, and what is written out can look at observations
and successors in one pass. The operations are those that autograd calls, in the same order: values and gradients are
the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from dqn_cli.networks.heads import DuelingStreams, PlainStream, ScalarHead, dueling_values
from dqn_cli.networks.layers import Convolution, Linear
from dqn_cli.networks.torsos import Mlp

_Layer = Linear | Convolution

_Kind = TypeVar("_Kind", Linear, Convolution)


class _Chain:
    """Layers of one kind, with a ReLU behind each, or behind each but the last.

    Args:
        layers: The layers, first to last.
        rectified: Whether there is one behind the last too.
    """

    def __init__(self, layers: Sequence[_Layer], rectified: bool) -> None:
        self.layers = layers
        self._rectified = len(layers) if rectified else len(layers) - 1

    def activations(self, inputs: Tensor) -> list[Tensor]:
        """Returns ``inputs`` and what each layer makes of them; the last are the outputs."""
        found = [inputs]
        for number, layer in enumerate(self.layers):
            if isinstance(layer, Linear):
                outputs = linear(found[-1], layer.weight, layer.bias)
            else:
                outputs = conv2d(found[-1], layer.weight, layer.bias, layer.stride, layer.padding)
            found.append(outputs.relu_() if number < self._rectified else outputs)
        return found

    def backward(self, activations: Sequence[Tensor], gradient: Tensor, wanted: bool) -> Tensor | None:
        """Puts into each parameter's ``grad`` what follows from the ``gradient`` of the outputs.

        Returns:
            The gradient of the inputs, where it is ``wanted``.
        """
        for number in reversed(range(len(self.layers))):
            if number < self._rectified:
                # Where a ReLU gave zero, nothing flows back: its output tells as well as its input.
                gradient = torch.ops.aten.threshold_backward(gradient, activations[number + 1], 0)
            passed = _layer_backward(self.layers[number], activations[number], gradient, wanted or number > 0)
            if passed is None:
                return None
            gradient = passed
        return gradient


def _layer_backward(layer: _Layer, inputs: Tensor, gradient: Tensor, wanted: bool) -> Tensor | None:
    """Puts the gradients of a layer's parameters into them; returns that of its ``inputs`` where it is ``wanted``."""
    weight, bias = layer.weight, layer.bias
    assert bias is not None, "all layers have one"
    if weight.grad is None or bias.grad is None:
        weight.grad, bias.grad = torch.empty_like(weight), torch.empty_like(bias)
    if isinstance(layer, Linear):
        # Into the memory of the last gradient: with fresh memory each time the cache would hold both.
        torch.mm(gradient.t(), inputs, out=weight.grad)
        torch.sum(gradient, 0, out=bias.grad)
        return gradient.mm(weight) if wanted else None
    if weight.is_contiguous(memory_format=torch.channels_last):
        gradient = gradient.contiguous(memory_format=torch.channels_last)
    passed, of_weight, of_bias = torch.ops.aten.convolution_backward(
        gradient,
        inputs,
        weight,
        [layer.out_channels],
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0, 0],
        layer.groups,
        (wanted, True, True),
    )
    weight.grad.copy_(of_weight)  # in the weight's own layout, as the optimiser's kernels take for granted
    bias.grad.copy_(of_bias)
    found: Tensor | None = passed
    return found


@dataclass(frozen=True, slots=True)
class Tape:
    """What a network made of a batch, layer by layer.

    Attributes:
        images: Inputs and outputs of the convolutions ``[B, C, H, W]``; empty without any.
        features: Inputs ``[B, F]`` and outputs of the torso's linear layers.
        streams: Inputs and outputs of the layers of each stream of the head.
        values: ``[B, A]``.
    """

    images: list[Tensor]
    features: list[Tensor]
    streams: list[list[Tensor]]
    values: Tensor

    def first(self, count: int) -> Tape:
        """Returns what belongs to the first ``count`` items, as views."""
        return Tape(
            [each[:count] for each in self.images],
            [each[:count] for each in self.features],
            [[each[:count] for each in stream] for stream in self.streams],
            self.values[:count],
        )


class WrittenOut:
    """A torso and a scalar head, as layers in the order of their use; shares its parameters with a network.

    Call it without gradients: it writes into what it is given, as autograd would not allow.

    Args:
        convolutions: Layers on images, each with a ReLU; empty for none.
        torso: Linear layers behind them, each with a ReLU.
        streams: Linear layers of each stream of the head, with a ReLU behind each but the last: one stream, or those
            of value and of advantages.
    """

    def __init__(
        self, convolutions: Sequence[Convolution], torso: Sequence[Linear], streams: Sequence[Sequence[Linear]]
    ) -> None:
        self._convolutions, self._torso = _Chain(convolutions, True), _Chain(torso, True)
        self._streams = [_Chain(stream, False) for stream in streams]

    @property
    def size(self) -> int:
        """Number of parameters."""
        chains = (self._convolutions, self._torso, *self._streams)
        parameters = [p for chain in chains for layer in chain.layers for p in layer.parameters()]
        return sum(parameter.numel() for parameter in parameters)

    def forward(self, inputs: Tensor) -> Tape:
        """Returns what the network makes of scaled ``inputs [B, S, ...]``."""
        if self._convolutions.layers:
            # [B, S, C, H, W]: the stack is more channels.
            images = self._convolutions.activations(inputs.flatten(1, 2) if inputs.ndim == 5 else inputs)
        else:
            images = []
        features = self._torso.activations((images[-1] if images else inputs).flatten(1))
        streams = [stream.activations(features[-1]) for stream in self._streams]
        outputs = [stream[-1] for stream in streams]
        return Tape(images, features, streams, outputs[0] if len(outputs) == 1 else dueling_values(*outputs))

    def backward(self, tape: Tape, gradient: Tensor) -> None:
        """Puts into each parameter's ``grad`` what follows from the ``gradient`` of the values.

        Args:
            tape: What `forward` returned, under the parameters as they are now.
            gradient: Derivative of a scalar by each value, ``[B, A]``.
        """
        has_images = bool(tape.images)
        wanted = has_images or bool(self._torso.layers)
        if len(self._streams) == 1:
            of_streams = [gradient]
        else:  # v + a - mean(a)
            of_streams = [gradient.sum(1, keepdim=True), gradient - gradient.mean(1, keepdim=True)]
        passed = [
            stream.backward(activations, of_stream, wanted)
            for stream, activations, of_stream in zip(self._streams, tape.streams, of_streams, strict=True)
        ]
        if (of_features := _total(passed)) is not None:
            of_images = self._torso.backward(tape.features, of_features, has_images)
            if of_images is not None and has_images:
                self._convolutions.backward(tape.images, of_images.view(tape.images[-1].shape), False)


def _total(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """Returns the sum, written into the first; None where there are none."""
    first, *others = gradients
    if first is not None:
        for other in others:
            assert other is not None, "all of them are wanted or none"
            first.add_(other)
    return first


def written_out_of(torso: nn.Module, head: nn.Module) -> WrittenOut | None:
    """Returns a torso and a head written out, or None where they are more than such layers: noisy, normalised, ..."""
    # Not for convolutions: their backward kernel, called by hand, was seen to write beyond its memory.
    if type(head) is not ScalarHead or type(torso) is not Mlp:
        return None
    layers = _rectified(torso.layers, Linear)
    streams = [_stream(stream) for stream in _streams(head.streams)]
    if layers is None or not streams:
        return None
    whole = [stream for stream in streams if stream is not None]
    return WrittenOut([], layers, whole) if len(whole) == len(streams) else None


def _streams(module: nn.Module) -> list[PlainStream]:
    """Returns the one stream of a head, or value and advantages; nothing where they are of another kind."""
    if type(module) is DuelingStreams:
        return [module.value, module.advantage]
    return [module] if type(module) is PlainStream else []


def _stream(stream: PlainStream) -> list[Linear] | None:
    """Returns the layers of a stream, or None where they are others."""
    body = _rectified(stream.body, Linear)
    return [*body, stream.out] if body is not None and type(stream.out) is Linear else None


def _rectified(modules: Iterable[nn.Module], kind: type[_Kind]) -> list[_Kind] | None:
    """Returns the layers of ``modules``, of one ``kind`` and each with a ReLU behind it; None where they are others."""
    found = list(modules)
    layers = [layer for layer in found[::2] if type(layer) is kind]
    rectifiers = [module for module in found[1::2] if type(module) is nn.ReLU]
    return layers if 2 * len(layers) == 2 * len(rectifiers) == len(found) else None
