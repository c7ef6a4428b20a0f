"""The sections of a config, a model each, with the kinds that the tables in ``build.py`` offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from dqn_cli.agent.bootstrap import GreedyOptions, RescalingOptions
from dqn_cli.agent.optimizers import AdamOptions
from dqn_cli.agent.resets import ResetOptions
from dqn_cli.agent.targets import PeriodicOptions
from dqn_cli.build import (
    AUGMENTATIONS,
    BOOTSTRAPS,
    ENVIRONMENTS,
    EXPLORERS,
    HEADS,
    OPTIMIZERS,
    RATE_SCHEDULES,
    SAMPLERS,
    TARGETS,
    TORSOS,
)
from dqn_cli.core.kinds import choice
from dqn_cli.core.options import Count, Fraction, Options, PositiveCount, PositiveFloat, as_tuple
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
    storage: Literal["auto", "dense", "compressed", "device"] = Field(
        "auto",
        description="How frames are kept: device is dense beside the network, with items and priorities; auto takes it "
        "on a GPU where that fills at most half of its memory, else dense where that fits, else compressed.",
    )
    compressed_bytes: PositiveCount | None = Field(
        None, description="Most memory of compressed frames; null: 28% of what they take dense."
    )
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
