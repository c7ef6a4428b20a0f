"""YAML as version 1.2 means it: ``1e-4`` is a number, ``on`` is text, a key appears once.

PyYAML implements YAML 1.1. Only its parser is used: scalars, mappings and lists are built here, so that
nothing but plain values can come out of a file, and so that every key knows its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]

MAX_DEPTH = 40
# An alias counts as often as it is used: a few lines of aliases can stand for billions of values.
MAX_VALUES = 20_000
MAX_NUMBER_LENGTH = 100

_STANDARD = "tag:yaml.org,2002:"
_DIGITS = r"[0-9]+(?:_[0-9]+)*"


def _integer(text: str) -> int:
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


def _float(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))


# The core schema, and digits grouped with underscores. The first match wins; what matches nothing is text.
_SCALARS: dict[str, tuple[re.Pattern[str], str, Callable[[str], Any]]] = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)\Z"), "~nN", lambda _: None),
    "bool": (
        re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
        "tTfF",
        lambda text: text.lower() == "true",
    ),
    "int": (re.compile(rf"(?:[-+]?{_DIGITS}|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), "-+0123456789", _integer),
    "float": (
        re.compile(
            rf"(?:[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        "-+.0123456789",
        _float,
    ),
}


def add_core_schema(owner: type[yaml.SafeLoader] | type[yaml.SafeDumper]) -> None:
    """Teaches a PyYAML loader or dumper class which plain scalars are not text."""
    for name, (pattern, first, _) in _SCALARS.items():
        owner.add_implicit_resolver(_STANDARD + name, pattern, [*first, ""] if name == "null" else list(first))


class _Loader(yaml.SafeLoader):
    """Parses, and tells by the core schema which plain scalars are not text."""


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1
add_core_schema(_Loader)


class YamlError(ValueError):
    """A text that is not the YAML we read.

    Attributes:
        problem: What is wrong, in one line.
        line: Line, from 1.
        column: Column, from 1.
    """

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Document:
    """What a text holds.

    Attributes:
        value: Plain values: dict with text keys, list, str, int, float, bool, None. None for an empty text.
        lines: The line, from 1, of every key and list item.
        empty: The text holds nothing but space and comments.
    """

    value: Any
    lines: dict[KeyPath, int]
    empty: bool = False


def parse(text: str) -> Document:
    """Reads one YAML document.

    Raises:
        YamlError: The text is not YAML, a key appears twice or is not text, a tag asks for more than plain
            values, or the nesting or the number of values is absurd.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "not YAML"
        if "'\\t'" in problem:
            problem += "; indent with spaces"
        raise _at(mark, problem.replace("'<stream end>'", "the end")) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = error.position - (before.rfind("\n") + 1)
        problem = f"character #x{ord(text[error.position]):04x} is not allowed"
        raise YamlError(problem, before.count("\n") + 1, column + 1) from None
    except RecursionError:
        raise YamlError("nested too deeply", 1, 1) from None
    except (ValueError, OverflowError):  # PyYAML on escapes beyond Unicode and absurd version numbers
        raise YamlError("an escape sequence or a directive is out of range", 1, 1) from None
    if root is None:
        return Document(None, {}, empty=True)
    builder = _Builder()
    return Document(builder.build(root, ()), builder.lines)


def _at(mark: yaml.Mark | None, problem: str) -> YamlError:
    line = " ".join(problem.split())
    printable = line if line.isprintable() else ascii(line)[1:-1]
    return YamlError(printable, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1)


def _no_tag(node: yaml.Node) -> YamlError:
    tag = node.tag.replace(_STANDARD, "!!")
    return _at(node.start_mark, f"tag {tag} is not allowed: use plain values")


class _Builder:
    """Turns parsed nodes into plain values and notes lines."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._values = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self._values += 1
        if len(path) > MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} levels deep, or an alias that holds itself"
            raise _at(node.start_mark, problem)
        if self._values > MAX_VALUES:
            raise _at(node.start_mark, f"more than {MAX_VALUES} values, aliases included")
        if isinstance(node, yaml.MappingNode) and node.tag == _STANDARD + "map":
            return dict(self._items(node, path))
        if isinstance(node, yaml.SequenceNode) and node.tag == _STANDARD + "seq":
            return [self._entry(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        raise _no_tag(node)

    def _entry(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.build(node, path)

    def _items(self, mapping: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in mapping.value:
            key = _key(key_node)
            line = key_node.start_mark.line + 1
            if key in seen:
                raise _at(key_node.start_mark, f"key '{key}' appears twice, first on line {seen[key]}")
            seen[key] = line
            self.lines[(*path, key)] = line
            yield key, self.build(value_node, (*path, key))


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _at(node.start_mark, "a list or mapping is not a key: keys are text")
    key = _scalar(node)
    if not isinstance(key, str) or not key.isprintable() or not key:
        raise _at(node.start_mark, f"'{node.value}' is not a key: keys are text, numbers need quotes")
    if key == "<<" and node.style is None:
        raise _at(node.start_mark, "merge keys ('<<') are not YAML 1.2: use 'extends' or repeat the keys")
    return key


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    name = node.tag.removeprefix(_STANDARD)
    if name == "str":
        if re.search("[\ud800-\udfff]", text):
            raise _at(node.start_mark, "half of a surrogate pair is not a character")
        return text
    if name not in _SCALARS:
        raise _no_tag(node)
    pattern, _, convert = _SCALARS[name]
    if not pattern.match(text):
        raise _at(node.start_mark, f"'{text}' does not read as {name}")
    if len(text) > MAX_NUMBER_LENGTH:
        raise _at(node.start_mark, f"a number of {len(text)} characters is too long")
    return convert(text)
