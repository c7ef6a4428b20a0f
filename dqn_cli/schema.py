"""The schema of a config: one model a section, with the kinds that the tables in ``build.py`` offer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from dqn_cli.agent.bootstrap import GreedyOptions
from dqn_cli.agent.explorer import EpsilonGreedyOptions
from dqn_cli.agent.optimizers import AdamOptions, LinearRateOptions
from dqn_cli.agent.targets import PeriodicOptions
from dqn_cli.build import (
    BOOTSTRAPS,
    ENVIRONMENTS,
    EXPLORERS,
    HEADS,
    OBJECTIVES,
    OPTIMIZERS,
    SAMPLERS,
    TARGETS,
    TORSOS,
)
from dqn_cli.core.kinds import choice
from dqn_cli.core.options import Count, Fraction, Options, PositiveCount, PositiveFloat
from dqn_cli.envs.gymnasium import GymnasiumOptions
from dqn_cli.networks.heads import ScalarOptions
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
else:
    EnvironmentChoice = choice(ENVIRONMENTS)
    TorsoChoice = choice(TORSOS)
    HeadChoice = choice(HEADS)
    SamplerChoice = choice(SAMPLERS)
    BootstrapChoice = choice(BOOTSTRAPS)
    OptimizerChoice = choice(OPTIMIZERS)
    TargetChoice = choice(TARGETS)
    ExplorerChoice = choice(EXPLORERS)


Threads = Annotated[PositiveCount, Field(le=1_024)]


class StopOptions(Options):
    """Ends training before `total_steps`."""

    return_mean: float = Field(description="Mean return that the latest training episodes must reach.")
    window: PositiveCount = Field(100, description="Number of latest episodes.")


class NetworkOptions(Options):
    """The Q-network."""

    torso: TorsoChoice = Field(MlpOptions(), description="From observations to features.")
    head: HeadChoice = Field(ScalarOptions(), description="From features to action values.")


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
    loss: Literal["auto", "huber", "squared"] = Field("auto", description="auto follows the head.")
    max_grad_norm: PositiveFloat | None = Field(10.0, description="Limit of the gradient's norm; null: none.")
    optimizer: OptimizerChoice = Field(AdamOptions(), description="Optimiser.")
    lr_schedule: LinearRateOptions | None = Field(None, description="How the step size falls; null: not at all.")
    target: TargetChoice = Field(
        PeriodicOptions(every_updates=250), description="How the target network follows the online network."
    )


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


def _conflicts(o: RunOptions) -> list[str]:
    """Returns the combinations that have no meaning, each with its reason."""
    replay, learning = o.replay, o.learning
    num_envs: int = getattr(o.env, "num_envs")  # noqa: B009 every kind of environment has it
    torso: str = getattr(o.network.torso, "kind")  # noqa: B009
    head: str = getattr(o.network.head, "kind")  # noqa: B009
    found = []
    if learning.batch_size > replay.capacity:
        found.append(
            f"learning.batch_size {learning.batch_size} is above replay.capacity {replay.capacity}: "
            "a batch could never be full of different transitions"
        )
    if replay.warmup_steps > replay.capacity:
        found.append(
            f"replay.warmup_steps {replay.warmup_steps} is above replay.capacity {replay.capacity}: "
            "the first of those steps would be forgotten before learning begins"
        )
    if replay.warmup_steps >= o.total_steps:
        found.append(
            f"replay.warmup_steps {replay.warmup_steps} is not below total_steps {o.total_steps}: "
            "nothing would ever be learnt"
        )
    if replay.n_step * num_envs > replay.capacity:
        found.append(
            f"replay.n_step {replay.n_step} times env.num_envs {num_envs} is above replay.capacity "
            f"{replay.capacity}: the replay would not hold one window of each environment"
        )
    if learning.loss != "auto" and learning.loss not in OBJECTIVES[head]:
        found.append(f"learning.loss {learning.loss} has no meaning for head {head}; use {', '.join(OBJECTIVES[head])}")
    if o.precision == "bfloat16" and torso == "mlp":
        found.append("precision bfloat16 serves convolutional torsos; with torso mlp use float32 or auto")
    if o.memory_format == "channels_last" and torso == "mlp":
        found.append("memory_format channels_last serves convolutional torsos; with torso mlp use contiguous or auto")
    return found
