"""The composition root: from the options of a run to its objects. Config objects end here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch

from dqn_cli.agent.actor import Actor
from dqn_cli.agent.augmentation import Augmentations
from dqn_cli.agent.bootstrap import bellman, rescaled
from dqn_cli.agent.captured import CapturedGradient, captured_greedy
from dqn_cli.agent.compared import random_batch, tried
from dqn_cli.agent.gradient import AutogradGradient, gradient_of
from dqn_cli.agent.gradient_step import GradientStep
from dqn_cli.agent.learner import Learner
from dqn_cli.agent.resets import WeightResets
from dqn_cli.agent.targets import copy_parameters
from dqn_cli.build import (
    AUGMENTATIONS,
    BOOTSTRAPS,
    ENVIRONMENTS,
    EXPLORERS,
    HEADS,
    OBJECTIVES,
    OPTIMIZERS,
    RATE_SCHEDULES,
    TARGETS,
    TORSOS,
)
from dqn_cli.core.captured import Recorder, cuda_graph
from dqn_cli.core.interruption import Waiting
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import stream, torch_stream
from dqn_cli.core.schedules import LinearSchedule
from dqn_cli.core.tiny import TinyIsZero
from dqn_cli.envs.contract import EnvironmentSpec, VectorBackend
from dqn_cli.envs.lineage import SeedPolicy, TrainingSeeds
from dqn_cli.envs.vector import EpisodicVector
from dqn_cli.hardware import Hardware
from dqn_cli.networks.heads import HeadInputs
from dqn_cli.networks.layers import linear_factory
from dqn_cli.networks.noisy import noisy_factory
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.segments import SEGMENT_BYTES
from dqn_cli.schema import RunOptions, planned_pacing
from dqn_cli.storage import make_replay
from dqn_cli.training.loop import Calendar, ReturnGoal, TrainingLoop

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
        notices: What a person should be told; whoever tells it clears the list.
    """

    loop: TrainingLoop
    environments: EpisodicVector
    actor: Actor
    learner: Learner
    replay: Replay
    notices: list[str] = field(default_factory=list)


