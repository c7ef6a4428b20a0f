"""Whatever stands in a file or an override: options or one clear error, never a traceback."""

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dqn_cli.config import load_config, validate
from dqn_cli.config.yaml12 import YamlError, parse
from dqn_cli.core.errors import UsageError
from tests.config.example import Example

TEXT = """\
extends: cartpole
seed: 1
threads: auto
env: {kind: gymnasium, id: "A", kwargs: {g: 1e-4, list: [1, ~]}}
network:
  torso: &torso
    kind: mlp
    hidden: [64, 64]
only: *torso
learning:
  loss: huber
  optimizer: {kind: rmsprop, lr: 1.0e-3}
  augmentation:
    - {kind: crop, pad: 4}
stop: {return_mean: 475}
"""
PIECES = [
    "&a ",
    "*a",
    "!!int ",
    "<<: ",
    "? ",
    ": ",
    "- ",
    "\n",
    "  ",
    "\t",
    "[",
    "]",
    "{",
    "}",
    "'",
    '"',
    "\\x",
    "%",
]
PIECES += [
    "|",
    ">",
    "---",
    "...",
    "1e999",
    "0x" + "f" * 300,
    "null",
    "kind",
    "\0",
    "\x85",
    "\ud800",
    "é",
    "#",
]
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 10**90, 1e308, float("nan"), "", "x", "\n", [], [[]], {}, {"kind": "mlp"}]
)


def mutated(text: str, seed: int) -> str:
    """Returns a text with a few pieces inserted, cut or doubled."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.choices(range(len(text) + 1), k=2))
        to = min(to, at + 12)
        text = text[:at] + chance.choice([chance.choice(PIECES), text[at:to] * 2, ""]) + text[to:]
    return text


def usage_error_or_none(call: Callable[[], object]) -> None:
    try:
        call()
    except UsageError as error:
        assert str(error).replace("\n", "").isprintable()  # noqa: PT017 (success is fine too)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    (folder / "cartpole.yaml").write_text("env: {id: CartPole-v1}")
    return folder


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_mutated_files(folder, seed):
    path: Path = folder / "mutated" / "x.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(mutated(TEXT, seed).encode("utf-8", "surrogatepass"))
    usage_error_or_none(lambda: load_config(str(path), [], Example, folder))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    override=st.sampled_from(["env.kwargs={a: [1]}", "learning.optimizer.kind=adam"]),
)
def test_mutated_overrides(folder, seed, override):
    usage_error_or_none(lambda: load_config("cartpole", [mutated(override, seed)], Example, folder))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), VALUES), min_size=1, max_size=4))
def test_mutated_values(changes):
    mapping = parse(TEXT).value
    for index, value in changes:
        spots = list(_spots(mapping))
        container, key = spots[index % len(spots)]
        container[key] = copy.deepcopy(value)
    usage_error_or_none(lambda: validate(mapping, Example, "mapping"))


def _spots(node: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from _spots(value)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("&*!|>%@`'\"[]{}:,-?#<=~ \n\t\\aA01.eEx_\ud800\x85"), max_size=40))
def test_the_parser_reads_or_refuses_any_text(text):
    try:
        parse(text)
    except YamlError as error:
        assert error.line >= 1  # noqa: PT017 (success is fine too)
