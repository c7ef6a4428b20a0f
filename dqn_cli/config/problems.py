"""Checks a mapping against a schema and says all that is wrong at once, in plain English."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dqn_cli.config.schema import Place, place_of
from dqn_cli.config.yaml12 import KeyPath
from dqn_cli.core.errors import UsageError, nearest, one_line
from dqn_cli.core.options import Options

T = TypeVar("T", bound=Options)

_SHOWN = 60
_MOST_OF_A_SENTENCE = 600
_FEW = 16

_REQUIREMENTS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "none_required": "must be null",
    "missing": "is required but missing",
}

# Raised by validators of the schema, in words meant for people.
_OWN_WORDS = ("value_error", "assertion_error")


def validate(
    mapping: Mapping[str, Any], schema: type[T], origin: str, places: Mapping[KeyPath, str] | None = None
) -> T:
    """Returns the options that a mapping describes.

    Args:
        mapping: Plain values.
        schema: The options model.
        origin: Where the mapping comes from, for messages.
        places: Labels of single keys, such as ``configs/x.yaml:12``; a key without one has its section's.

    Raises:
        UsageError: Something is wrong. The first line counts the problems, each other line is one of them.
    """
    try:
        return schema.model_validate(mapping)
    except ValidationError as error:
        found = [_locate(details, place_of(schema)) for details in error.errors(include_url=False)]
    labels = {(): origin, **(places or {})}
    order = {path: index for index, path in enumerate(labels)}
    lines: list[tuple[int, str]] = []
    for group in _groups(found):
        path = group[0].blamed
        place = next(path[:depth] for depth in range(len(path), -1, -1) if path[:depth] in labels)
        # A rule of the schema may have several things to say, a line each.
        sentences = _sentence(group).split("\n")
        lines += [(order[place], f"{labels[place]}: {one_line(said, _MOST_OF_A_SENTENCE)}") for said in sentences]
    lines.sort(key=lambda line: line[0])
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    raise UsageError("\n".join([f"{count} in {origin}", *(line for _, line in lines)]))


@dataclass(frozen=True, slots=True)
class _Finding:
    """One error of pydantic.

    Attributes:
        details: The error as pydantic tells it.
        path: Keys and list indices alone.
        union: Path of the outermost union of plain types on the way, None without one.
        place: What may stand at ``path``; for an unknown key, what may stand around it.
        section: The union of kinds that was entered last, None if a key was entered since.
        kind: The kind taken in ``section``.
    """

    details: ErrorDetails
    path: KeyPath
    union: KeyPath | None
    place: Place | None
    section: Place | None
    kind: str

    @property
    def type(self) -> str:
        return self.details["type"]

    @property
    def blamed(self) -> KeyPath:
        """The key whose line is shown."""
        return (*self.path, "kind") if self.type == "union_tag_invalid" else self.path


def _locate(details: ErrorDetails, place: Place | None) -> _Finding:
    loc = details["loc"]
    unknown = loc[-1:] if details["type"] == "extra_forbidden" else ()
    path: KeyPath = ()
    union: KeyPath | None = None
    section: Place | None = None
    kind = ""
    for element in loc[: len(loc) - len(unknown)]:
        if place is not None and place.is_union:
            if place.kinds:
                section, kind = place, str(element)
            elif union is None:
                union = path
            place = place.member(str(element))
        else:
            path, section = (*path, element), None
            place = place.child(element) if place is not None else None
    return _Finding(details, (*path, *unknown), union, place, section, kind)


def _groups(found: Iterable[_Finding]) -> list[list[_Finding]]:
    """Puts together the complaints about one value: each member of a union of plain types has its own."""
    by_union: dict[KeyPath | int, list[_Finding]] = {}
    for index, finding in enumerate(found):
        by_union.setdefault(index if finding.union is None else finding.union, []).append(finding)
    groups = []
    for union, members in by_union.items():
        top = [member for member in members if isinstance(union, int) or len(member.path) == len(union)]
        # A mapping or a list was meant for the member that reads such: only its complaints matter.
        meant = [member for member in members if member not in top or not _is_wrong_type(member)]
        scalar = any(not isinstance(member.details["input"], dict | list | tuple) for member in top)
        groups += [members] if scalar or not meant else [[member] for member in meant]
    return groups


def _is_wrong_type(finding: _Finding) -> bool:
    return finding.type in _REQUIREMENTS or finding.type == "literal_error"


def _sentence(group: list[_Finding]) -> str:
    first = group[0]
    if first.type == "extra_forbidden":
        return _unknown_key(first)
    requirements = list(dict.fromkeys(_requirement(finding) for finding in group))
    text = " or ".join([requirements[0], *(other.removeprefix("must be ") for other in requirements[1:])])
    value = first.details["input"]
    if text.startswith("must ") and first.type not in _OWN_WORDS:
        text += f", got {_show(value)}{_hint(first, requirements)}"
    return f"{_dotted(first.path)}: {text}" if first.path else text


def _hint(finding: _Finding, requirements: Iterable[str]) -> str:
    value = finding.details["input"]
    if not isinstance(value, str):
        return ""
    if finding.section is not None and value in finding.section.kinds:
        return f". Write {{kind: {value}}}"
    near = nearest(value, re.findall(r"'([^']*)'", " ".join(requirements)))
    return f".{near}" if near else ""


def _requirement(finding: _Finding) -> str:
    if finding.type in _OWN_WORDS:
        return str(finding.details["ctx"]["error"])
    if finding.type in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_kind(finding)
    if finding.type in _REQUIREMENTS:
        return _REQUIREMENTS[finding.type]
    message = finding.details["msg"]
    rule = re.match(r"\w+ should (.*?)(?: after validation)?(?:, not .*)?$", message)
    return f"must {rule[1]}" if rule else message


def _unknown_kind(finding: _Finding) -> str:
    kinds = finding.place.kinds if finding.place is not None else ()
    valid = ", ".join(kinds)
    value = finding.details["input"]
    if not isinstance(value, dict):
        return "must be a mapping"
    if value.get("kind") is None:
        return f"needs a kind. Valid kinds: {valid}"
    kind = value["kind"]
    return f"unknown kind {_show(kind)}.{nearest(str(kind), kinds)} Valid kinds: {valid}"


def _unknown_key(finding: _Finding) -> str:
    text = f"unknown key '{_dotted(finding.path)}'"
    key, section, names = str(finding.path[-1]), finding.section, _keys(finding.place)
    owners = [kind for kind in section.kinds if key in _keys(section.of_kind(kind))] if section is not None else []
    if owners:
        kinds = ("kind " if len(owners) == 1 else "kinds ") + " and ".join(f"'{owner}'" for owner in owners)
        return f"{text}. It is a key of {kinds}, and this is kind '{finding.kind}'"
    if near := nearest(key, names):
        return f"{text}.{near}"
    of_kind = f" of kind '{finding.kind}'" if section is not None else ""
    return f"{text}. Valid keys{of_kind}: {', '.join(names)}" if 0 < len(names) <= _FEW else text


def _keys(place: Place | None) -> list[str]:
    return list(place.model.model_fields) if place is not None and place.model is not None else []


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{_cut(key)}" for key in path).removeprefix(".")


def _show(value: Any) -> str:
    """Returns a value as a config would write it, cut to a readable length."""
    text = f"'{value}'" if isinstance(value, str) and value.isprintable() else json.dumps(value, default=str)
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
