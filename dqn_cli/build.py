"""The tables: every kind of component, its options and its factory; the schema follows from them.

A new kind is one file that holds its class and its options, and one row here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from dqn_cli.agent.advantage import AdvantageBootstrap, AdvantageOptions
from dqn_cli.agent.augmentation import Intensity, IntensityOptions, RandomShift, RandomShiftOptions
from dqn_cli.agent.bootstrap import (
    DoubleOptions,
    GreedyOptions,
    MunchausenBootstrap,
    MunchausenOptions,
    double_bootstrap,
    greedy_bootstrap,
)
from dqn_cli.agent.explorer import EpsilonGreedy, EpsilonGreedyOptions
from dqn_cli.agent.objective import Objective, TemporalDifference, categorical_objective, quantile_objective
from dqn_cli.agent.optimizers import (
    Adam,
    AdamOptions,
    AdamWOptions,
    CosineRateOptions,
    LinearRateOptions,
    RMSProp,
    RMSPropOptions,
)
from dqn_cli.agent.targets import PeriodicBySteps, PeriodicByUpdates, PeriodicOptions, Polyak, PolyakOptions
from dqn_cli.core.kinds import Kind, Table
from dqn_cli.core.schedules import CosineSchedule, LinearSchedule
from dqn_cli.envs.atari import AtariBackend, AtariOptions
from dqn_cli.envs.gymnasium import GymnasiumBackend, GymnasiumOptions
from dqn_cli.networks.heads import (
    CategoricalHead,
    CategoricalOptions,
    DuelingStreams,
    HeadInputs,
    PlainStream,
    QuantileHead,
    QuantileOptions,
    ScalarHead,
    ScalarOptions,
)
from dqn_cli.networks.impala import Impala, ImpalaOptions
from dqn_cli.networks.implicit_quantile import ImplicitQuantileHead, ImplicitQuantileOptions
from dqn_cli.networks.torsos import Cnn, CnnOptions, Mlp, MlpOptions
from dqn_cli.replay.device_prioritized import DevicePrioritizedSampler
from dqn_cli.replay.prioritized import PrioritizedOptions, PrioritizedSampler
from dqn_cli.replay.samplers import UniformOptions, UniformSampler
from dqn_cli.rules.td import huber, huber_slope, squared, squared_slope

# (options) -> VectorBackend
ENVIRONMENTS: Table = {
    "gymnasium": Kind(
        GymnasiumOptions,
        lambda o: GymnasiumBackend(
            o.id, o.num_envs, o.kwargs, [(w.name, w.kwargs) for w in o.wrappers], o.vectorization
        ),
    ),
    "atari": Kind(AtariOptions, lambda o: AtariBackend(o.protocol(), o.num_envs, o.emulator_threads)),
}

# (options, shape of an observation, linear factory, generator) -> module [B, S, ...] -> [B, F]
TORSOS: Table = {
    "mlp": Kind(
        MlpOptions,
        lambda o, shape, linear, _: Mlp(shape, o.hidden, linear, torch.nn.LayerNorm if o.layer_norm else None),
    ),
    "cnn": Kind(
        CnnOptions,
        lambda o, shape, linear, generator: Cnn(shape, o.channels, o.kernels, o.strides, o.hidden, linear, generator),
    ),
    "impala": Kind(
        ImpalaOptions,
        lambda o, shape, linear, generator: Impala(
            shape, [c * o.width for c in o.channels], o.spectral_norm, o.pool, o.hidden, linear, generator
        ),
    ),
}

# (options, HeadInputs) -> Head
HEADS: Table = {
    "scalar": Kind(ScalarOptions, lambda o, inputs: ScalarHead(_streams(o, inputs, 1))),
    "categorical": Kind(
        CategoricalOptions,
        lambda o, inputs: CategoricalHead(_streams(o, inputs, o.atoms), o.v_min, o.v_max, o.atoms),
    ),
    "quantile": Kind(QuantileOptions, lambda o, inputs: QuantileHead(_streams(o, inputs, o.quantiles), o.quantiles)),
    "implicit_quantile": Kind(
        ImplicitQuantileOptions,
        lambda o, inputs: ImplicitQuantileHead(
            _streams(o, inputs, 1),
            inputs.features,
            o.cosines,
            o.quantiles,
            o.acting_quantiles,
            inputs.plain_linear,
            inputs.generator,
        ),
    ),
}

# (options, capacity, schedule from (start, end, steps or None), generator) -> Sampler
SAMPLERS: Table = {
    "uniform": Kind(UniformOptions, lambda _o, _capacity, _schedule, rng: UniformSampler(rng)),
    "prioritized": Kind(
        PrioritizedOptions,
        lambda o, capacity, schedule, rng: PrioritizedSampler(
            capacity, o.alpha, schedule(o.beta.start, o.beta.end, o.beta.over_steps), o.eps, rng
        ),
    ),
}


def samplers_on(device: torch.device) -> Table:
    """Returns ``SAMPLERS`` for a replay on ``device``: a kind that has none of its own there draws on the host."""
    return {
        **SAMPLERS,
        "prioritized": Kind(
            PrioritizedOptions,
            lambda o, capacity, schedule, rng: DevicePrioritizedSampler(
                capacity, o.alpha, schedule(o.beta.start, o.beta.end, o.beta.over_steps), o.eps, rng, device
            ),
        ),
    }


# (options, backup) -> Bootstrap
BOOTSTRAPS: Table = {
    "greedy": Kind(GreedyOptions, lambda _, backup: partial(greedy_bootstrap, backup=backup)),
    "double": Kind(DoubleOptions, lambda _, backup: partial(double_bootstrap, backup=backup)),
    "advantage": Kind(AdvantageOptions, lambda o, _: AdvantageBootstrap(o.alpha)),
    "munchausen": Kind(MunchausenOptions, lambda o, _: MunchausenBootstrap(o.alpha, o.temperature, o.floor)),
}

# (options) -> Augmentation
AUGMENTATIONS: Table = {
    "random_shift": Kind(RandomShiftOptions, lambda o: RandomShift(o.pixels)),
    "intensity": Kind(IntensityOptions, lambda o: Intensity(o.scale)),
}

# (options, total steps) -> factor of the step size as a function of agent steps
RATE_SCHEDULES: Table = {
    "linear": Kind(LinearRateOptions, lambda o, total: LinearSchedule(1.0, o.end_factor, 0, o.over_steps or total)),
    "cosine": Kind(CosineRateOptions, lambda o, total: CosineSchedule(1.0, o.end_factor, o.over_steps or total)),
}

# (options, parameters) -> Optimizer
OPTIMIZERS: Table = {
    "adam": Kind(AdamOptions, lambda o, p: Adam(p, o.lr, o.eps)),
    "adamw": Kind(AdamWOptions, lambda o, p: Adam(p, o.lr, o.eps, weight_decay=o.weight_decay)),
    "rmsprop": Kind(RMSPropOptions, lambda o, p: RMSProp(p, o.lr, o.decay, o.eps, o.centered, o.eps_inside_sqrt)),
}

# (options) -> TargetUpdate
TARGETS: Table = {
    "periodic": Kind(
        PeriodicOptions,
        lambda o: PeriodicBySteps(o.every_steps) if o.every_steps else PeriodicByUpdates(o.every_updates),
    ),
    "polyak": Kind(PolyakOptions, lambda o: Polyak(o.tau)),
}

# (options, environments, actions, schedule of agent steps, generator) -> Explorer
EXPLORERS: Table = {
    "epsilon_greedy": Kind(
        EpsilonGreedyOptions,
        lambda _, num_envs, actions, schedule, rng: EpsilonGreedy(num_envs, actions, schedule, rng),
    ),
}

# head kind -> loss name -> Objective; the first is what `loss: auto` takes
OBJECTIVES: dict[str, dict[str, Objective]] = {
    "scalar": {"huber": TemporalDifference(huber, huber_slope), "squared": TemporalDifference(squared, squared_slope)},
    "categorical": {"cross_entropy": categorical_objective},
    "quantile": {"quantile_huber": quantile_objective},
    "implicit_quantile": {"quantile_huber": quantile_objective},
}


def _streams(o: Any, inputs: HeadInputs, atoms: int) -> torch.nn.Module:
    kind = DuelingStreams if o.dueling else PlainStream
    return kind(inputs.features, inputs.num_actions, atoms, o.hidden, inputs.linear)
