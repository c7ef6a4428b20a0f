"""What ``auto`` means: a fixed table by hardware and torso."""

from __future__ import annotations

import os

import pytest
import torch

from dqn_cli import hardware
from dqn_cli.core.errors import UsageError
from dqn_cli.hardware import Hardware, has_bfloat16, refuse_nondeterministic, resolve_hardware
from dqn_cli.schema import RunOptions

MLP = {"kind": "mlp"}
CNN = {"kind": "cnn"}


@pytest.fixture
def machine(monkeypatch):
    """Pretends to be a machine."""

    def pretend(cores=2, flags=(), gpus=0, gpu_bfloat16=True):
        monkeypatch.setattr(hardware, "available_cores", lambda: cores)
        monkeypatch.setattr(hardware, "cpu_flags", lambda: set(flags))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: gpu_bfloat16)

    return pretend


def resolved(torso: dict[str, str], **keys: object) -> Hardware:
    return resolve_hardware(RunOptions.model_validate({"network": {"torso": torso}, **keys}))


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class TestAuto:
    @pytest.mark.parametrize(
        ("torso", "facts", "expected"),
        [
            (MLP, {"cores": 16, "flags": ["avx512_bf16"]}, Hardware(CPU, 1, "float32", "contiguous")),
            (CNN, {"cores": 2}, Hardware(CPU, 2, "float32", "channels_last")),
            (CNN, {"cores": 64}, Hardware(CPU, 8, "float32", "channels_last")),
            (CNN, {"flags": ["fpu", "amx_bf16"]}, Hardware(CPU, 2, "bfloat16", "channels_last")),
            (CNN, {"flags": ["avx512_bf16"]}, Hardware(CPU, 2, "bfloat16", "channels_last")),
            (CNN, {"flags": ["asimd", "bf16"]}, Hardware(CPU, 2, "bfloat16", "channels_last")),
            (CNN, {"flags": ["avx512f"]}, Hardware(CPU, 2, "float32", "channels_last")),
            (MLP, {"gpus": 1}, Hardware(CUDA, 1, "float32", "contiguous")),
            (CNN, {"gpus": 1, "cores": 16}, Hardware(CUDA, 1, "bfloat16", "channels_last")),
            (CNN, {"gpus": 1, "gpu_bfloat16": False}, Hardware(CUDA, 1, "float32", "channels_last")),
        ],
    )
    def test_table(self, machine, torso, facts, expected):
        machine(**facts)
        assert resolved(torso) == expected

    @pytest.mark.cuda
    def test_a_gpu_is_taken(self):
        assert resolved(CNN).device.type == "cuda"


class TestAsked:
    def test_what_is_asked_for_is_taken(self, machine):
        machine(cores=16, flags=["amx_bf16"], gpus=2)
        keys = {"device": "cpu", "precision": "float32", "threads": 5, "memory_format": "channels_last"}
        assert resolved(CNN, **keys) == Hardware(CPU, 5, "float32", "channels_last")
        keys = {"device": "cuda:1", "precision": "bfloat16", "threads": 3, "memory_format": "contiguous"}
        assert resolved(CNN, **keys) == Hardware(torch.device("cuda:1"), 3, "bfloat16", "contiguous")

    @pytest.mark.parametrize("device", ["cuda", "cuda:0"])
    def test_a_gpu_that_is_absent_is_refused(self, machine, device):
        machine(gpus=0)
        with pytest.raises(UsageError, match=rf"device {device}: .*no CUDA GPU.*--device cpu"):
            resolved(MLP, device=device)

    def test_a_gpu_beyond_the_last_is_refused(self, machine):
        machine(gpus=2)
        with pytest.raises(UsageError, match="device cuda:2: there are 2 CUDA GPUs, cuda:0 to cuda:1"):
            resolved(MLP, device="cuda:2")


def test_bfloat16_of_a_cpu_is_not_that_of_its_gpu(machine):
    machine(flags=[], gpus=1)
    assert has_bfloat16(CUDA)
    assert not has_bfloat16(CPU)


def test_threads_are_applied():
    before = torch.get_num_threads()
    try:
        Hardware(CPU, 2, "float32", "contiguous").apply()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_deterministic_kernels_are_asked_of_cuda_alone(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert not resolve_hardware(RunOptions(device="cpu", deterministic=True)).deterministic
    hardware = Hardware(torch.device("cuda"), 1, "float32", "contiguous", deterministic=True)
    try:
        hardware.apply()
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        Hardware(CPU, 1, "float32", "contiguous").apply()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_pool_without_a_deterministic_gradient_is_refused():
    pooled = RunOptions.model_validate({"network": {"torso": {"kind": "impala", "pool": 6}}})
    plain = RunOptions.model_validate({"network": {"torso": {"kind": "impala"}}})
    deterministic = Hardware(CUDA, 1, "float32", "channels_last", deterministic=True)
    with pytest.raises(UsageError, match=r"deterministic: .*network\.torso\.pool"):
        refuse_nondeterministic(pooled, deterministic)
    refuse_nondeterministic(plain, deterministic)
    refuse_nondeterministic(pooled, Hardware(CUDA, 1, "float32", "channels_last"))
