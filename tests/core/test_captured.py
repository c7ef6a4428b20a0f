"""Recorded functions, with a recorder that needs no GPU; what CUDA graphs do is in ``test_cuda.py``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dqn_cli.core.captured import Captured, Tensors
from tests.recording import repeating


def stale(function, generators):
    outputs = tuple(output + 1.0 for output in function())
    return outputs, lambda: None


def other_numbers(function, generators):
    """A recording that draws behind its warm-up, not where the stream stands."""
    function()
    outputs = tuple(output.clone() for output in function())
    return outputs, lambda: None


def not_finite(function, generators):
    outputs = tuple(output * float("nan") for output in function())
    return outputs, lambda: None


def refusing(function, generators):
    function()
    raise RuntimeError("operation not permitted when stream is capturing\nand much more")


class Subject:
    """Draws, counts its calls on the device and on the host, and answers."""

    def __init__(self) -> None:
        self.generator = torch.Generator()
        self.calls = 0
        self.counter = torch.zeros(())

    def __call__(self, values: Tensor) -> Tensors:
        self.calls += 1
        self.counter += 1
        drawn = torch.rand(3, generator=self.generator)
        return 2.0 * values + drawn, values.argmax()

    def captured(self, record, told: list[str]) -> Captured:
        return Captured(self, record, [self.counter], [self.generator], told.append)


def results(subject: Callable[[Tensor], Tensors]) -> list[list[float]]:
    return [subject(torch.full((3,), float(number)))[0].tolist() for number in range(5)]


def test_a_recording_answers_as_the_function_does():
    """Numbers, random numbers and what changes beside them, the first call included."""
    told: list[str] = []
    plain, subject = Subject(), Subject()
    captured = subject.captured(repeating, told)
    assert results(captured) == results(plain)
    assert subject.counter == plain.counter == 5
    assert torch.equal(subject.generator.get_state(), plain.generator.get_state())
    assert told == []
    assert not captured.plain


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (stale, "output 0 of the recording is off by "),
        (other_numbers, "output 0 of the recording is off by "),
        (not_finite, "output 0 of the recording is finite where it should not be, or the other way round"),
        (refusing, "it cannot be recorded: operation not permitted when stream is capturing;"),
    ],
)
def test_one_that_does_not_is_not_used_and_that_is_said_once(record, said):
    told: list[str] = []
    plain, subject = Subject(), Subject()
    captured = subject.captured(record, told)
    assert results(captured) == results(plain)
    assert subject.counter == plain.counter == 5
    assert captured.plain
    (message,) = told
    assert message.startswith(said)
    assert message.endswith("; kernels are started one by one")
    assert "\n" not in message


def test_after_the_first_call_the_function_is_not_called():
    told: list[str] = []
    subject = Subject()

    def record(function, generators):
        outputs = tuple(output.clone() for output in function())
        return outputs, lambda: None

    captured = Captured(lambda values: (values + subject(values)[1],), record, tell=told.append)
    captured(torch.ones(3))
    calls = subject.calls
    captured(torch.ones(3))
    assert subject.calls == calls
    assert told == []


def test_inputs_are_copied_to_where_the_recording_reads():
    captured = Captured(lambda values: (values.clone(),), repeating)
    values = torch.ones(2)
    captured(values)
    values.fill_(7.0)
    assert captured(torch.full((2,), 3.0))[0].tolist() == [3.0, 3.0]
    assert values.tolist() == [7.0, 7.0]


def test_inputs_of_another_shape_are_refused():
    captured = Captured(lambda values: (values.clone(),), repeating)
    captured(torch.ones(3))
    with pytest.raises(ValueError, match=r"recorded with \(3,\), called with \(1,\)"):
        captured(torch.ones(1))


def test_outputs_of_another_form_are_told():
    told: list[str] = []
    for wrong in ((torch.ones(3), torch.ones(1)), (torch.ones(2),)):
        Captured(lambda values: (values.clone(),), lambda *_, wrong=wrong: (wrong, lambda: None), tell=told.append)(
            torch.ones(3)
        )
    assert [message.partition(";")[0] for message in told] == [
        "the recording has 2 outputs for 1",
        "output 0 of the recording has shape (2,) for (3,)",
    ]
