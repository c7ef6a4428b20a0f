"""``key.sub=value``: what the command line lays on top of a config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dqn_cli.config.layers import Layer, merge
from dqn_cli.config.yaml12 import MAX_DEPTH, KeyPath, YamlError, parse
from dqn_cli.core.errors import UsageError

_SHOWN = 60


def read_overrides(overrides: Iterable[str]) -> Layer:
    """Returns the overrides as one layer; a later override wins over an earlier one.

    Values are YAML: ``gamma=0.99``, ``hidden=[64, 64]``, ``stop={window: 100}``, ``stop=null``.

    Raises:
        UsageError: An override is not of the form ``key.sub=value``.
    """
    layer = Layer()
    for override in overrides:
        layer = merge(layer, _read(override))
    return layer


def _read(override: str) -> Layer:
    name, equals, text = override.partition("=")
    shown = override if override.isprintable() else ascii(override)[1:-1]
    label = "override " + (shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "...")
    if not equals:
        raise UsageError(f"{label}: there is no '='; write key=value, for example section.key=value")
    keys = [key.strip() for key in name.split(".")]
    if not all(key and key.isprintable() for key in keys) or len(keys) > MAX_DEPTH:
        raise UsageError(f"{label}: the key is malformed; write section.key=value")
    try:
        document = parse(text)
    except YamlError as error:
        raise UsageError(f"{label}: the value is not YAML: {error.problem} (at character {error.column})") from None
    if document.empty:
        key = ".".join(keys)
        raise UsageError(f"{label}: there is no value; write {key}=null for null, {key}='\"\"' for empty text")
    value: Any = document.value
    places: dict[KeyPath, str] = {}
    for key in reversed(keys):
        value = {key: value}
    for depth in range(len(keys)):
        places[tuple(keys[: depth + 1])] = label
    places |= {(*keys, *path): label for path in document.lines}
    return Layer(value, places)
