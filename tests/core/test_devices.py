"""Copies between host and device; what needs a GPU is in ``test_cuda.py``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dqn_cli.core import devices
from dqn_cli.core.devices import copy_into, to_device, to_host

CPU = torch.device("cpu")
META = torch.device("meta")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32, np.float64, np.bool_])
def test_values_arrive_as_they_are(dtype):
    values = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    moved = to_device(values, CPU)
    assert moved.numpy().dtype == dtype
    np.testing.assert_array_equal(moved.numpy(), values)


def test_on_a_cpu_nothing_is_copied():
    values = np.zeros(4, np.float32)
    moved = to_device(values, CPU)
    values[2] = 7.0
    assert moved.tolist() == [0.0, 0.0, 7.0, 0.0]
    assert to_device(moved, CPU) is moved
    assert to_host(values) is values


def test_another_dtype():
    assert to_device(np.array([3, 4], np.int32), CPU, torch.int64).dtype == torch.int64
    assert to_device(torch.tensor([0.1], dtype=torch.float64), CPU, torch.float32).tolist() == [np.float32(0.1)]


def test_a_copy_into_what_is_there():
    there = torch.zeros(3, 2)
    copy_into(there[1:], np.array([[1, 2], [3, 4]], np.float32))
    assert there.tolist() == [[0, 0], [1, 2], [3, 4]]
    with pytest.raises(RuntimeError):
        copy_into(there[1:], np.zeros((3, 2), np.float32))


def test_back_to_the_host():
    values = to_host(torch.tensor([1.5, 2.5], requires_grad=True))
    assert isinstance(values, np.ndarray)
    assert values.tolist() == [1.5, 2.5]


def test_only_what_leaves_the_host_for_a_gpu_is_page_locked(monkeypatch):
    locked: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        locked.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    host = torch.zeros(2)
    for device in (CPU, META):
        assert devices.locked(host, device) is host
    assert not locked
    assert devices.locked(host, torch.device("cuda")) is host
    assert locked == [host]
    devices.locked(host.to(META), torch.device("cuda"))
    assert len(locked) == 1
