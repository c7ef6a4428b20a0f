"""Greedy actions, and the random ones that replace them."""

from __future__ import annotations

import numpy as np
import torch

from dqn_cli.agent.actor import Actor, greedy_actions
from dqn_cli.agent.explorer import EpsilonGreedy
from dqn_cli.core.rng import stream
from tests.agent.toys import WIDTH, noisy_implicit_quantile_network, table

CPU = torch.device("cpu")
NETWORK = table([[0.0, 1.0, 2.0], [5.0, 5.0, 1.0], [1.0, 7.0, 7.0], [3.0, 3.0, 3.0]])
OBSERVATION = np.random.default_rng(0).normal(size=(64, 1, WIDTH)).astype(np.float32)
ROWS = np.arange(4, dtype=np.float32).reshape(4, 1)


def actor(epsilon: float, seed: int = 0) -> Actor:
    return Actor(NETWORK, EpsilonGreedy(4, 3, lambda _: epsilon, stream(seed, "exploration")), CPU)


def test_ties_go_to_the_lowest_action():
    actions = greedy_actions(NETWORK, ROWS, CPU)
    assert actions.tolist() == [2, 0, 1, 0]
    assert actions.dtype == np.int64


def test_without_exploration_all_actions_are_greedy():
    for step in range(20):
        assert actor(0.0).act(ROWS, step).tolist() == [2, 0, 1, 0]


def test_only_where_the_coin_says_so_an_action_is_replaced():
    subject, twin = actor(0.5), actor(0.5).explorer
    for step in range(50):
        random, random_actions = twin.explore(step)
        actions = subject.act(ROWS, step)
        assert actions.dtype == np.int64
        assert actions.tolist() == np.where(random, random_actions, [2, 0, 1, 0]).tolist()


def test_all_random():
    subject, twin = actor(1.0), actor(1.0).explorer
    for step in range(20):
        assert np.array_equal(subject.act(ROWS, step), twin.explore(step)[1])


def test_acting_leaves_no_gradient():
    network = table([[0.0, 1.0]])
    greedy_actions(network, np.zeros((1, 1), np.float32), CPU)
    assert network.rows.grad is None


def test_noise_is_fresh_at_each_step():
    network = noisy_implicit_quantile_network()
    network.eval()
    greedy = greedy_actions(network, OBSERVATION, CPU)
    network.train()
    subject = Actor(network, EpsilonGreedy(64, 3, lambda _: 0.0, stream(0, "exploration")), CPU)
    actions = [subject.act(OBSERVATION, step).tolist() for step in range(5)]
    assert len(set(map(tuple, actions))) == 5
    assert greedy.tolist() == greedy_actions(network.eval(), OBSERVATION, CPU).tolist()
