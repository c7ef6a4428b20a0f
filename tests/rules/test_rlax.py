"""Every rule against rlax, on thousands of random inputs in float32; what rlax lacks, against distrax and jax.nn."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dqn_cli.core.types import Array
from dqn_cli.replay.writer import NStepWriter
from dqn_cli.rules.categorical import cross_entropy, expected_value, project
from dqn_cli.rules.munchausen import entropy_bonus, log_policy, munchausen_bonus
from dqn_cli.rules.quantile import midpoints, quantile_huber
from dqn_cli.rules.rescaling import rescale, unrescale
from dqn_cli.rules.td import huber, select_action, td_target

# importorskip also silences what these warn of while they are imported: deprecated names of one another.
rlax = pytest.importorskip("rlax", reason="needs rlax: pip install 'dqn_cli[reference]'")
distrax, jax = pytest.importorskip("distrax"), pytest.importorskip("jax")
jax.config.update("jax_platforms", "cpu")

B, A, K = 3000, 6, 51
SUPPORT = np.linspace(-10.0, 10.0, K, dtype=np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng: np.random.Generator, *shape: int, scale: float = 3.0) -> Any:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def transitions(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Actions, rewards and discounts ``[B]``. Half of the rewards are atoms, and many of the discounts 0 or 1."""
    reward = np.where(rng.random(B) < 0.5, rng.choice(SUPPORT, B), normal(rng, B))
    return rng.integers(0, A, B), reward, rng.choice(np.array([0.0, 0.9, 0.99, 1.0], np.float32), B)


def tensors(*arrays: Any) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in arrays)


def each(rule: Any, shared: Collection[int] = (), gradient_of: int | None = None) -> Callable[..., Any]:
    """``rule`` of one sample for batches; arguments at ``shared`` have none. With a gradient, (value, gradient)."""
    if gradient_of is not None:
        rule = jax.value_and_grad(rule, gradient_of)

    def batched(*arguments: Array) -> Any:
        axes = [None if position in shared else 0 for position in range(len(arguments))]
        return jax.jit(jax.vmap(rule, axes))(*arguments)

    return batched


def same(ours: Tensor, theirs: Any) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), np.asarray(theirs), rtol=1e-5, atol=1e-5)


def same_with_gradient(loss: Tensor, of: Tensor, theirs: Any, rows: Any = slice(None)) -> None:
    (gradient,) = torch.autograd.grad(loss.sum(), of)
    same(loss[rows], theirs[0][rows])
    same(gradient[rows], theirs[1][rows])


def best_action(values: Tensor) -> tuple[Tensor, Array]:
    """Best of ``values [B, A]``, and in which rows it is so clearly the best that the order of a sum cannot matter."""
    best = torch.topk(values, 2, 1)
    return best.indices[:, 0], (best.values[:, 0] - best.values[:, 1] > 1e-4).numpy()


class TestScalar:
    def test_q_learning(self, rng):
        q, next_q, (action, reward, discount) = normal(rng, B, A), normal(rng, B, A), transitions(rng)
        expected = each(rlax.q_learning)(q, action, reward, discount, next_q)
        q, action, reward, discount, next_q = tensors(q, action, reward, discount, next_q)
        same(td_target(reward, discount, next_q.amax(1)) - select_action(q, action), expected)

    def test_double_q_learning(self, rng):
        q, next_q, selector = (normal(rng, B, A) for _ in range(3))
        action, reward, discount = transitions(rng)
        expected = each(rlax.double_q_learning)(q, action, reward, discount, next_q, selector)
        q, action, reward, discount, next_q, selector = tensors(q, action, reward, discount, next_q, selector)
        next_value = select_action(next_q, selector.argmax(1))
        same(td_target(reward, discount, next_value) - select_action(q, action), expected)

    @pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
    def test_huber(self, rng, delta):
        error = normal(rng, B)
        expected = each(partial(rlax.huber_loss, delta=delta), gradient_of=0)(error)
        ours = torch.from_numpy(error).requires_grad_()
        same_with_gradient(huber(ours, delta), ours, expected)

    @pytest.mark.parametrize("clip", [None, 1.0])
    @pytest.mark.parametrize("n_step", [1, 3, 10])
    def test_n_step_returns_of_a_stream_of_episodes(self, rng, n_step, clip):
        shape, gamma = (100, 40), 0.97  # environments, vector steps
        reward, value = normal(rng, *shape), normal(rng, *shape)  # value of the state that a step leads to
        ending = rng.choice(3, shape, p=[0.84, 0.08, 0.08])
        ending[:, -1] = rng.integers(1, 3, len(ending))
        terminal, truncated = ending == 1, ending == 2

        # rlax knows no truncation: where an episode is cut off, the value of its last state is made a reward.
        clipped = reward if clip is None else reward.clip(-clip, clip)
        rewards = np.float32(clipped + truncated * gamma * value)
        discounts = np.float32(gamma * (ending == 0))
        expected = each(partial(rlax.n_step_bootstrapped_returns, n=n_step))(rewards, discounts, value)

        writer, found = NStepWriter(len(ending), 1, n_step, gamma, clip), torch.full((ending.size,), torch.nan)
        steps = np.arange(ending.size).reshape(shape)  # numbers that serve as actions and as frames
        for t in range(shape[1]):
            items = writer.append(
                steps[:, t],
                reward[:, t].astype(np.float64),
                terminal[:, t],
                truncated[:, t],
                steps[:, t].astype(np.int32),
            )
            found[items.action] = td_target(*tensors(items.reward, items.discount, value.flat[items.next_stack[:, 0]]))
        same(found.reshape(shape), expected)


