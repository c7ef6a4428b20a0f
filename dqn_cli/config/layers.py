"""Mappings that lie on top of each other: a parent file, a child file, the overrides of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dqn_cli.config.schema import Place
from dqn_cli.config.yaml12 import KeyPath


@dataclass(frozen=True, slots=True)
class Layer:
    """A mapping that remembers where each of its keys was written.

    Attributes:
        mapping: Plain values.
        places: For each key path, a label such as ``configs/x.yaml:12`` or ``override seed=1``.
    """

    mapping: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)


def merge(base: Layer, over: Layer, place: Place | None = None) -> Layer:
    """Returns ``over`` on top of ``base``: mappings merge, everything else replaces.

    A mapping that names another ``kind`` than the one below it replaces it whole, for the options of one
    kind mean nothing to another. Where ``base`` names no kind, the schema at ``place`` tells its default.
    """
    replaced: list[KeyPath] = []
    mapping = _merge(base.mapping, over.mapping, place, (), replaced)
    gone = set(replaced)
    kept = {
        path: label
        for path, label in base.places.items()
        if not any(path[:depth] in gone for depth in range(1, len(path) + 1))
    }
    return Layer(mapping, kept | over.places)


def _merge(
    base: dict[str, Any], over: dict[str, Any], place: Place | None, path: KeyPath, replaced: list[KeyPath]
) -> dict[str, Any]:
    merged = dict(base)
    here = place.of_kind(_kind({**base, **over}, place)) if place else None
    for key, value in over.items():
        old, inner = base.get(key), here.child(key) if here else None
        if isinstance(old, dict) and isinstance(value, dict) and not _changes_kind(old, value, inner):
            merged[key] = _merge(old, value, inner, (*path, key), replaced)
        else:
            merged[key] = value
            replaced.append((*path, key))
    return merged


def _kind(mapping: dict[str, Any], place: Place | None) -> Any:
    return mapping.get("kind", place.default_kind if place else None)


def _changes_kind(old: dict[str, Any], new: dict[str, Any], place: Place | None) -> bool:
    before = _kind(old, place)
    return "kind" in new and before is not None and new["kind"] != before
