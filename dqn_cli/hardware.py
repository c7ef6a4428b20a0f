"""What a run computes on: fixed rules from the hardware and the torso, never a timing.

A timing would make two runs of one config differ in their bits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, cast

import torch

from dqn_cli.core.errors import UsageError
from dqn_cli.core.machine import available_cores, cpu_flags, keep_freed_memory
from dqn_cli.schema import RunOptions

MAX_LEARNER_THREADS = 8
"""Convolutions of a batch of 32 hardly have work for more."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The resolved choices of a run.

    Attributes:
        device: Where networks live.
        threads: Threads of torch's arithmetic on the CPU.
        precision: ``float32`` or ``bfloat16``, of the torso.
        memory_format: ``contiguous`` or ``channels_last``.
        deterministic: Whether CUDA kernels must give the same bits each time; a CPU always does.
        emulator_threads: Threads in which games step while the learner works; None where there are no emulators.
    """

    device: torch.device
    threads: int
    precision: str
    memory_format: str
    deterministic: bool = False
    emulator_threads: int | None = None

    @property
    def one_thread(self) -> bool:
        """Whether the learner's thread does all of its arithmetic itself."""
        return self.device.type == "cpu" and self.threads == 1

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "device": str(self.device),
            "threads": self.threads,
            "emulator_threads": self.emulator_threads,
            "precision": self.precision,
            "memory_format": self.memory_format,
        }

    def text(self) -> str:
        """Returns the choices for people."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.emulator_threads is not None:
            threads += f" and {self.emulator_threads} of emulators"
        return f"{self.device}, {threads}, {self.precision}, {self.memory_format.replace('_', ' ')}"

    def apply(self) -> None:
        """Sets what holds for the whole process: threads, memory, and whether kernels must be deterministic."""
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        if self.deterministic:
            # cuBLAS reads this when its first handle is made, and is not deterministic without it.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Asked first: to set it imports torch's compiler, which takes a second.
        if self.deterministic != torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(self.deterministic)


def resolve_hardware(options: RunOptions) -> Hardware:
    """Returns what ``auto`` means here.

    Raises:
        UsageError: A CUDA GPU is asked for and absent.
    """
    device = _device(options.device)
    convolutional: bool = cast("Any", options.network.torso).convolutional
    precision = options.precision
    if precision == "auto":
        precision = "bfloat16" if convolutional and has_bfloat16(device) else "float32"
    if options.threads != "auto":
        threads = options.threads
    else:
        threads = min(available_cores(), MAX_LEARNER_THREADS) if convolutional and device.type == "cpu" else 1
    memory_format = options.memory_format
    if memory_format == "auto":
        memory_format = "channels_last" if convolutional else "contiguous"
    deterministic = options.deterministic and device.type == "cuda"
    emulator_threads = getattr(options.env, "emulator_threads", None)
    return Hardware(device, threads, precision, memory_format, deterministic, emulator_threads)


def refuse_nondeterministic(options: RunOptions, hardware: Hardware) -> None:
    """Refuses to train with what has no deterministic gradient, where one is asked for.

    Raises:
        UsageError: With the option that has none.
    """
    if hardware.deterministic and getattr(options.network.torso, "pool", None) is not None:
        raise UsageError(
            "deterministic: torch has no deterministic gradient of network.torso.pool on CUDA; leave one of them out"
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(
                f"device {name}: this machine offers no CUDA GPU to torch {torch.__version__}; use --device cpu"
            )
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise UsageError(f"device {name}: there are {count} CUDA GPUs, cuda:0 to cuda:{count - 1}")
    return device


def total_memory(device: torch.device) -> int | None:
    """Returns the bytes of a GPU's memory, whatever is free of it; None for a CPU."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


def free_memory(device: torch.device) -> int | None:
    """Returns the bytes of a GPU's memory that are free; None for a CPU."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def has_bfloat16(device: torch.device) -> bool:
    """Returns whether the device multiplies bfloat16 matrices natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    flags = cpu_flags()
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
