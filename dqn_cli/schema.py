"""The schema of a config: its sections together, and which of their values have no meaning beside each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, cast

from pydantic import Field, field_validator, model_validator

from dqn_cli.agent.explorer import EpsilonGreedyOptions
from dqn_cli.build import OBJECTIVES
from dqn_cli.core.options import Options, PositiveCount, Seed
from dqn_cli.envs.gymnasium import GymnasiumOptions
from dqn_cli.sections import (
    CheckpointOptions,
    EnvironmentChoice,
    EvaluationOptions,
    ExplorerChoice,
    LearningOptions,
    NetworkOptions,
    ReplayOptions,
    StopOptions,
    Threads,
)
from dqn_cli.training.pacing import Pacing

SMALL_EPSILON = 0.1
"""Beside noisy layers; above it most of what a noisy network chooses over an episode is lost among random actions."""


class RunOptions(Options):
    """One experiment."""

    seed: Seed = Field(0, description="Seed of everything random in the run.")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="Arithmetic of the torso.")
    threads: Literal["auto"] | Threads = Field("auto", description="Threads of the learner.")
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field("auto", description="Layout of images.")
    deterministic: bool = Field(False, description="CUDA only: kernels that give the same bits each time.")
    cuda_graphs: bool = Field(
        False,
        description="CUDA only: record the kernels of acting and of gradients once, and start them as one.",
    )
    total_steps: PositiveCount = Field(50_000, description="Agent steps over all environments.")
    stop: StopOptions | None = Field(None, description="Ends training early; null: never.")
    env: EnvironmentChoice = Field(GymnasiumOptions(), description="Environments.")
    network: NetworkOptions = Field(NetworkOptions(), description="The Q-network.")
    replay: ReplayOptions = Field(ReplayOptions(), description="Experience replay.")
    learning: LearningOptions = Field(LearningOptions(), description="Updates.")
    exploration: ExplorerChoice = Field(EpsilonGreedyOptions(), description="Exploration.")
    evaluation: EvaluationOptions = Field(EvaluationOptions(), description="Evaluations while training.")
    checkpoint: CheckpointOptions = Field(CheckpointOptions(), description="Checkpoints.")

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
            raise ValueError(f"must be auto, cpu, cuda or cuda:N, got {device!r}")
        return device

    @model_validator(mode="after")
    def _meaningful(self) -> RunOptions:
        problems = list(_conflicts(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self


def learning_begins(o: RunOptions) -> int:
    """Returns the agent step from which updates are counted: the warm-up, and one full window everywhere."""
    num_envs: int = cast("Any", o.env).num_envs
    return max(o.replay.warmup_steps, num_envs * o.replay.n_step)


def planned_pacing(o: RunOptions) -> Pacing:
    """Returns when a run learns."""
    return Pacing(learning_begins(o), o.learning.update_every_steps, o.learning.updates)


def _conflicts(o: RunOptions) -> Iterator[str]:
    """Returns each combination without a meaning, with its reason and a way out."""
    yield from _of_sizes(o)
    yield from _of_agents(o)
    torso = cast("Any", o.network.torso)
    if not torso.convolutional:
        if o.precision == "bfloat16":
            yield f"precision bfloat16 serves convolutional torsos; with torso {torso.kind} use float32 or auto"
        if o.memory_format == "channels_last":
            yield (
                f"memory_format channels_last serves convolutional torsos; with torso {torso.kind} use contiguous or "
                "auto"
            )
        for augmentation in o.learning.augmentation:
            kind = cast("Any", augmentation).kind
            if kind == "random_shift":
                yield (
                    f"learning.augmentation random_shift moves pixels of images, and torso {torso.kind} takes plain "
                    "numbers: leave it out, or use a convolutional torso"
                )


def _of_sizes(o: RunOptions) -> Iterator[str]:
    replay, learning = o.replay, o.learning
    num_envs = cast("Any", o.env).num_envs
    if learning.batch_size > replay.capacity:
        yield (
            f"learning.batch_size {learning.batch_size} is above replay.capacity {replay.capacity}: "
            "a batch could never be full of different transitions"
        )
    if replay.warmup_steps > replay.capacity:
        yield (
            f"replay.warmup_steps {replay.warmup_steps} is above replay.capacity {replay.capacity}: "
            "the first of those steps would be forgotten before learning begins"
        )
    if replay.warmup_steps >= o.total_steps:
        yield (
            f"replay.warmup_steps {replay.warmup_steps} is not below total_steps {o.total_steps}: "
            "nothing would ever be learnt"
        )
    if replay.storage in ("dense", "device") and replay.compressed_bytes is not None:
        yield (
            f"replay.compressed_bytes {replay.compressed_bytes} has no meaning with replay.storage {replay.storage}: "
            "use compressed or auto, or leave it out"
        )
    if replay.n_step * num_envs > replay.capacity:
        yield (
            f"replay.n_step {replay.n_step} times env.num_envs {num_envs} is above replay.capacity "
            f"{replay.capacity}: the replay would not hold one window of each environment"
        )


def _of_agents(o: RunOptions) -> Iterator[str]:
    learning = o.learning
    head, bootstrap = cast("Any", o.network.head), cast("Any", learning.bootstrap)
    losses = OBJECTIVES[head.kind]
    if learning.loss != "auto" and learning.loss not in losses:
        yield f"learning.loss {learning.loss} has no meaning for head {head.kind}; use {', '.join(losses)}"
    if bootstrap.adds_to_rewards and head.kind == "categorical":
        yield (
            f"learning.bootstrap {bootstrap.kind} has no meaning for head categorical: what it adds to rewards moves "
            "returns beyond the atoms, and no source says how; use a scalar, quantile or implicit_quantile head"
        )
    if learning.value_rescaling is not None:
        if head.distributional:
            yield (
                f"learning.value_rescaling has no meaning for head {head.kind}: the mean of a compressed return ranks "
                "actions otherwise than the return's mean; use a scalar head"
            )
        if bootstrap.adds_to_rewards:
            yield (
                f"learning.value_rescaling has no meaning with learning.bootstrap {bootstrap.kind}: what that adds to "
                "rewards is of returns as they are; use greedy or double"
            )
    updates = planned_pacing(o).updates_until(o.total_steps)
    if learning.resets is not None and 2 * learning.resets.every_updates > updates:
        yield (
            f"learning.resets.every_updates {learning.resets.every_updates} would never reset: as many updates must "
            f"follow a reset, and the run has {updates}; use at most {updates // 2}, or leave resets out"
        )
    end, off = (getattr(o.exploration, name, None) for name in ("end", "off_after_steps"))
    goes_off = off is not None and off < o.total_steps
    if o.network.noisy is not None and end is not None and end > SMALL_EPSILON and not goes_off:
        yield (
            f"network.noisy explores by its noise, and exploration.end {end:g} keeps epsilon from ever "
            f"getting small: set exploration.end to {SMALL_EPSILON:g} or less, or exploration.off_after_steps"
        )
