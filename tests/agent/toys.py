"""Networks small enough to compute by hand, and the batches for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dqn_cli.agent.augmentation import Augmentations
from dqn_cli.agent.bootstrap import bellman
from dqn_cli.agent.gradient import gradient_of
from dqn_cli.agent.gradient_step import GradientStep
from dqn_cli.agent.learner import Learner
from dqn_cli.agent.objective import TemporalDifference
from dqn_cli.agent.targets import copy_parameters
from dqn_cli.build import BOOTSTRAPS, HEADS, OPTIMIZERS, TARGETS
from dqn_cli.core.kinds import make
from dqn_cli.core.options import Options
from dqn_cli.core.rng import torch_stream
from dqn_cli.core.types import Batch
from dqn_cli.networks.heads import DuelingStreams, HeadInputs, PlainStream, ScalarHead
from dqn_cli.networks.implicit_quantile import ImplicitQuantileOptions
from dqn_cli.networks.layers import linear_factory
from dqn_cli.networks.noisy import noisy_factory
from dqn_cli.networks.outputs import ScalarOutput
from dqn_cli.networks.qnetwork import QNetwork
from dqn_cli.networks.torsos import Cnn, Mlp
from dqn_cli.rules.td import huber, huber_slope

ACTIONS = 3
WIDTH = 4


class TableNetwork(nn.Module):
    """Action values from a table: observation ``[B, 1]`` is the row, ``rows [rows, A]`` the weights."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))
        self.generator = torch.Generator()
        self.written_out = None

    def resample(self) -> None:
        """A table has no noise."""

    def forward(self, observation: Tensor) -> ScalarOutput:
        return ScalarOutput(self.rows[observation[:, 0].to(torch.int64)])


def noisy_implicit_quantile_network(seed: int = 0, noise: str = "noise") -> QNetwork:
    """A network with all the randomness that there is: noisy layers, and quantiles at random fractions."""
    weights, own = torch_stream(seed, "network"), torch_stream(seed, noise)
    plain = linear_factory(weights)
    torso = Mlp((1, WIDTH), (8,), plain)
    inputs = HeadInputs(torso.features, ACTIONS, noisy_factory(0.5, weights), plain, own)
    return QNetwork(torso, make(HEADS, ImplicitQuantileOptions(quantiles=4, cosines=4), inputs), 1.0, own)


def table(rows: list[list[float]]) -> Any:
    """A table where a Q-network is expected."""
    return TableNetwork(rows)


def mlp_network(seed: int = 0) -> QNetwork:
    """A network of one hidden layer for observations ``[B, 1, WIDTH]``."""
    linear = linear_factory(torch_stream(seed, "network"))
    torso = Mlp((1, WIDTH), (8,), linear)
    return QNetwork(torso, ScalarHead(PlainStream(torso.features, ACTIONS, 1, (), linear)), 1.0, torch.Generator())


def dueling_network(seed: int = 0) -> QNetwork:
    """The same with value and advantages apart, each behind a hidden layer of its own."""
    linear = linear_factory(torch_stream(seed, "network"))
    torso = Mlp((1, WIDTH), (8,), linear)
    return QNetwork(torso, ScalarHead(DuelingStreams(torso.features, ACTIONS, 1, (6,), linear)), 1.0, torch.Generator())


def image_network(seed: int = 0, autocast: torch.dtype | None = None) -> QNetwork:
    """A dueling network of two convolutions for observations ``[B, 2, 7, 7]``, channels last."""
    generator = torch_stream(seed, "network")
    linear = linear_factory(generator)
    torso = Cnn((2, 7, 7), (4, 6), (3, 2), (2, 1), (), linear, generator)
    head = ScalarHead(DuelingStreams(torso.features, ACTIONS, 1, (8,), linear))
    return QNetwork(torso, head, 1 / 255, torch.Generator(), autocast, channels_last=True)


def batch(
    observation: Any,
    action: list[int],
    reward: list[float],
    discount: list[float],
    next_observation: Any,
    weight: list[float] | None = None,
) -> Batch:
    return Batch(
        torch.as_tensor(observation, dtype=torch.float32),
        torch.tensor(action),
        torch.tensor(reward),
        torch.tensor(discount),
        torch.as_tensor(next_observation, dtype=torch.float32),
        torch.ones(len(action)) if weight is None else torch.tensor(weight),
        np.arange(len(action)),
    )


def random_batch(seed: int, size: int = 16) -> Batch:
    generator = torch_stream(seed, "batch")
    return Batch(
        torch.randn(size, 1, WIDTH, generator=generator),
        torch.randint(ACTIONS, (size,), generator=generator),
        torch.randn(size, generator=generator),
        torch.rand(size, generator=generator),
        torch.randn(size, 1, WIDTH, generator=generator),
        torch.rand(size, generator=generator),
        np.arange(size),
    )


def random_images(seed: int, size: int = 16) -> Batch:
    """The same with observations of `image_network`."""
    generator = torch_stream(seed, "images")
    images = torch.randint(256, (2, size, 2, 7, 7), dtype=torch.uint8, generator=generator)
    return replace(random_batch(seed, size), observation=images[0], next_observation=images[1])


def learner(
    optimizer: Options, target: Options, bootstrap: Options, seed: int = 0, online: Any = None, **kwargs: Any
) -> Learner:
    """A learner whose target network begins as a copy of its online network."""
    online = mlp_network(seed) if online is None else online
    slow: Any = kwargs.pop("slow", None)
    if slow is None:
        slow = mlp_network(seed) if isinstance(online, QNetwork) else TableNetwork(online.rows.tolist())
    copy_parameters(online, slow)
    parameters = list(online.parameters())
    step = GradientStep(
        parameters,
        make(OPTIMIZERS, optimizer, parameters),
        kwargs.pop("max_grad_norm", None),
        kwargs.pop("rate_factor", None),
    )
    objective = kwargs.pop("objective", TemporalDifference(huber, huber_slope))
    asks_online: bool = getattr(bootstrap, "asks_online")  # noqa: B009 every bootstrap says so
    return Learner(
        online,
        slow,
        gradient_of(online, slow, make(BOOTSTRAPS, bootstrap, bellman), objective, asks_online),
        step,
        make(TARGETS, target),
        kwargs.pop("augmentations", Augmentations([], torch.Generator())),
        **kwargs,
    )
