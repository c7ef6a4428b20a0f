"""The schema of a config: one model a section, with the kinds that the tables in ``build.py`` offer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

from pydantic import BeforeValidator, Field, field_validator, model_validator

from dqn_cli.agent.bootstrap import GreedyOptions, RescalingOptions
from dqn_cli.agent.explorer import EpsilonGreedyOptions
from dqn_cli.agent.optimizers import AdamOptions
from dqn_cli.agent.resets import ResetOptions
from dqn_cli.agent.targets import PeriodicOptions
from dqn_cli.build import (
    AUGMENTATIONS,
    BOOTSTRAPS,
    ENVIRONMENTS,
    EXPLORERS,
    HEADS,
    OBJECTIVES,
    OPTIMIZERS,
    RATE_SCHEDULES,
    SAMPLERS,
    TARGETS,
    TORSOS,
)
from dqn_cli.core.kinds import choice
from dqn_cli.core.options import Count, Fraction, Options, PositiveCount, PositiveFloat, as_tuple
from dqn_cli.envs.gymnasium import GymnasiumOptions
from dqn_cli.networks.heads import ScalarOptions
from dqn_cli.networks.noisy import NoisyOptions
from dqn_cli.networks.torsos import MlpOptions
from dqn_cli.replay.samplers import UniformOptions

if TYPE_CHECKING:  # the tables decide; what is common to all kinds is that they are options
    EnvironmentChoice: TypeAlias = Options
    TorsoChoice: TypeAlias = Options
    HeadChoice: TypeAlias = Options
    SamplerChoice: TypeAlias = Options
    BootstrapChoice: TypeAlias = Options
    OptimizerChoice: TypeAlias = Options
    TargetChoice: TypeAlias = Options
    ExplorerChoice: TypeAlias = Options
    AugmentationChoice: TypeAlias = Options
    RateScheduleChoice: TypeAlias = Options
else:
    EnvironmentChoice = choice(ENVIRONMENTS)
    TorsoChoice = choice(TORSOS)
    HeadChoice = choice(HEADS)
    SamplerChoice = choice(SAMPLERS)
    BootstrapChoice = choice(BOOTSTRAPS)
    OptimizerChoice = choice(OPTIMIZERS)
    TargetChoice = choice(TARGETS)
    ExplorerChoice = choice(EXPLORERS)
    AugmentationChoice = choice(AUGMENTATIONS)
    RateScheduleChoice = choice(RATE_SCHEDULES)


Augmentations = Annotated[tuple[AugmentationChoice, ...], BeforeValidator(as_tuple), Field(max_length=20)]
Threads = Annotated[PositiveCount, Field(le=1_024)]


SMALL_EPSILON = 0.1
"""Beside noisy layers; above it most of what a noisy network chooses over an episode is lost among random actions."""


class StopOptions(Options):
    """Ends training before `total_steps`."""

    return_mean: float = Field(description="Mean return that the latest training episodes must reach.")
    window: PositiveCount = Field(100, description="Number of latest episodes.")


class NetworkOptions(Options):
    """The Q-network."""

    torso: TorsoChoice = Field(MlpOptions(), description="From observations to features.")
    head: HeadChoice = Field(ScalarOptions(), description="From features to action values.")
    noisy: NoisyOptions | None = Field(None, description="Noise on the weights of the head; null: none.")


class ReplayOptions(Options):
    """Experience replay."""

    capacity: PositiveCount = Field(100_000, le=1_000_000_000, description="Most transitions kept.")
    warmup_steps: Count = Field(1_000, description="Agent steps of uniformly random play before learning begins.")
    n_step: PositiveCount = Field(1, description="Rewards summed before the bootstrap.")
    reward_clip: PositiveFloat | None = Field(
        None, description="Each reward is clipped to [-reward_clip, reward_clip] in replay; null: not at all."
    )
    storage: Literal["auto", "dense"] = Field("auto", description="How frames are kept.")
    sampler: SamplerChoice = Field(UniformOptions(), description="How batches are drawn.")


class LearningOptions(Options):
    """Updates."""

    batch_size: PositiveCount = Field(64, description="Transitions in a batch.")
    gamma: Fraction = Field(0.99, description="Discount of one agent step.")
    update_every_steps: PositiveCount = Field(4, description="Agent steps over all environments between bursts.")
    updates: PositiveCount = Field(1, description="Gradient steps in a burst.")
    bootstrap: BootstrapChoice = Field(GreedyOptions(), description="What targets are built on.")
    value_rescaling: RescalingOptions | None = Field(None, description="Learn on a compressed scale; null: as it is.")
    loss: Literal["auto", "huber", "squared", "cross_entropy", "quantile_huber"] = Field(
        "auto", description="auto follows the head."
    )
    augmentation: Augmentations = Field((), description="Changes to sampled observations, in order.")
    max_grad_norm: PositiveFloat | None = Field(10.0, description="Limit of the gradient's norm; null: none.")
    optimizer: OptimizerChoice = Field(AdamOptions(), description="Optimiser.")
    lr_schedule: RateScheduleChoice | None = Field(None, description="How the step size falls; null: not at all.")
    target: TargetChoice = Field(
        PeriodicOptions(every_updates=250), description="How the target network follows the online network."
    )
    resets: ResetOptions | None = Field(None, description="Weights that begin anew at intervals; null: never.")


class EvaluationOptions(Options):
    """Evaluations while training."""

    every_steps: PositiveCount | None = Field(10_000, description="Agent steps between evaluations; null: none.")
    episodes: PositiveCount = Field(20, description="Episodes of an evaluation, a fixed set, all finished.")
    epsilon: Fraction = Field(0.0, description="Probability of a random action.")


class CheckpointOptions(Options):
    """Checkpoints."""

    every_steps: PositiveCount = Field(10_000, description="Agent steps between checkpoints.")
    keep: PositiveCount = Field(2, description="Checkpoints kept.")
    keep_best: bool = Field(True, description="Keep the weights of the best evaluation.")


class RunOptions(Options):
    """One experiment."""

    seed: Count = Field(0, le=2**63 - 1, description="Seed of everything random in the run.")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="Arithmetic of the torso.")
    threads: Literal["auto"] | Threads = Field("auto", description="Threads of the learner.")
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field("auto", description="Layout of images.")
    deterministic: bool = Field(False, description="CUDA only: kernels that give the same bits each time.")
    total_steps: PositiveCount = Field(50_000, le=10**15, description="Agent steps over all environments.")
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
            raise ValueError("; ".join(problems))
        return self


def _conflicts(o: RunOptions) -> Iterator[str]:
    """Returns each combination without a meaning, with its reason and a way out."""
    yield from _of_sizes(o)
    yield from _of_agents(o)
    torso = cast("Any", o.network.torso).kind
    if torso == "mlp":
        if o.precision == "bfloat16":
            yield "precision bfloat16 serves convolutional torsos; with torso mlp use float32 or auto"
        if o.memory_format == "channels_last":
            yield "memory_format channels_last serves convolutional torsos; with torso mlp use contiguous or auto"
        for augmentation in o.learning.augmentation:
            kind = cast("Any", augmentation).kind
            if kind == "random_shift":
                yield (
                    "learning.augmentation random_shift moves the pixels of images, and torso mlp takes plain numbers: "
                    "leave it out, or use a convolutional torso"
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
    if replay.n_step * num_envs > replay.capacity:
        yield (
            f"replay.n_step {replay.n_step} times env.num_envs {num_envs} is above replay.capacity "
            f"{replay.capacity}: the replay would not hold one window of each environment"
        )


def _of_agents(o: RunOptions) -> Iterator[str]:
    learning = o.learning
    head, bootstrap = cast("Any", o.network.head).kind, cast("Any", learning.bootstrap).kind
    if learning.loss != "auto" and learning.loss not in OBJECTIVES[head]:
        yield f"learning.loss {learning.loss} has no meaning for head {head}; use {', '.join(OBJECTIVES[head])}"
    if bootstrap == "munchausen" and head == "categorical":
        yield (
            "learning.bootstrap munchausen has no meaning for head categorical: its bonus and entropy would move "
            "returns beyond the atoms, and no source says how; use a scalar, quantile or implicit_quantile head"
        )
    if learning.value_rescaling is not None:
        if head != "scalar":
            yield (
                f"learning.value_rescaling has no meaning for head {head}: the mean of a compressed return ranks "
                "actions otherwise than the return's mean; use a scalar head"
            )
        if bootstrap == "munchausen":
            yield (
                "learning.value_rescaling has no meaning with learning.bootstrap munchausen: its temperature is one "
                "of returns as they are; use greedy or double"
            )
    end, off = (getattr(o.exploration, name, None) for name in ("end", "off_after_steps"))
    goes_off = off is not None and off < o.total_steps
    if o.network.noisy is not None and end is not None and end > SMALL_EPSILON and not goes_off:
        yield (
            f"network.noisy explores by its noise, and exploration.end {end:g} keeps epsilon from ever "
            f"getting small: set exploration.end to {SMALL_EPSILON:g} or less, or exploration.off_after_steps"
        )
