"""From the name of a config to options: find the file, follow ``extends``, lay overrides on top, check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from dqn_cli.config.layers import Layer, merge
from dqn_cli.config.overrides import read_overrides
from dqn_cli.config.problems import validate
from dqn_cli.config.schema import Place, place_of
from dqn_cli.config.yaml12 import YamlError, parse
from dqn_cli.core.errors import UsageError, nearest, one_line
from dqn_cli.core.options import Options

T = TypeVar("T", bound=Options)

MAX_BYTES = 256 * 1024
_SUFFIXES = (".yaml", ".yml")
_ALL_PRESETS = " 'dqn config list' shows all presets"


@dataclass(frozen=True, slots=True)
class LoadedConfig(Generic[T]):
    """A config that was read and checked.

    Attributes:
        options: What it says, defaults included.
        source: The file.
        name: A short name, fit for a folder: ``cartpole``; ``atari-nature`` for the preset ``atari/nature``.
        mapping: What it says, without defaults, after ``extends`` and overrides.
    """

    options: T
    source: Path
    name: str
    mapping: dict[str, Any]


def load_config(name: str, overrides: Iterable[str], schema: type[T], presets: Path) -> LoadedConfig[T]:
    """Reads the config called ``name`` with ``overrides`` on top.

    Raises:
        UsageError: There is no such config, it cannot be read, or it is wrong; all problems are told at once.
    """
    source = find_config(name, presets)
    layer = merge(read_mapping(source, presets, schema), read_overrides(overrides), place_of(schema))
    options = validate(layer.mapping, schema, _display(source), layer.places)
    return LoadedConfig(options, source, _short_name(source, presets), layer.mapping)


def list_presets(presets: Path) -> list[str]:
    """Returns the names of the presets in a folder, such as ``cartpole`` and ``atari/nature``, sorted."""
    files = (path.relative_to(presets) for path in presets.rglob("*.yaml") if path.is_file())
    return sorted(file.with_suffix("").as_posix() for file in files)


def find_config(name: str, presets: Path, folder: Path | None = None) -> Path:
    """Returns the file of a config named by its path, relative to ``folder``, or by the name of a preset.

    Raises:
        UsageError: There is none; the message names the nearest ones.
    """
    known = list_presets(presets)
    if name in known:
        return presets / f"{name}.yaml"
    path = Path(name) if folder is None else folder / name
    kind = _file_kind(path)
    if kind == "file":
        return path
    shown = one_line(name)
    if kind == "folder":
        raise UsageError(f"'{shown}' is a folder, not a config: name a file in it")
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"there is no preset or file '{shown}'.{nearest(name, known) or _ALL_PRESETS}")
    near = nearest(name.removesuffix(path.suffix), known)
    if not near and _file_kind(path.parent) == "folder":
        near = nearest(path.name, [file.name for suffix in _SUFFIXES for file in path.parent.glob(f"*{suffix}")])
    raise UsageError(f"there is no file '{shown}'.{near or _ALL_PRESETS}")


def read_mapping(path: Path, presets: Path, schema: type[Options] | None = None) -> Layer:
    """Reads a file on top of what it ``extends``.

    ``extends`` names a file, relative to this one, or a preset. With a ``schema``, a section without ``kind``
    is known to be of its default kind when a child chooses another.

    Raises:
        UsageError: A file of the chain is missing or not readable as config, or the chain is a circle.
    """
    place = place_of(schema) if schema is not None else None
    return _read_chain(path, presets, place, ())


def _read_chain(path: Path, presets: Path, place: Place | None, children: tuple[Path, ...]) -> Layer:
    chain = (*children, path)
    if any(path.resolve() == child.resolve() for child in children):
        raise UsageError("'extends' goes in a circle: " + " -> ".join(map(_display, chain)))
    layer = _read_file(path)
    if "extends" not in layer.mapping:
        return layer
    label = layer.places[("extends",)]
    parent = layer.mapping["extends"]
    if not isinstance(parent, str) or not parent:
        raise UsageError(f"{label}: extends: must be the name of a file or of a preset")
    own = Layer(
        {key: value for key, value in layer.mapping.items() if key != "extends"},
        {keys: where for keys, where in layer.places.items() if keys[0] != "extends"},
    )
    try:
        source = find_config(parent, presets, path.parent)
    except UsageError as error:
        raise UsageError(f"{label}: extends: {error}") from None
    return merge(_read_chain(source, presets, place, chain), own, place)


def _read_file(path: Path) -> Layer:
    shown = _display(path)
    try:
        document = parse(_read_text(path))
    except YamlError as error:
        raise UsageError(f"{shown}:{error.line}:{error.column}: {error.problem}") from None
    if document.empty:
        return Layer()
    if not isinstance(document.value, dict):
        raise UsageError(f"{shown}:1: a config is a mapping of keys to values, not a list or a single value")
    return Layer(document.value, {key: f"{shown}:{line}" for key, line in document.lines.items()})


def _read_text(path: Path) -> str:
    shown = _display(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot read {shown}: {reason}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{shown} is larger than {MAX_BYTES // 1024} KiB: that is not a config")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{shown}:{line}: not UTF-8 text (byte {data[error.start]:#04x})") from None


def _short_name(source: Path, presets: Path) -> str:
    try:
        inside = source.resolve().relative_to(presets.resolve())
    except ValueError:
        return source.stem
    return "-".join(inside.with_suffix("").parts)


def _display(path: Path) -> str:
    """Returns a path relative to the working folder where it lies inside it."""
    try:
        shown = str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        shown = str(path)
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def _file_kind(path: Path) -> str:
    try:
        return "file" if path.is_file() else "folder" if path.is_dir() else "nothing"
    except (OSError, ValueError):  # a name too long or with a null character names nothing
        return "nothing"
