"""The composition root: from the options of a run to its objects. Config objects end here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from dqn_cli.agent.actor import Actor
from dqn_cli.agent.learner import Learner
from dqn_cli.agent.targets import copy_parameters
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
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import stream, torch_stream
from dqn_cli.core.schedules import LinearSchedule
from dqn_cli.envs.contract import EnvironmentSpec
from dqn_cli.envs.lineage import SeedPolicy, TrainingSeeds
from dqn_cli.envs.vector import EpisodicVector
from dqn_cli.hardware import Hardware
from dqn_cli.networks.layers import linear_factory
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.replay.buffer import Replay, ring_frames
from dqn_cli.replay.frames import DenseHostFrames
from dqn_cli.replay.items import ItemTable
from dqn_cli.replay.writer import NStepWriter
from dqn_cli.schema import RunOptions
from dqn_cli.training.loop import Calendar, ReturnGoal, TrainingLoop
from dqn_cli.training.pacing import Pacing

REPORTS = 200
"""Lines of metrics in a run, about."""


@dataclass(frozen=True, slots=True)
class Training:
    """The objects of one run.

    Attributes:
        loop: The training loop over all the others.
        environments: The environments.
        actor: Chooses actions.
        learner: Networks and optimiser.
        replay: Keeps transitions.
    """

    loop: TrainingLoop
    environments: EpisodicVector
    actor: Actor
    learner: Learner
    replay: Replay


def make_environments(
    options: RunOptions, seeds: SeedPolicy | None = None, max_episode_frames: int | None = None
) -> EpisodicVector:
    """Makes the environments of a run.

    Args:
        options: Options of the run.
        seeds: Seeds the episodes; None: as in training.
        max_episode_frames: Cap on the emulator frames of an episode; None: the environment's own.
    """
    env = options.env
    backend = make(ENVIRONMENTS, env)
    return EpisodicVector(
        backend,
        seeds or TrainingSeeds(options.seed, backend.spec.seed_every_steps),
        max_episode_frames=max_episode_frames or getattr(env, "max_episode_frames", None),
        terminal_on_life_loss=getattr(env, "terminal_on_life_loss", False),
    )


def environment_spec(options: RunOptions) -> EnvironmentSpec:
    """Returns the description of the run's environments, from one of them that is made and closed again."""
    backend = make(ENVIRONMENTS, options.env.model_copy(update={"num_envs": 1}))
    spec: EnvironmentSpec = replace(backend.spec, num_envs=num_envs(options))
    backend.close()
    return spec


def num_envs(options: RunOptions) -> int:
    """Returns the number of environments, N, which every kind of environment has."""
    return int(cast("Any", options.env).num_envs)


def make_network(options: RunOptions, spec: EnvironmentSpec, hardware: Hardware) -> QNetwork:
    """Makes a Q-network with fresh weights on the run's device."""
    generator = torch_stream(options.seed, "network")
    linear = linear_factory(generator)
    shape = (spec.observation.stack, *spec.observation.shape)
    torso = make(TORSOS, options.network.torso, shape, linear, generator)
    head = make(HEADS, options.network.head, torso.features, spec.num_actions, linear)
    return QNetwork(
        torso,
        head,
        spec.observation.scale,
        autocast=torch.bfloat16 if hardware.precision == "bfloat16" else None,
        channels_last=hardware.memory_format == "channels_last",
    ).to(hardware.device)


def network_shape(options: RunOptions, spec: EnvironmentSpec, hardware: Hardware) -> QNetwork:
    """Makes the same Q-network without memory behind its parameters, which may be more than there is."""
    meta = torch.device("meta")
    with meta:
        return make_network(options, spec, replace(hardware, device=meta))


def history_steps(options: RunOptions, spec: EnvironmentSpec) -> int:
    """Returns how many vector steps an item reaches back, n + S - 1."""
    return options.replay.n_step + spec.observation.stack - 1


def learning_begins(options: RunOptions) -> int:
    """Returns the agent step from which updates are counted: the warm-up, and one full window everywhere."""
    return max(options.replay.warmup_steps, num_envs(options) * options.replay.n_step)


def make_training(options: RunOptions, hardware: Hardware, environments: EpisodicVector) -> Training:
    """Makes everything that a run consists of, around its ``environments``."""
    spec = environments.spec
    online = make_network(options, spec, hardware)
    target = make_network(options, spec, hardware)
    copy_parameters(online, target)
    learner = _learner(options, online, target)
    actor = Actor(online, _explorer(options, spec), hardware.device)
    replay = _replay(options, spec, hardware)
    stop = options.stop
    loop = TrainingLoop(
        environments,
        actor,
        replay,
        learner,
        Pacing(learning_begins(options), options.learning.update_every_steps, options.learning.updates),
        options.learning.batch_size,
        Calendar(
            total_steps=options.total_steps,
            report_steps=min(10_000, max(spec.num_envs, options.total_steps // REPORTS)),
            evaluation_steps=options.evaluation.every_steps,
            checkpoint_steps=options.checkpoint.every_steps,
        ),
        ReturnGoal(stop.return_mean, stop.window) if stop else None,
    )
    return Training(loop, environments, actor, learner, replay)


def _learner(options: RunOptions, online: QNetwork, target: QNetwork) -> Learner:
    learning = options.learning
    losses = OBJECTIVES[getattr(options.network.head, "kind")]  # noqa: B009 every head has a kind
    loss = next(iter(losses)) if learning.loss == "auto" else learning.loss
    return Learner(
        online,
        target,
        make(OPTIMIZERS, learning.optimizer, list(online.parameters())),
        make(BOOTSTRAPS, learning.bootstrap),
        losses[loss],
        make(TARGETS, learning.target),
        learning.max_grad_norm,
        _rate_factor(options),
    )


def _rate_factor(options: RunOptions) -> LinearSchedule | None:
    schedule = options.learning.lr_schedule
    if schedule is None:
        return None
    over = options.total_steps if schedule.over_steps is None else schedule.over_steps
    return LinearSchedule(1.0, schedule.end_factor, 0, over)


def _explorer(options: RunOptions, spec: EnvironmentSpec) -> Any:
    exploration = cast("Any", options.exploration)
    warmup = options.replay.warmup_steps
    begin = warmup if exploration.begin_steps is None else exploration.begin_steps
    decay = LinearSchedule(exploration.start, exploration.end, begin, exploration.decay_steps)
    off = exploration.off_after_steps

    def epsilon(step: int) -> float:
        if step < warmup:
            return 1.0  # warm-up is uniformly random play whatever the schedule says
        return 0.0 if off is not None and step >= off else decay(step)

    rng = stream(options.seed, "exploration")
    return make(EXPLORERS, options.exploration, spec.num_envs, spec.num_actions, epsilon, rng)


def _replay(options: RunOptions, spec: EnvironmentSpec, hardware: Hardware) -> Replay:
    observation, replay = spec.observation, options.replay
    history = history_steps(options, spec)
    frames = ring_frames(replay.capacity, spec.num_envs, history, observation.frame_bytes)
    return Replay(
        DenseHostFrames(frames, observation.shape, np.dtype(observation.dtype)),
        ItemTable(replay.capacity, observation.stack),
        NStepWriter(spec.num_envs, observation.stack, replay.n_step, options.learning.gamma, replay.reward_clip),
        make(SAMPLERS, replay.sampler, stream(options.seed, "replay")),
        hardware.device,
        history,
    )
