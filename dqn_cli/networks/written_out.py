"""Networks of linear layers and ReLU under a scalar head, written out.

What autograd does around such layers can take longer than the layers, and what is written out can look at observations
and successors in one pass. The kernels are those that autograd calls, in the same order: values are the same bits,
gradients the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dqn_cli.networks.heads import DuelingStreams, PlainStream, ScalarHead, dueling_values
from dqn_cli.networks.layers import Linear
from dqn_cli.networks.torsos import Mlp


class _Chain:
    """Linear layers, with a ReLU behind each, or behind each but the last.

    Args:
        layers: The layers, first to last.
        rectified: Whether there is one behind the last too.
    """

    def __init__(self, layers: Sequence[Linear], rectified: bool) -> None:
        self.layers = layers
        self._rectified = len(layers) if rectified else len(layers) - 1

    def activations(self, inputs: Tensor) -> list[Tensor]:
        """Returns ``inputs`` and what each layer makes of them; the last are the outputs."""
        found = [inputs]
        for number, layer in enumerate(self.layers):
            outputs = linear(found[-1], layer.weight, layer.bias)
            found.append(outputs.relu_() if number < self._rectified else outputs)
        return found

    def backward(self, activations: Sequence[Tensor], gradient: Tensor, wanted: bool) -> Tensor | None:
        """Puts into each parameter's ``grad`` what follows from the ``gradient`` of the outputs.

        Returns:
            The gradient of the inputs, where it is ``wanted``.
        """
        for number in reversed(range(len(self.layers))):
            weight, bias = self.layers[number].weight, self.layers[number].bias
            if number < self._rectified:
                # Where a ReLU gave zero, nothing flows back: its output tells as well as its input.
                gradient = torch.ops.aten.threshold_backward(gradient, activations[number + 1], 0)
            if weight.grad is None or bias.grad is None:
                weight.grad, bias.grad = torch.empty_like(weight), torch.empty_like(bias)
            # Into the memory of the last gradient: with fresh memory each time the cache would hold both.
            torch.mm(gradient.t(), activations[number], out=weight.grad)
            torch.sum(gradient, 0, out=bias.grad)
            if not (wanted or number > 0):
                return None
            gradient = gradient.mm(weight)
        return gradient


@dataclass(frozen=True, slots=True)
class Tape:
    """What a network made of a batch, layer by layer.

    Attributes:
        features: Inputs ``[B, F]`` and outputs of the torso's linear layers.
        streams: Inputs and outputs of the layers of each stream of the head.
        values: ``[B, A]``.
    """

    features: list[Tensor]
    streams: list[list[Tensor]]
    values: Tensor

    def first(self, count: int) -> Tape:
        """Returns what belongs to the first ``count`` items, as views."""
        return Tape(
            [each[:count] for each in self.features],
            [[each[:count] for each in stream] for stream in self.streams],
            self.values[:count],
        )


class WrittenOut:
    """A torso and a scalar head, as layers in the order of their use; shares its parameters with a network.

    Call it without gradients: it writes into what it is given, as autograd would not allow.

    Args:
        torso: Linear layers, each with a ReLU.
        streams: Linear layers of each stream of the head, with a ReLU behind each but the last: one stream, or those
            of value and of advantages.
    """

    def __init__(self, torso: Sequence[Linear], streams: Sequence[Sequence[Linear]]) -> None:
        self._torso, self._streams = _Chain(torso, True), [_Chain(stream, False) for stream in streams]

    @property
    def size(self) -> int:
        """Number of parameters."""
        layers = [layer for chain in (self._torso, *self._streams) for layer in chain.layers]
        return sum(parameter.numel() for layer in layers for parameter in layer.parameters())

    def forward(self, inputs: Tensor) -> Tape:
        """Returns what the network makes of scaled ``inputs [B, S, ...]``."""
        features = self._torso.activations(inputs.flatten(1))
        streams = [stream.activations(features[-1]) for stream in self._streams]
        outputs = [stream[-1] for stream in streams]
        return Tape(features, streams, outputs[0] if len(outputs) == 1 else dueling_values(*outputs))

    def backward(self, tape: Tape, gradient: Tensor) -> None:
        """Puts into each parameter's ``grad`` what follows from the ``gradient`` of the values.

        Args:
            tape: What `forward` returned, under the parameters as they are now.
            gradient: Derivative of a scalar by each value, ``[B, A]``.
        """
        wanted = bool(self._torso.layers)
        if len(self._streams) == 1:
            of_streams = [gradient]
        else:  # v + a - mean(a)
            of_streams = [gradient.sum(1, keepdim=True), gradient - gradient.mean(1, keepdim=True)]
        passed = [
            stream.backward(activations, of_stream, wanted)
            for stream, activations, of_stream in zip(self._streams, tape.streams, of_streams, strict=True)
        ]
        if (of_features := _total(passed)) is not None:
            self._torso.backward(tape.features, of_features, False)


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
    layers = _rectified(torso.layers)
    streams = [_stream(stream) for stream in _streams(head.streams)]
    if layers is None or not streams:
        return None
    whole = [stream for stream in streams if stream is not None]
    return WrittenOut(layers, whole) if len(whole) == len(streams) else None


def _streams(module: nn.Module) -> list[PlainStream]:
    """Returns the one stream of a head, or value and advantages; nothing where they are of another kind."""
    if type(module) is DuelingStreams:
        return [module.value, module.advantage]
    return [module] if type(module) is PlainStream else []


def _stream(stream: PlainStream) -> list[Linear] | None:
    """Returns the layers of a stream, or None where they are others."""
    body = _rectified(stream.body)
    return [*body, stream.out] if body is not None and type(stream.out) is Linear else None


def _rectified(modules: Iterable[nn.Module]) -> list[Linear] | None:
    """Returns the linear layers of ``modules``, each with a ReLU behind it; None where they are others."""
    found = list(modules)
    layers = [layer for layer in found[::2] if type(layer) is Linear]
    rectifiers = [module for module in found[1::2] if type(module) is nn.ReLU]
    return layers if 2 * len(layers) == 2 * len(rectifiers) == len(found) else None
