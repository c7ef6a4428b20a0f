"""Shipped presets: what each says of itself, and the settings of the older ones; golden runs train every one."""

from typing import Any

import pytest

from dqn_cli.cli.options import presets_folder
from dqn_cli.config import list_presets, load_config
from dqn_cli.schema import RunOptions


@pytest.mark.parametrize("preset", list_presets(presets_folder()))
def test_preset_says_what_it_is(preset):
    text = (presets_folder() / f"{preset}.yaml").read_text()
    assert text.startswith("# ")


def test_nature_is_the_papers():
    options: Any = load_config("atari/nature", [], RunOptions, presets_folder()).options
    learning, optimizer = options.learning, options.learning.optimizer
    assert (optimizer.kind, optimizer.lr, optimizer.decay, optimizer.centered) == ("rmsprop", 2.5e-4, 0.95, True)
    assert optimizer.eps == 0.01 / 32**2
    assert optimizer.eps_inside_sqrt
    assert (learning.batch_size, learning.gamma, learning.max_grad_norm) == (32, 0.99, None)
    assert (learning.update_every_steps, learning.updates, learning.target.every_steps) == (4, 1, 10_000)
    assert (options.replay.capacity, options.replay.warmup_steps, options.replay.reward_clip) == (
        1_000_000,
        50_000,
        1.0,
    )
    assert (options.env.sticky, options.env.fire_on_reset, options.env.terminal_on_life_loss) == (0.0, False, True)
    assert (options.exploration.start, options.exploration.end, options.exploration.decay_steps) == (
        1.0,
        0.1,
        1_000_000,
    )
    assert options.evaluation.epsilon == 0.05
    assert options.env.noop_max == 30


def test_cartpole_classic_is_the_textbooks():
    options: Any = load_config("cartpole-classic", [], RunOptions, presets_folder()).options
    learning = options.learning
    assert (options.replay.capacity, learning.batch_size, learning.gamma) == (100_000, 64, 0.99)
    assert (learning.optimizer.kind, learning.optimizer.lr) == ("adam", 5e-4)
    assert options.network.torso.hidden == (256, 256)
    assert learning.loss == "huber"
    assert learning.target.every_steps == 1_000
    assert options.exploration.kind == "epsilon_greedy"
