"""The base of every options model: strict, frozen, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Options(BaseModel):
    """Base of the small options models that stand beside the classes they configure.

    Strict: a number is never read from text and a flag is never read from a number. Frozen: a config is a
    value. Unknown keys are errors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _integral(value: Any) -> Any:
    """Accepts ``1e6`` for a count: YAML reads it as a float, and it is a whole number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _tuple(value: Any) -> Any:
    """A YAML list is a tuple in a frozen model."""
    return tuple(value) if isinstance(value, list) else value


Count = Annotated[int, BeforeValidator(_integral), Field(ge=0)]
"""A whole number of at least 0; ``1e6`` is accepted."""

PositiveCount = Annotated[int, BeforeValidator(_integral), Field(ge=1)]
"""A whole number of at least 1; ``1e6`` is accepted."""

PositiveFloat = Annotated[float, Field(gt=0.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

Counts = Annotated[tuple[PositiveCount, ...], BeforeValidator(_tuple)]
"""A list of whole numbers of at least 1."""
