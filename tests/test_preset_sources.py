"""Presets against what their sources say: values are written as they stand there."""

from __future__ import annotations

from typing import Any

import pytest

from dqn_cli.cli.options import presets_folder
from dqn_cli.config import load_config
from dqn_cli.schema import RunOptions


def preset(name: str) -> Any:
    return load_config(name, [], RunOptions, presets_folder()).options


# preset: (sticky, noop_max, fire_on_reset, terminal_on_life_loss, num_envs)
PROTOCOLS = {
    **dict.fromkeys(("double", "dueling", "per", "noisy", "c51", "qr", "iqn", "rainbow"), (0.0, 30, False, True, 8)),
    **dict.fromkeys(("munchausen", "impala-qr"), (0.25, 0, False, False, 8)),
    "btr": (0.25, 30, False, False, 64),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocol(name):
    o = preset(f"atari/{name}")
    e = o.env
    assert (e.sticky, e.noop_max, e.fire_on_reset, e.terminal_on_life_loss, e.num_envs) == PROTOCOLS[name]
    assert (e.full_action_set, e.frame_skip, e.stack, e.screen, e.max_episode_frames) == (False, 4, 4, 84, 108_000)
    assert (o.total_steps, o.replay.reward_clip) == (50_000_000, 1.0)


# head, loss, bootstrap, n, sampler, warm-up, target, clip
AGENTS = {
    "double": ("scalar", "huber", "double", 1, "uniform", 50_000, 30_000, None),
    "dueling": ("scalar", "huber", "double", 1, "uniform", 50_000, 30_000, 10.0),
    "per": ("scalar", "huber", "double", 1, "prioritized", 50_000, 30_000, None),
    "noisy": ("scalar", "huber", "greedy", 1, "uniform", 50_000, 10_000, None),
    "c51": ("categorical", "cross_entropy", "greedy", 1, "uniform", 50_000, 10_000, 10.0),
    "qr": ("quantile", "quantile_huber", "greedy", 1, "uniform", 50_000, 10_000, 10.0),
    "iqn": ("implicit_quantile", "quantile_huber", "greedy", 1, "uniform", 20_000, 10_000, None),
    "munchausen": ("scalar", "huber", "munchausen", 1, "uniform", 20_000, 8_000, None),
    "rainbow": ("categorical", "cross_entropy", "double", 3, "prioritized", 20_000, 8_000, 10.0),
    "impala-qr": ("quantile", "quantile_huber", "greedy", 3, "prioritized", 20_000, 8_000, None),
}


@pytest.mark.parametrize("name", AGENTS)
def test_agent(name):
    o = preset(f"atari/{name}")
    learning, r = o.learning, o.replay
    assert (
        o.network.head.kind,
        learning.loss,
        learning.bootstrap.kind,
        r.n_step,
        r.sampler.kind,
        r.warmup_steps,
        learning.target.every_steps,
        learning.max_grad_norm,
    ) == AGENTS[name]
    assert (learning.batch_size, learning.gamma, learning.update_every_steps, learning.updates, r.capacity) == (
        32,
        0.99,
        4,
        1,
        1_000_000,
    )


OPTIMIZERS = {
    "double": ("rmsprop", 2.5e-4, 0.01 / 32**2),
    "per": ("rmsprop", 2.5e-4 / 4, 0.01 / 32**2 / 4**2),
    "dueling": ("rmsprop", 6.25e-5, 0.01 / 32**2),
    "noisy": ("rmsprop", 2.5e-4, 0.01 / 32**2),
    "c51": ("adam", 2.5e-4, 0.01 / 32),
    "qr": ("adam", 5e-5, 0.01 / 32),
    "iqn": ("adam", 5e-5, 0.01 / 32),
    "munchausen": ("adam", 5e-5, 3.125e-4),
    "rainbow": ("adam", 2.5e-4 / 4, 0.005 / 32),
    "impala-qr": ("adam", 5e-5, 3.125e-4),
    "btr": ("adam", 1e-4, 0.005 / 256),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name):
    p = preset(f"atari/{name}").learning.optimizer
    assert (p.kind, p.lr, p.eps) == OPTIMIZERS[name]
    if p.kind == "rmsprop":
        assert (p.decay, p.centered, p.eps_inside_sqrt) == (0.95, True, True)


# start, end, decay, off, evaluation
EXPLORATION = {
    "double": (1.0, 0.01, 1_000_000, 0.01),
    "per": (1.0, 0.01, 1_000_000, 0.01),
    "dueling": (1.0, 0.01, 1_000_000, 0.001),
    "noisy": (0.0, 0.0, 0, 0.0),
    "rainbow": (0.0, 0.0, 0, 0.0),
    "c51": (1.0, 0.01, 1_000_000, 0.001),
    "qr": (1.0, 0.01, 1_000_000, 0.001),
    "iqn": (1.0, 0.01, 1_000_000, 0.001),
    "munchausen": (1.0, 0.01, 250_000, 0.001),
    "impala-qr": (1.0, 0.01, 250_000, 0.001),
    "btr": (1.0, 0.01, 2_000_000, 0.01),
}


@pytest.mark.parametrize("name", EXPLORATION)
def test_exploration(name):
    o = preset(f"atari/{name}")
    x = o.exploration
    assert (x.start, x.end, x.decay_steps, o.evaluation.epsilon) == EXPLORATION[name]


def priorities(o: Any) -> tuple[float, float, float, int | None]:
    s = o.replay.sampler
    return s.alpha, s.beta.start, s.beta.end, s.beta.over_steps


def test_priorities_of_several():
    assert priorities(preset("atari/per")) == (0.6, 0.4, 1.0, None)
    assert priorities(preset("atari/rainbow")) == (0.5, 0.4, 1.0, None)
    assert priorities(preset("atari/btr")) == (0.2, 0.4, 1.0, None)
    assert priorities(preset("atari/impala-qr")) == (0.5, 0.0, 0.0, None)
    assert priorities(preset("atari100k/der")) == (0.5, 0.5, 0.5, None)
    for n in ("c51", "rainbow"):
        h = preset(f"atari/{n}").network.head
        assert (h.atoms, h.v_min, h.v_max) == (51, -10.0, 10.0)
    o = preset("atari/rainbow")
    assert (o.network.noisy.sigma, o.network.head.dueling, o.network.head.hidden, o.network.torso.hidden) == (
        0.1,
        True,
        (512,),
        (),
    )
    o = preset("atari/noisy")
    assert (o.network.noisy.sigma, o.network.head.dueling, o.network.head.hidden, o.network.torso.hidden) == (
        0.5,
        False,
        (512,),
        (),
    )
    o = preset("atari/dueling")
    assert (o.network.noisy, o.network.head.dueling, o.network.head.hidden, o.network.torso.hidden) == (
        None,
        True,
        (512,),
        (),
    )
    h = preset("atari/iqn").network.head
    assert (h.quantiles, h.acting_quantiles, h.cosines, h.dueling, h.hidden) == (64, 64, 64, False, (512,))
    assert preset("atari/qr").network.head.quantiles == 201
    assert preset("atari/qr").network.torso.hidden == (512,)
    b = preset("atari/munchausen").learning.bootstrap
    assert (b.alpha, b.temperature, b.floor) == (0.9, 0.03, -1.0)
    o = preset("atari/impala-qr")
    t = o.network.torso
    assert (t.channels, t.width, t.spectral_norm, t.pool, t.hidden, o.network.head.quantiles) == (
        (16, 32, 32),
        1,
        False,
        None,
        (512,),
        200,
    )


def test_btr():
    o = preset("atari/btr")
    t, h, learning, b = o.network.torso, o.network.head, o.learning, o.learning.bootstrap
    assert (t.kind, t.channels, t.width, t.spectral_norm, t.pool, t.hidden) == ("impala", (16, 32, 32), 2, True, 6, ())
    assert (h.kind, h.quantiles, h.acting_quantiles, h.cosines, h.dueling, h.hidden) == (
        "implicit_quantile",
        8,
        8,
        64,
        True,
        (512,),
    )
    assert o.network.noisy.sigma == 0.5
    assert (b.kind, b.alpha, b.temperature, b.floor) == ("munchausen", 0.9, 0.03, -1.0)
    assert (
        learning.batch_size,
        learning.gamma,
        learning.update_every_steps,
        learning.updates,
        learning.max_grad_norm,
        learning.target.every_updates,
    ) == (
        256,
        0.997,
        64,
        1,
        10.0,
        500,
    )
    assert (o.replay.capacity, o.replay.warmup_steps, o.replay.n_step) == (2**20, 200_000, 3)
    assert (o.exploration.begin_steps, o.exploration.off_after_steps, o.evaluation.episodes) == (0, 25_000_000, 100)


@pytest.mark.parametrize("name", ["der", "drq-eps"])
def test_100k(name):
    o = preset(f"atari100k/{name}")
    e, learning, r = o.env, o.learning, o.replay
    assert (o.total_steps, e.num_envs, e.sticky, e.noop_max, e.fire_on_reset, e.terminal_on_life_loss) == (
        100_000,
        1,
        0.0,
        30,
        False,
        True,
    )
    assert (
        learning.batch_size,
        learning.gamma,
        learning.update_every_steps,
        learning.updates,
        r.n_step,
        r.warmup_steps,
        r.capacity,
        r.reward_clip,
    ) == (32, 0.99, 1, 1, 10, 1_600, 100_000, 1.0)
    assert (
        learning.optimizer.kind,
        learning.optimizer.lr,
        learning.optimizer.eps,
        learning.max_grad_norm,
    ) == ("adam", 1e-4, 1.5e-4, None)
    # With a target network that is copied after every update double and greedy targets are the same bits.
    assert learning.bootstrap.kind == {"der": "double", "drq-eps": "greedy"}[name]
    assert (o.evaluation.every_steps, o.evaluation.episodes, o.evaluation.epsilon) == (100_000, 100, 0.001)


def test_der():
    o = preset("atari100k/der")
    h = o.network.head
    assert (h.kind, h.atoms, h.v_min, h.v_max, h.dueling, h.hidden, o.network.torso.hidden, o.network.noisy.sigma) == (
        "categorical",
        51,
        -10.0,
        10.0,
        True,
        (512,),
        (),
        0.1,
    )
    assert (o.learning.loss, o.learning.target.every_steps, o.learning.augmentation) == ("cross_entropy", 2_000, ())
    assert (o.exploration.start, o.exploration.end) == (0.0, 0.0)


def test_drq():
    o = preset("atari100k/drq-eps")
    h, learning = o.network.head, o.learning
    assert (h.kind, h.dueling, h.hidden, o.network.torso.hidden, o.network.noisy, o.replay.sampler.kind) == (
        "scalar",
        True,
        (),
        (512,),
        None,
        "uniform",
    )
    assert (learning.loss, learning.target.every_updates, learning.target.every_steps) == ("huber", 1, None)
    assert [a.model_dump() for a in learning.augmentation] == [
        {"kind": "random_shift", "pixels": 4},
        {"kind": "intensity", "scale": 0.05},
    ]
    assert (o.exploration.start, o.exploration.end, o.exploration.decay_steps) == (1.0, 0.01, 5_000)


@pytest.mark.parametrize("name", ["double", "dueling", "per", "noisy", "c51", "qr", "iqn", "munchausen", "rainbow"])
def test_minatar(name):
    base, o = preset("minatar/dqn"), preset(f"minatar/{name}")
    assert (o.env, o.total_steps, o.evaluation, o.checkpoint) == (
        base.env,
        base.total_steps,
        base.evaluation,
        base.checkpoint,
    )
    assert (o.learning.optimizer, o.learning.target, o.learning.batch_size) == (
        base.learning.optimizer,
        base.learning.target,
        base.learning.batch_size,
    )
    assert o.network.torso.channels == base.network.torso.channels
    assert (*o.network.torso.hidden, *o.network.head.hidden) == (128,)
