"""Networks of convolutions, linear layers and ReLU under a scalar head, written out.

What autograd does around such layers can take longer than the layers, and what is written out can look at observations
and successors in one pass. The kernels are those that autograd calls, in the same order: linear layers give the same
bits, all else is the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from dqn_cli.networks.heads import DuelingStreams, PlainStream, ScalarHead, dueling_values
from dqn_cli.networks.layers import Convolution, Linear
from dqn_cli.networks.torsos import Cnn, Mlp
from dqn_cli.networks.written_out_layers import ConvolutionLayer, LinearLayer

_Kind = TypeVar("_Kind", Linear, Convolution)


class _Chain:
    """Layers with a ReLU behind each, or behind each but the last.

    Args:
        layers: The layers, first to last.
        rectified: Whether there is one behind the last too.
    """

    def __init__(self, layers: Sequence[LinearLayer | ConvolutionLayer], rectified: bool) -> None:
        self.layers = layers
        self._rectified = len(layers) if rectified else len(layers) - 1

    def activations(self, inputs: Tensor) -> list[Tensor]:
        """Returns ``inputs`` and what each layer makes of them; the last are the outputs."""
        found = [inputs]
        for number, layer in enumerate(self.layers):
            outputs = layer.forward(found[-1])
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
            passed = self.layers[number].backward(activations[number], gradient, wanted or number > 0)
            if passed is None:
                return None
            gradient = passed
        return gradient


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
        dtype: Of the arithmetic of convolutions and torso, where it is not float32.
    """

    def __init__(
        self,
        convolutions: Sequence[Convolution],
        torso: Sequence[Linear],
        streams: Sequence[Sequence[Linear]],
        dtype: torch.dtype | None = None,
    ) -> None:
        self._dtype = dtype
        self._convolutions = _Chain([ConvolutionLayer(layer, dtype) for layer in convolutions], True)
        self._torso = _Chain([LinearLayer(layer, dtype) for layer in torso], True)
        self._streams = [_Chain([LinearLayer(layer) for layer in stream], False) for stream in streams]

    @property
    def size(self) -> int:
        """Number of parameters."""
        chains = (self._convolutions, self._torso, *self._streams)
        return sum(layer.weight.numel() + layer.bias.numel() for chain in chains for layer in chain.layers)

    def forward(self, inputs: Tensor) -> Tape:
        """Returns what the network makes of scaled ``inputs [B, S, ...]``, in float32."""
        images, inputs = [], inputs if self._dtype is None else inputs.to(self._dtype)
        if self._convolutions.layers:
            # [B, S, C, H, W]: the stack is more channels.
            images = self._convolutions.activations(inputs.flatten(1, 2) if inputs.ndim == 5 else inputs)
        features = self._torso.activations((images[-1] if images else inputs).flatten(1))
        streams = [stream.activations(features[-1].to(torch.float32)) for stream in self._streams]
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
        of_features = _total(passed)
        if of_features is None:
            return
        of_images = self._torso.backward(tape.features, of_features.to(tape.features[-1].dtype), has_images)
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


def written_out_of(
    torso: nn.Module, head: nn.Module, device: torch.device, dtype: torch.dtype | None = None
) -> WrittenOut | None:
    """Returns a torso and a head written out, or None where they are more than such layers: noisy, normalised, ...

    Args:
        torso: The torso.
        head: The head.
        device: Where they compute.
        dtype: Of the torso's arithmetic, where it is not float32.
    """
    if type(head) is not ScalarHead or not (type(torso) is Mlp or type(torso) is Cnn):
        return None
    convolutions = _rectified(torso.convolutions, Convolution) if isinstance(torso, Cnn) else []
    layers = _rectified(torso.layers, Linear)
    streams = [_stream(stream) for stream in _streams(head.streams)]
    if convolutions is None or layers is None or not streams:
        return None
    if not all(layer.covers_image for layer in convolutions):
        return None
    # On a GPU nothing of it was measured; and a recording of its kernels would hold no renewal of a copied weight.
    if (convolutions or dtype is not None) and device.type != "cpu":
        return None
    whole = [stream for stream in streams if stream is not None]
    return WrittenOut(convolutions, layers, whole, dtype) if len(whole) == len(streams) else None


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
