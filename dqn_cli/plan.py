"""What a run is going to do, said before it starts."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from dqn_cli.compose import environment_spec, network_shape, num_envs, way_to_gradients
from dqn_cli.core.errors import UsageError
from dqn_cli.core.machine import available_memory
from dqn_cli.core.types import IntArray
from dqn_cli.envs.contract import EnvironmentSpec
from dqn_cli.hardware import Hardware, free_memory, refuse_nondeterministic, resolve_hardware, total_memory
from dqn_cli.replay.buffer import least_budget
from dqn_cli.schema import RunOptions, planned_pacing
from dqn_cli.storage import history_steps, replay_memory
from dqn_cli.training.pacing import Pacing

RESERVE_BYTES = 512 * 2**20
"""Kept free beside replay and networks, for the program, the emulators, and the packing of a checkpoint."""

_COPIES_OF_PARAMETERS = 9
"""Online and target network, gradients, two moments of the optimiser; a checkpoint copies all but the gradients."""

_PASSES_OVER_PAIRS = 4
"""Numbers for each pair of atoms or quantiles that are in memory at once while a loss compares them."""

_MOST_PERIODS = 1_000_000
"""Beyond, target copies that have no closed form are not counted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of one run.

    Attributes:
        spec: The environments.
        hardware: What it computes on.
        gradients: How updates find them.
        parameters: Trainable parameters of the online network.
        network_bytes: Memory of networks, gradients, optimiser, a distributional loss, and a checkpoint's copies.
        replay_bytes: Memory of the full replay, at most.
        updates: Gradient steps of the whole run.
        target_copies: Copies of the network into the target network; None where it moves at every update, or where
            they are too many to count.
        options: The options, with a storage for frames that is no longer ``auto``.
    """

    spec: EnvironmentSpec
    hardware: Hardware
    gradients: str
    parameters: int
    network_bytes: int
    replay_bytes: int
    updates: int
    target_copies: int | None
    options: RunOptions

    def text(self, run_dir: Path) -> str:
        """Returns the plan for people."""
        return "\n".join(f"{label:>12}  {text}" for label, text in self._lines(run_dir))

    def as_dict(self, run_dir: Path) -> dict[str, Any]:
        """Returns plain values, as ``dqn plan --json`` prints them."""
        return {
            "environment": self.spec.name,
            "num_envs": self.spec.num_envs,
            "total_steps": self.options.total_steps,
            "total_frames": self.options.total_steps * self.spec.frames_per_step,
            "parameters": self.parameters,
            "network_bytes": self.network_bytes,
            "replay_capacity": self.options.replay.capacity,
            "replay_bytes": self.replay_bytes,
            "replay_storage": self.options.replay.storage,
            "updates": self.updates,
            "target_copies": self.target_copies,
            **self.hardware.as_dict(),
            "gradients": self.gradients,
            "run_dir": str(run_dir),
        }

    def _lines(self, run_dir: Path) -> list[tuple[str, str]]:
        o, spec, observation = self.options, self.spec, self.spec.observation
        frames = o.total_steps * spec.frames_per_step
        shape = "x".join(map(str, (observation.stack, *observation.shape)))
        return [
            ("environment", f"{spec.name}, {spec.num_envs} at once, {spec.num_actions} actions, observation {shape} "
             f"{observation.dtype}"),
            ("steps", f"{o.total_steps:,}" + (f" ({frames:,} frames)" if spec.frames_per_step > 1 else "")),
            ("network", f"{self.parameters:,} parameters"),
            ("replay", f"{o.replay.capacity:,} transitions, {self._memory()}"),
            ("updates", f"{self.updates:,} of {o.learning.batch_size} transitions, target network: {self._copies()}"),
            ("device", f"{self.hardware.text()}, gradients {self.gradients}"),
            ("run folder", str(run_dir)),
        ]  # fmt: skip

    def _memory(self) -> str:
        if self.options.replay.storage == "compressed":
            return f"compressed, {size(self.replay_bytes)} at most; what does not fit leaves sooner"
        place = " on the GPU" if _on_gpu(self.options.replay.storage, self.hardware) else " when full"
        return f"{size(self.replay_bytes)}{place}"

    def _copies(self) -> str:
        if self.target_copies is not None:
            return f"{self.target_copies:,} copies"
        every = getattr(self.options.learning.target, "every_steps", None)
        return "at every update" if every is None else f"a copy every {every:,} steps"


def make_plan(options: RunOptions) -> Plan:
    """Returns the plan of a run; one environment is made and closed for it, nothing large is allocated."""
    hardware = resolve_hardware(options)
    refuse_nondeterministic(options, hardware)
    spec = environment_spec(options)
    _refuse_small_budget(options, spec)
    network = network_shape(options, spec, hardware)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    pairs = options.learning.batch_size * cast("Any", options.network.head).pairs
    pacing = planned_pacing(options)
    steps = -(-options.total_steps // num_envs(options)) * num_envs(options)
    network_bytes = (_COPIES_OF_PARAMETERS * parameters + _PASSES_OVER_PAIRS * pairs) * torch.float32.itemsize
    storage = _storage(options, spec, hardware, network_bytes)
    return Plan(
        spec=spec,
        hardware=hardware,
        gradients=way_to_gradients(options, network, hardware),
        parameters=parameters,
        network_bytes=network_bytes,
        replay_bytes=replay_memory(options, spec, storage),
        updates=pacing.updates_until(steps),
        target_copies=_target_copies(options, pacing, steps),
        options=with_storage(options, storage),
    )


def with_storage(options: RunOptions, storage: str) -> RunOptions:
    """Returns the options with another ``replay.storage``."""
    return options.model_copy(update={"replay": options.replay.model_copy(update={"storage": storage})})


def _room(hardware: Hardware, network_bytes: int, storage: str = "dense") -> int | None:
    """Returns the memory that is free for the replay, which may be negative; None where that is unknown."""
    on_gpu, replay_on_gpu = hardware.device.type == "cuda", _on_gpu(storage, hardware)
    available = free_memory(hardware.device) if replay_on_gpu else available_memory()
    beside = network_bytes if on_gpu == replay_on_gpu else 0
    return None if available is None else available - RESERVE_BYTES - beside


def _on_gpu(storage: str, hardware: Hardware) -> bool:
    return storage == "device" and hardware.device.type == "cuda"


def _storage(options: RunOptions, spec: EnvironmentSpec, hardware: Hardware, network_bytes: int) -> str:
    """Returns how frames are kept.

    On a GPU where they fill at most half of its memory, whatever is free of it, so that two runs on one card agree.
    Else dense; compressed where dense ones do not fit, unless that takes even more.
    """
    if options.replay.storage != "auto":
        return options.replay.storage
    dense, compressed = (replay_memory(options, spec, storage) for storage in ("dense", "compressed"))
    card, room = total_memory(hardware.device), _room(hardware, network_bytes)
    if card is not None and options.replay.compressed_bytes is None and 2 * dense <= card:
        return "device"
    return "dense" if room is None or dense <= room or dense <= compressed else "compressed"


def _refuse_small_budget(options: RunOptions, spec: EnvironmentSpec) -> None:
    asked, history = options.replay.compressed_bytes, history_steps(options, spec)
    least = least_budget(spec.num_envs, history, spec.observation.frame_bytes)
    if asked is not None and asked < least:
        raise UsageError(
            f"replay.compressed_bytes {asked:,} may be too few for a single transition of {spec.num_envs} "
            f"environments: give at least {least:,}"
        )


def has_room(plan: Plan) -> bool:
    """Returns whether the replay fits where it is to lie; also where nobody knows how much is free there."""
    room = _room(plan.hardware, plan.network_bytes, plan.options.replay.storage)
    return room is None or plan.replay_bytes <= room


def check_memory(plan: Plan) -> None:
    """Refuses networks or a replay that will not fit, before anything is allocated.

    Raises:
        UsageError: With the figures, and a capacity that fits.
    """
    if has_room(plan):
        return
    storage = plan.options.replay.storage
    room = _room(plan.hardware, plan.network_bytes, storage) or 0
    on_host = plan.network_bytes if plan.hardware.device.type == "cpu" else 0
    if on_host and room < 0:
        raise UsageError(
            f"network: {plan.parameters:,} parameters need {size(on_host)} with target network, gradients, optimiser "
            f"and checkpoints, and {size(max(0, room + on_host))} of memory are free for it; "
            + ("free some memory first" if on_host < RESERVE_BYTES else "use a smaller network")
        )
    room = max(0, room)
    o, spec = plan.options, plan.spec
    fits = bisect_right(range(1, o.replay.capacity), room, key=lambda count: replay_memory(o, spec, storage, count))
    rounded = fits // 1000 * 1000 if fits > 10_000 else fits
    # A smaller replay would contradict these options, see schema.py.
    least = max(o.learning.batch_size, o.replay.warmup_steps, o.replay.n_step * spec.num_envs)
    advice = f"replay.capacity={max(rounded, least)} fits" if fits >= least else "free some memory first"
    if _on_gpu(storage, plan.hardware):
        advice += ", or keep it in host memory with replay.storage=dense"
    raise UsageError(
        f"replay.capacity {o.replay.capacity:,} needs {size(plan.replay_bytes)}"
        f"{' compressed' if storage == 'compressed' else ''}, and "
        f"{size(room)} of {'GPU memory' if _on_gpu(storage, plan.hardware) else 'memory'} are free for it; {advice}"
    )


def size(count: float) -> str:
    """Returns a number of bytes in the unit that people read best."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit != "MB" else f"{count:.1f} MB"
        count /= 1000
    return f"{count:.2f} GB"


