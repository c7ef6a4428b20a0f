"""Messages: all problems at once, each with its line, its key and its value, in plain English."""

from pathlib import Path

import pytest

from dqn_cli.config import load_config, validate
from dqn_cli.core.errors import UsageError
from tests.config.example import Example

JARGON = (
    "Input",
    "extra_forbidden",
    "pydantic",
    "dictionary",
    "instance of",
    "tag",
    "discriminator",
    "validat",
)


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    """Returns the lines of the error of a config, the folder cut off."""
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config(str(path), overrides, Example, tmp_path / "presets")
    lines = str(caught.value).replace(f"{tmp_path}/", "").split("\n")
    assert not [line for line in lines for word in JARGON if word in line]
    return lines


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path):
    text = "learning:\n  gamma: 1.5\n  optimizer:\n    lr: -1\nseed: 0.5\nenv: {id: A}\ntotl_steps: 3\n"
    assert problems(tmp_path, text) == [
        "4 problems in x.yaml",
        "x.yaml:2: learning.gamma: must be less than or equal to 1, got 1.5",
        "x.yaml:4: learning.optimizer.lr: must be greater than 0, got -1",
        "x.yaml:5: seed: must be a whole number, got 0.5",
        "x.yaml:7: unknown key 'totl_steps'. Did you mean 'total_steps'?",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("learning: {optimiser: 3}", "unknown key 'learning.optimiser'. Did you mean 'optimizer'?"),
        ("stop: {return_mean: 1, zzz: 3}", "unknown key 'stop.zzz'. Valid keys: return_mean, window"),
        (
            "learning: {optimizer: {kind: adam, zzz: 3}}",
            "unknown key 'learning.optimizer.zzz'. Valid keys of kind 'adam': kind, lr, eps",
        ),
        (
            "learning: {optimizer: {decay: 0.9}}",
            "unknown key 'learning.optimizer.decay'. It is a key of kind 'rmsprop', and this is kind 'adam'",
        ),
        (
            "learning: {optimizer: {kind: adm}}",
            "learning.optimizer: unknown kind 'adm'. Did you mean 'adam'? Valid kinds: adam, rmsprop",
        ),
        (
            "learning: {optimizer: {kind: [1]}}",
            "learning.optimizer: unknown kind [1]. Valid kinds: adam, rmsprop",
        ),
        (
            "learning: {optimizer: {kind: null}}",
            "learning.optimizer: needs a kind. Valid kinds: adam, rmsprop",
        ),
        (
            "learning: {optimizer: adam}",
            "learning.optimizer: must be a mapping, got 'adam'. Write {kind: adam}",
        ),
        ("learning: {optimizer: 5}", "learning.optimizer: must be a mapping, got 5"),
        ("learning: 5", "learning: must be a mapping, got 5"),
        ("only: {kind: mpl}", "only: unknown kind 'mpl'. Did you mean 'mlp'? Valid kinds: mlp"),
        ("only: {hidden: [0]}", "only.hidden[0]: must be greater than or equal to 1, got 0"),
        (
            "network: {torso: {kind: mlp, hidden: [1, 'a']}}",
            "network.torso.hidden[1]: must be a whole number, got 'a'",
        ),
        ("network: {torso: {hidden: 5}}", "network.torso.hidden: must be a list, got 5"),
        ("threads: fast", "threads: must be a whole number or 'auto', got 'fast'"),
        ("threads: aut", "threads: must be a whole number or 'auto', got 'aut'. Did you mean 'auto'?"),
        ("threads: 0", "threads: must be greater than or equal to 1 or 'auto', got 0"),
        ("storage: {chanels: [1]}", "unknown key 'storage.chanels'. Did you mean 'channels'?"),
        ("storage: {channels: [0]}", "storage.channels[0]: must be greater than or equal to 1, got 0"),
        ("view: {hiden: [1]}", "unknown key 'view.hiden'. Did you mean 'hidden'?"),
        ("view: {kind: cnn, channels: [0]}", "view.channels[0]: must be greater than or equal to 1, got 0"),
        ("view: {kind: zzz}", "view: unknown kind 'zzz'. Valid kinds: mlp, cnn"),
        ("sizes: [1, a]", "sizes[1]: must be a whole number, got 'a'"),
        ("sizes: 5", "sizes: must be a list or 'auto', got 5"),
        ("storage: none", "storage: must be 'auto' or 'dense' or a mapping, got 'none'"),
        (
            "learning: {loss: hubr}",
            "learning.loss: must be 'auto', 'huber' or 'squared', got 'hubr'. Did you mean 'huber'?",
        ),
        ("seed: true", "seed: must be a whole number, got true"),
        ("seed: '5'", "seed: must be a whole number, got '5'"),
        ("seed: null", "seed: must be a whole number, got null"),
        ("learning: {optimizer: {lr: .inf}}", "learning.optimizer.lr: must be a finite number, got Infinity"),
        ("stop: {}", "stop.return_mean: is required but missing"),
        ("env: {id: 5}", "env.id: must be text, got 5"),
        (
            "learning: {augmentation: [{kind: crop, pad: -1}]}",
            "learning.augmentation[0].pad: must be greater than or equal to 0, got -1",
        ),
        (
            "learning: {augmentation: [{kind: crp}]}",
            "learning.augmentation[0]: unknown kind 'crp'. Did you mean 'crop'? Valid kinds: crop, shift",
        ),
        (
            "learning: {loss: squared, max_grad_norm: null}",
            "learning: loss 'squared' needs max_grad_norm, or it diverges",
        ),
    ],
)
def test_one_problem(tmp_path, text, line):
    found = problems(tmp_path, text if text.startswith("env") else text + "\nenv: {id: A}")
    assert found == ["1 problem in x.yaml", f"x.yaml:1: {line}"]