class TestCategorical:
    def test_projection_of_targets_on_between_and_beyond_atoms(self, rng):
        atoms = np.where(rng.random((B, 40)) < 0.5, rng.choice(SUPPORT, (B, 40)), normal(rng, B, 40, scale=8.0))
        probabilities = rng.dirichlet(np.ones(40), B).astype(np.float32)
        expected = each(rlax.categorical_l2_project, shared=[2])(atoms, probabilities, SUPPORT)
        same(project(*tensors(atoms, probabilities, SUPPORT)), expected)

    @pytest.mark.filterwarnings("ignore:Rlax categorical_cross_entropy:PendingDeprecationWarning")
    @pytest.mark.parametrize("double", [False, True])
    def test_q_learning(self, rng, double):
        logits, next_logits, selector = normal(rng, B, A, K), normal(rng, B, A, K), normal(rng, B, A)
        action, reward, discount = transitions(rng)
        arguments = [SUPPORT, logits, action, reward, discount, SUPPORT, next_logits]
        if double:
            expected = each(rlax.categorical_double_q_learning, [0, 5], 1)(*arguments, selector)
        else:
            expected = each(rlax.categorical_q_learning, [0, 5], 1)(*arguments)

        support, logits, action, reward, discount, _, next_logits = tensors(*arguments)
        logits.requires_grad_()
        values = torch.from_numpy(selector) if double else expected_value(next_logits, support)
        best, clear = best_action(values)
        rows = torch.arange(B)
        atoms = reward.unsqueeze(1) + discount.unsqueeze(1) * support
        target = project(atoms, torch.softmax(next_logits[rows, best], 1), support)
        same_with_gradient(cross_entropy(target, logits[rows, action]), logits, expected, clear)


@pytest.mark.parametrize("kappa", [0.25, 1.0])
@pytest.mark.parametrize("implicit", [False, True])
def test_quantile_q_learning(rng, kappa, implicit):
    """QR-DQN has midpoints and as many targets; IQN draws its fractions for each sample, and fewer or more targets."""
    count, targets = (24, 16) if implicit else (20, 20)
    quantiles, next_quantiles, selector = (normal(rng, B, n, A) for n in (count, targets, 9))
    fractions = rng.random((B, count), np.float32) if implicit else midpoints(count).numpy()
    action, reward, discount = transitions(rng)
    arguments = [quantiles, fractions, action, reward, discount, selector, next_quantiles]
    rule = partial(rlax.quantile_q_learning, huber_param=kappa)
    expected = each(rule, shared=[] if implicit else [1], gradient_of=0)(*arguments)

    quantiles, fractions, action, reward, discount, selector, next_quantiles = tensors(*arguments)
    quantiles.requires_grad_()
    best, clear = best_action(selector.mean(1))
    rows = torch.arange(B)
    target = reward.unsqueeze(1) + discount.unsqueeze(1) * next_quantiles[rows, :, best]
    loss = quantile_huber(quantiles[rows, :, action], fractions, target, kappa)
    same_with_gradient(kappa * loss, quantiles, expected, clear)  # rlax does not divide by kappa


@pytest.mark.parametrize("temperature", [0.03, 1.0])
def test_munchausen(rng, temperature):
    values, (action, _, _) = normal(rng, B, A, scale=0.1), transitions(rng)

    def softmax(values, action):
        policy = distrax.Softmax(values, temperature)
        bonus = 0.9 * jax.numpy.clip(temperature * policy.log_prob(action), -0.2, 0.0)
        soft_value = temperature * jax.nn.logsumexp(values / temperature)
        return jax.nn.log_softmax(values / temperature), bonus, temperature * policy.entropy(), soft_value

    log_probabilities, bonus, entropy, soft_value = each(softmax)(values, action)
    values, action = tensors(values, action)
    ours = log_policy(values, temperature)
    same(ours, log_probabilities)
    same(munchausen_bonus(select_action(ours, action), 0.9, temperature, -0.2), bonus)
    same(entropy_bonus(ours, temperature), entropy)
    same((ours.exp() * values).sum(1) + entropy_bonus(ours, temperature), soft_value)


@pytest.mark.parametrize("eps", [1e-3, 0.01])
def test_value_rescaling(rng, eps):
    values = np.float32(rng.choice([-1.0, 1.0], B) * 10 ** rng.uniform(-6, 6, B))
    with jax.enable_x64(True):  # rlax's inverse loses half of the digits of float32
        expected = rlax.signed_hyperbolic(values.astype(np.float64), eps)
        inverse = rlax.signed_parabolic(values.astype(np.float64), eps)
        same(rescale(torch.from_numpy(values), eps), expected)
        same(unrescale(torch.from_numpy(values), eps), inverse)