def _target_copies(options: RunOptions, pacing: Pacing, steps: int) -> int | None:
    target = cast("Any", options.learning.target)
    if target.kind != "periodic":
        return None
    if target.every_updates is not None:
        return int(pacing.updates_until(steps) // target.every_updates)
    return _copies_by_steps(target.every_steps, options, pacing, steps)


def _copies_by_steps(every: int, options: RunOptions, pacing: Pacing, steps: int) -> int | None:
    """Counts the periods of ``every`` steps in which there are updates: a copy precedes the first update of each."""
    wide = -(-pacing.every_steps // num_envs(options)) * num_envs(options)  # steps between bursts, at most
    if every >= wide:  # no period between the first burst and the last is without one
        bursts = pacing.updates_until(steps) // pacing.updates
        if bursts == 0:
            return 0
        first, last = (_step_of_burst(number, options, pacing) // every for number in (1, bursts))
        return last - first + (first > 0)
    if steps // every > _MOST_PERIODS:
        return None
    starts = np.arange(every, steps + 1, every)
    ends = np.minimum(starts + every, steps + 1)
    return int(np.count_nonzero(_bursts_before(ends, options, pacing) > _bursts_before(starts, options, pacing)))


def _step_of_burst(number: int, options: RunOptions, pacing: Pacing) -> int:
    """Returns the end of the vector step with which burst ``number``, from 1 on, becomes due."""
    due = pacing.begin_steps + number * pacing.every_steps
    return -(-due // num_envs(options)) * num_envs(options)


def _bursts_before(step: IntArray, options: RunOptions, pacing: Pacing) -> IntArray:
    """Returns how many bursts of updates belong to the vector steps that end below each ``step``."""
    whole = (step - 1) // num_envs(options) * num_envs(options)
    return np.maximum(whole - pacing.begin_steps, 0) // pacing.every_steps