def test_a_problem_of_the_whole_file_stands_without_a_key(tmp_path):
    assert problems(tmp_path, "seed: 13\nenv: {id: A}")[1:] == ["x.yaml: seed 13 is unlucky"]
    assert problems(tmp_path, "seed: 1")[1:] == ["x.yaml: env: is required but missing"]


def test_a_missing_key_has_the_line_of_its_section(tmp_path):
    assert problems(tmp_path, "seed: 1\nenv:\n  num_envs: 2")[1:] == ["x.yaml:2: env.id: is required but missing"]


def test_an_unknown_kind_has_the_line_of_kind(tmp_path):
    found = problems(tmp_path, "env:\n  id: A\n  kind: atarii")
    assert found[1:] == ["x.yaml:3: env: unknown kind 'atarii'. Did you mean 'atari'? Valid kinds: gymnasium, atari"]


def test_a_key_that_came_from_an_override_names_the_override(tmp_path):
    text = "env: {id: A}\nlearning: {gamma: 3}"
    found = problems(tmp_path, text, "learning.optimizer.lr=-1", "stop={window: 0, return_mean: 1}", "env.x.y=1")
    assert found == [
        "4 problems in x.yaml",
        "x.yaml:2: learning.gamma: must be less than or equal to 1, got 3",
        "override learning.optimizer.lr=-1: learning.optimizer.lr: must be greater than 0, got -1",
        "override stop={window: 0, return_mean: 1}: stop.window: must be greater than or equal to 1, got 0",
        "override env.x.y=1: unknown key 'env.x'. Valid keys of kind 'gymnasium': kind, id, num_envs, kwargs",
    ]


def test_a_key_that_came_from_a_parent_names_the_parent(tmp_path):
    (tmp_path / "base.yaml").write_text("env: {id: A}\nseed: -1")
    assert problems(tmp_path, "extends: base.yaml\ntotal_steps: 0")[1:] == [
        "base.yaml:2: seed: must be greater than or equal to 0, got -1",
        "x.yaml:2: total_steps: must be greater than or equal to 1, got 0",
    ]


def test_long_values_are_cut(tmp_path):
    line = problems(tmp_path, f"env: {{id: A}}\nseed: {'x' * 500}")[1]
    assert line.endswith("x...")
    assert len(line.partition("got ")[2]) == 60


def test_a_mapping_without_lines_is_named_by_its_origin():
    with pytest.raises(UsageError, match=r"^1 problem in checkpoint\.pt\ncheckpoint\.pt: seed: must be a whole"):
        validate({"seed": "x", "env": {"id": "A"}}, Example, "checkpoint.pt")
