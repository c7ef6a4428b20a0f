"""Tables of kinds: a component is chosen by the ``kind`` of its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from dqn_cli.core.options import Options


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of a table.

    Attributes:
        options: The options model of the kind.
        make: Factory of the component; it takes the options first, and then what the table's comment says.
    """

    options: type[Options]
    make: Callable[..., Any]


Table = Mapping[str, Kind]


def choice(table: Table) -> Any:
    """Returns the type of a field that takes the options of any kind in ``table``; the first row is the default."""
    if len(table) == 1:
        return next(iter(table.values())).options
    default = next(iter(table))

    def kind_of(value: Any) -> str:
        return _kind_of(value, default)

    rows = [Annotated[kind.options, Tag(name)] for name, kind in table.items()]
    return Annotated[reduce(or_, rows), Discriminator(kind_of)]


def make(table: Table, options: Options, *args: Any) -> Any:
    """Makes the component that ``options`` describe."""
    return table[_kind_of(options, "")].make(options, *args)


def _kind_of(value: Any, default: str) -> str:
    kind = value.get("kind", default) if isinstance(value, Mapping) else getattr(value, "kind", default)
    return str(kind)
