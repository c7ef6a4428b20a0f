"""The tables: every kind of component, its options and its factory; the schema follows from them.

A new kind is one file that holds its class and its options, and one row here.
"""

from __future__ import annotations

import torch

from dqn_cli.agent.bootstrap import DoubleOptions, GreedyOptions, double_bootstrap, greedy_bootstrap
from dqn_cli.agent.explorer import EpsilonGreedy, EpsilonGreedyOptions
from dqn_cli.agent.objective import TemporalDifference
from dqn_cli.agent.optimizers import Adam, AdamOptions, RMSPropInsideRoot, RMSPropOptions
from dqn_cli.agent.targets import PeriodicBySteps, PeriodicByUpdates, PeriodicOptions, Polyak, PolyakOptions
from dqn_cli.core.kinds import Kind, Table
from dqn_cli.core.machine import available_cores
from dqn_cli.envs.atari import AtariBackend, AtariOptions
from dqn_cli.envs.gymnasium import GymnasiumBackend, GymnasiumOptions
from dqn_cli.networks.heads import DuelingStreams, PlainStream, ScalarHead, ScalarOptions
from dqn_cli.networks.torsos import Cnn, CnnOptions, Mlp, MlpOptions
from dqn_cli.replay.samplers import UniformOptions, UniformSampler
from dqn_cli.rules.td import huber, squared

# (options) -> VectorBackend
ENVIRONMENTS: Table = {
    "gymnasium": Kind(
        GymnasiumOptions,
        lambda o: GymnasiumBackend(
            o.id, o.num_envs, o.kwargs, [(w.name, w.kwargs) for w in o.wrappers], o.vectorization
        ),
    ),
    "atari": Kind(AtariOptions, lambda o: AtariBackend(o.protocol(), o.num_envs, _emulator_threads(o))),
}

# (options, shape of an observation, linear factory, generator) -> module [B, S, ...] -> [B, F]
TORSOS: Table = {
    "mlp": Kind(MlpOptions, lambda o, shape, linear, _: Mlp(shape, o.hidden, linear)),
    "cnn": Kind(
        CnnOptions,
        lambda o, shape, linear, generator: Cnn(shape, o.channels, o.kernels, o.strides, o.hidden, linear, generator),
    ),
}

# (options, features, actions, linear factory) -> Head
HEADS: Table = {
    "scalar": Kind(
        ScalarOptions,
        lambda o, features, actions, linear: ScalarHead(
            (DuelingStreams if o.dueling else PlainStream)(features, actions, 1, o.hidden, linear)
        ),
    ),
}

# (options, generator) -> Sampler
SAMPLERS: Table = {"uniform": Kind(UniformOptions, lambda _, rng: UniformSampler(rng))}

# (options) -> Bootstrap
BOOTSTRAPS: Table = {
    "greedy": Kind(GreedyOptions, lambda _: greedy_bootstrap),
    "double": Kind(DoubleOptions, lambda _: double_bootstrap),
}

# (options, parameters) -> torch.optim.Optimizer
OPTIMIZERS: Table = {
    "adam": Kind(AdamOptions, lambda o, p: Adam(p, o.lr, o.eps)),
    "rmsprop": Kind(RMSPropOptions, lambda o, p: _rmsprop(o, p)),
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
OBJECTIVES = {"scalar": {"huber": TemporalDifference(huber), "squared": TemporalDifference(squared)}}


def _emulator_threads(o: AtariOptions) -> int:
    return min(o.num_envs, available_cores()) if o.threads == "auto" else o.threads


def _rmsprop(o: RMSPropOptions, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if o.eps_inside_sqrt:
        return RMSPropInsideRoot(parameters, o.lr, o.decay, o.eps, o.centered)
    return torch.optim.RMSprop(parameters, lr=o.lr, alpha=o.decay, eps=o.eps, centered=o.centered)
