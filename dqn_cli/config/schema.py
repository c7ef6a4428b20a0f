"""Reads pydantic models: which keys and kinds are valid at a place.

Pydantic tells where an error is by a path that mixes keys with the names of union members. Walking the
annotations beside it tells the two apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Discriminator, Tag
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Place:
    """What a value at one place of a schema may be.

    Attributes:
        types: The members of a union, or the one type; null is left out.
        discriminator: Tells the members of a union apart by kind: the name of a key, or a function from the
            value to the kind.
        kinds: The kind of each of ``types``, empty without a discriminator.
    """

    types: tuple[Any, ...]
    discriminator: Any = None
    kinds: tuple[str, ...] = ()

    @property
    def is_union(self) -> bool:
        """Whether pydantic's error paths name a member here."""
        return bool(self.kinds) or len(self.types) > 1

    @property
    def model(self) -> type[BaseModel] | None:
        """The model of a mapping here, None where the kind decides or where there is none."""
        only = self.types[0] if len(self.types) == 1 and not self.kinds else None
        return only if isinstance(only, type) and issubclass(only, BaseModel) else None

    @property
    def is_dict(self) -> bool:
        """Whether a mapping with free keys belongs here."""
        return len(self.types) == 1 and get_origin(self.types[0]) is dict

    @property
    def section(self) -> Place | None:
        """The one member that reads mappings: a union of kinds, a model or a dict."""
        if self.kinds:
            return self
        found = [one for one in map(place_of, self.types) if one.kinds or one.model or one.is_dict]
        return found[0] if len(found) == 1 else None

    @property
    def default_kind(self) -> str | None:
        """The kind of a mapping that names none."""
        if self.section is None or not callable(self.section.discriminator):
            return None
        kind = self.section.discriminator({})
        return kind if isinstance(kind, str) else None

    def member(self, label: str) -> Place | None:
        """Returns the member of the union that pydantic calls ``label``."""
        if self.kinds:
            return self.of_kind(label)
        for candidate in map(place_of, self.types):
            if candidate.kinds and "tagged-union" in label:
                return candidate
            if candidate.model and candidate.model.__name__ in re.findall(r"\w+", label):
                return candidate
        return None

    def of_kind(self, kind: Any) -> Place | None:
        """Returns the place of a mapping of this kind; where there are no kinds, of any mapping."""
        section = self.section
        if section is None or not section.kinds:
            return section
        return next((place_of(t) for name, t in zip(section.kinds, section.types, strict=True) if name == kind), None)

    def child(self, key: str | int) -> Place | None:
        """Returns what may stand under ``key``, None where the schema does not say."""
        if self.model is not None:
            if key not in self.model.model_fields:
                return None
            info = self.model.model_fields[str(key)]
            return place_of(info.annotation, [*info.metadata, info])
        arguments = get_args(self.types[0]) if len(self.types) == 1 else ()
        if self.is_dict:
            return place_of(arguments[1])
        if isinstance(key, int) and get_origin(self.types[0]) in (list, tuple):
            homogeneous = len(arguments) == 1 or Ellipsis in arguments
            index = 0 if homogeneous else key
            return place_of(arguments[index]) if index < len(arguments) else None
        return None


def place_of(annotation: Any, metadata: Iterable[Any] = ()) -> Place:
    """Returns the place that an annotation describes; ``metadata`` is what a field keeps beside it."""
    metadata = list(metadata)
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata += more
    types: tuple[Any, ...] = (annotation,)
    if get_origin(annotation) in (Union, UnionType):
        types = tuple(member for member in get_args(annotation) if member is not NoneType)
        if len(types) == 1:
            return place_of(types[0], metadata)
    discriminator = _discriminator(metadata)
    if discriminator is None:
        return Place(types)
    kinds = [_tag(member, discriminator) for member in types]
    if len(types) == 1:  # a union of one kind collapses into that kind, with its tag
        kinds = [next((item.tag for item in metadata if isinstance(item, Tag)), kinds[0])]
    return Place(types, discriminator, tuple(kinds))


def _discriminator(metadata: Iterable[Any]) -> Any:
    for item in metadata:
        found = item.discriminator if isinstance(item, FieldInfo | Discriminator) else None
        if isinstance(found, Discriminator):
            found = found.discriminator
        if found is not None:
            return found
    return None


def _tag(member: Any, discriminator: Any) -> str:
    for item in get_args(member)[1:] if get_origin(member) is Annotated else ():
        if isinstance(item, Tag):
            return item.tag
    model = place_of(member).model
    if model is not None and isinstance(discriminator, str):
        annotation = model.model_fields[discriminator].annotation
        if get_origin(annotation) is Literal:
            return str(get_args(annotation)[0])
    return str(member)