def make_environments(
    options: RunOptions,
    seeds: SeedPolicy | None = None,
    max_episode_frames: int | None = None,
    tap: Callable[[VectorBackend], VectorBackend] | None = None,
    waiting: Waiting | None = None,
) -> EpisodicVector:
    """Makes the environments of a run.

    Args:
        options: Options of the run.
        seeds: Seeds the episodes; None: as in training.
        max_episode_frames: Cap on the emulator frames of an episode; None: the environment's own.
        tap: Puts something between the environments and the stream of their episodes.
        waiting: Knows when the environments are waited for.
    """
    env = options.env
    backend = make(ENVIRONMENTS, env)
    return EpisodicVector(
        backend if tap is None else tap(backend),
        seeds or TrainingSeeds(options.seed, backend.spec.seed_every_steps),
        max_episode_frames=max_episode_frames or getattr(env, "max_episode_frames", None),
        terminal_on_life_loss=getattr(env, "terminal_on_life_loss", False),
        waiting=waiting,
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


def make_network(
    options: RunOptions, spec: EnvironmentSpec, hardware: Hardware, weights: str = "network", noise: str = "noise"
) -> QNetwork:
    """Makes a Q-network with fresh weights on the run's device.

    Args:
        options: Options of the run.
        spec: The environments.
        hardware: Where it lives.
        weights: Name of the stream of its weights.
        noise: Name of the stream of what it draws when it is used.
    """
    generator = torch_stream(options.seed, weights)
    own = torch_stream(options.seed, noise, hardware.device)
    plain, noisy = linear_factory(generator), options.network.noisy
    shape = (spec.observation.stack, *spec.observation.shape)
    torso = make(TORSOS, options.network.torso, shape, plain, generator)
    linear = plain if noisy is None else noisy_factory(noisy.sigma, generator)
    head = make(HEADS, options.network.head, HeadInputs(torso.features, spec.num_actions, linear, plain, own))
    return QNetwork(
        torso,
        head,
        spec.observation.scale,
        own,
        autocast=torch.bfloat16 if hardware.precision == "bfloat16" else None,
        channels_last=hardware.memory_format == "channels_last",
    ).to(hardware.device)


def network_shape(options: RunOptions, spec: EnvironmentSpec, hardware: Hardware) -> QNetwork:
    """Makes the same Q-network without memory behind its parameters, which may be more than there is."""
    meta = torch.device("meta")
    with meta:
        return make_network(options, spec, replace(hardware, device=meta))


def way_to_gradients(options: RunOptions, network: QNetwork, hardware: Hardware) -> str:
    """Returns how updates find their gradients, for people: ``written out``, ``by autograd``, ``by CUDA graph``.

    Args:
        options: Options of the run.
        network: Its network, wherever its parameters are.
        hardware: What it computes on.
    """
    if _recorder(options, hardware) is not None:
        return "by CUDA graph"
    return "by autograd" if network.written_out_on(hardware.device) is None else "written out"


def make_training(options: RunOptions, hardware: Hardware, environments: EpisodicVector) -> Training:
    """Makes everything that a run consists of, around its ``environments``."""
    spec = environments.spec
    notices: list[str] = []
    record = _recorder(options, hardware)
    learner = _learner(options, spec, hardware, notices.append)
    greedy = None if record is None else captured_greedy(learner.online, record, notices.append)
    actor = Actor(learner.online, _explorer(options, spec), hardware.device, greedy)
    replay = make_replay(options, spec, hardware)
    stop = options.stop
    loop = TrainingLoop(
        environments,
        actor,
        replay,
        learner,
        planned_pacing(options),
        options.learning.batch_size,
        Calendar(
            total_steps=options.total_steps,
            report_steps=min(10_000, max(spec.num_envs, options.total_steps // REPORTS)),
            evaluation_steps=options.evaluation.every_steps,
            checkpoint_steps=options.checkpoint.every_steps,
            stream_steps=max(1, SEGMENT_BYTES // spec.observation.frame_bytes),
        ),
        ReturnGoal(stop.return_mean, stop.window) if stop else None,
    )
    return Training(loop, environments, actor, learner, replay, notices)


def _recorder(options: RunOptions, hardware: Hardware) -> Recorder | None:
    """Returns what records kernels, where that is asked for and there is a GPU."""
    return cuda_graph(hardware.device) if options.cuda_graphs and hardware.device.type == "cuda" else None


def _learner(options: RunOptions, spec: EnvironmentSpec, hardware: Hardware, tell: Callable[[str], None]) -> Learner:
    learning = options.learning
    online = make_network(options, spec, hardware, noise="online noise")
    target = make_network(options, spec, hardware, noise="target noise")
    copy_parameters(online, target)
    losses = OBJECTIVES[getattr(options.network.head, "kind")]  # noqa: B009 every head has a kind
    loss = next(iter(losses)) if learning.loss == "auto" else learning.loss
    rescaling, schedule = learning.value_rescaling, learning.lr_schedule
    bootstrap = make(BOOTSTRAPS, learning.bootstrap, bellman if rescaling is None else rescaled(rescaling.eps))
    parameters = list(online.parameters())
    asks_online = cast("Any", learning.bootstrap).asks_online
    gradient = gradient_of(online, target, bootstrap, losses[loss], asks_online)
    if is_unproven(hardware) and not isinstance(gradient, AutogradGradient):
        # Fresh networks and random numbers: a run that goes on must come to the same answer.
        plain = AutogradGradient(online, target, bootstrap, losses[loss])
        size = gradient.most * learning.batch_size
        batch = random_batch(spec.observation, spec.num_actions, size, hardware.device)
        gradient = tried(gradient, plain, online, target, batch, tell)
    record = _recorder(options, hardware)
    return Learner(
        online,
        target,
        gradient if record is None else CapturedGradient(gradient, online, target, record, tell),
        GradientStep(
            parameters,
            make(OPTIMIZERS, learning.optimizer, parameters),
            learning.max_grad_norm,
            None if schedule is None else make(RATE_SCHEDULES, schedule, options.total_steps),
        ),
        make(TARGETS, learning.target),
        Augmentations(
            [make(AUGMENTATIONS, augmentation) for augmentation in learning.augmentation],
            torch_stream(options.seed, "augmentation", hardware.device),
        ),
        _resets(options, spec, hardware),
        TinyIsZero() if hardware.one_thread else None,
    )


def is_unproven(hardware: Hardware) -> bool:
    """Returns whether kernels may be others than those that the tests have compared, as on a GPU."""
    return hardware.device.type == "cuda"


def _resets(options: RunOptions, spec: EnvironmentSpec, hardware: Hardware) -> WeightResets | None:
    resets = options.learning.resets
    if resets is None:
        return None

    def fresh(number: int) -> QNetwork:
        return make_network(options, spec, hardware, weights=f"network after reset {number}")

    last = planned_pacing(options).updates_until(options.total_steps) - resets.every_updates
    return WeightResets(resets.every_updates, resets.keep_torso, last, fresh)


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
