"""Functions of tensors whose kernels are recorded once, and then started as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dqn_cli.core.rounding import deviation

Tensors = tuple[Tensor, ...]
Recorder = Callable[[Callable[[], Tensors], Sequence[torch.Generator]], tuple[Tensors, Callable[[], None]]]
"""(function, generators that it draws from) -> (its outputs, what fills them anew by doing all of it once more)."""

WARM_UPS = 3
"""Calls before a recording, in which libraries make their choices and take their memory."""


class Captured:
    """Does what ``function`` does, from a recording of its kernels (Nguyen et al. 2021, "CUDA graphs" in PyTorch).

    The first call takes the plain way and the recorded one, from the same state and the same random numbers, and
    compares them. Where they differ, or recording fails, the plain way is taken from then on, and it is said.

    Args:
        function: Of tensors on a device. It must do the same for all values: what the host gives it, but for the values
            of its arguments, is recorded as it is at the first call, and so is which memory it reads.
        record: Makes the recording.
        changes: What it changes beside its outputs.
        generators: What it draws from, on the device.
        tell: Is told why there is no recording.
    """

    def __init__(
        self,
        function: Callable[..., Tensors],
        record: Recorder,
        changes: Sequence[Tensor] = (),
        generators: Sequence[torch.Generator] = (),
        tell: Callable[[str], None] = print,
    ) -> None:
        self._function, self._record, self._tell = function, record, tell
        self._changes, self._generators = list(changes), list(generators)
        self._inputs: Tensors = ()
        self._outputs: Tensors = ()
        self._replay: Callable[[], None] | None = None
        self.plain = False

    def __call__(self, *inputs: Tensor) -> Tensors:
        """Returns what ``function`` returns for ``inputs``, shaped as those of the first call.

        The memory of what is returned is that of the next call too.

        Raises:
            ValueError: They have other shapes.
        """
        if self.plain:
            return self._function(*inputs)
        if self._replay is None:
            return self._first(inputs)
        self._take(inputs)
        self._replay()
        return self._outputs

    def _first(self, inputs: Tensors) -> Tensors:
        before = self._state()
        expected = tuple(output.detach().clone() for output in self._function(*inputs))
        after = self._state()
        try:
            self._load(before)
            self._inputs = tuple(value.clone() for value in inputs)
            self._outputs, self._replay = self._record(lambda: self._function(*self._inputs), self._generators)
            self._load(before)
            self._replay()
            problem = _difference(self._outputs, expected)
        except RuntimeError as failure:
            problem = f"it cannot be recorded: {str(failure).partition(chr(10))[0]}"
        if problem is None:
            return self._outputs
        self._tell(f"{problem}; kernels are started one by one")
        self.plain, self._replay, self._inputs, self._outputs = True, None, (), ()
        self._load(after)
        return expected

    def _take(self, inputs: Tensors) -> None:
        for ours, value in zip(self._inputs, inputs, strict=True):
            if ours.shape != value.shape:
                raise ValueError(f"recorded with {tuple(ours.shape)}, called with {tuple(value.shape)}")
            ours.copy_(value)

    def _state(self) -> tuple[list[Tensor], list[Tensor]]:
        return [tensor.clone() for tensor in self._changes], [one.get_state() for one in self._generators]

    @torch.no_grad()
    def _load(self, state: tuple[list[Tensor], list[Tensor]]) -> None:
        for tensor, value in zip(self._changes, state[0], strict=True):
            tensor.copy_(value)
        for generator, value in zip(self._generators, state[1], strict=True):
            generator.set_state(value)


def _difference(found: Tensors, expected: Tensors) -> str | None:
    """Returns in what two ways to the same outputs differ, or None."""
    if len(found) != len(expected):
        return f"the recording has {len(found)} outputs for {len(expected)}"
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        if problem := deviation(ours, theirs):
            return f"output {number} of the recording {problem}"
    return None


def cuda_graph(device: torch.device) -> Recorder:
    """Returns what records on a GPU."""

    def record(
        function: Callable[[], Tensors], generators: Sequence[torch.Generator]
    ) -> tuple[Tensors, Callable[[], None]]:
        with torch.cuda.device(device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    function()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            for generator in generators:  # so that each replay draws on from where the stream stands
                graph.register_generator_state(generator)
            with torch.cuda.graph(graph):
                outputs = function()
        return outputs, graph.replay

    return record
