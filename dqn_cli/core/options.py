"""The base of every options model: strict, frozen, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


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


def as_tuple(value: Any) -> Any:
    """Makes a tuple of a YAML list, for a frozen model."""
    return tuple(value) if isinstance(value, list) else value


def _printable(text: str) -> str:
    """Names stand in messages, and a terminal obeys what is not printable."""
    if not text.isprintable():
        raise ValueError("must be printable text on one line")
    return text


Name = Annotated[str, AfterValidator(_printable), Field(max_length=200)]
"""Text on one line of up to 200 characters, none of them a control character."""

_MOST = 10**15
"""Of anything that is counted: beyond what a machine steps through, and far within int64."""

Seed = Annotated[int, BeforeValidator(_integral), Field(ge=0, le=2**63 - 1)]

Count = Annotated[int, BeforeValidator(_integral), Field(ge=0, le=_MOST)]
"""A whole number of at least 0; ``1e6`` is accepted."""

PositiveCount = Annotated[int, BeforeValidator(_integral), Field(ge=1, le=_MOST)]
"""A whole number of at least 1; ``1e6`` is accepted."""

PositiveFloat = Annotated[float, Field(gt=0.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

_Width = Annotated[int, BeforeValidator(_integral), Field(ge=1, le=1_000_000)]

Counts = Annotated[tuple[_Width, ...], BeforeValidator(as_tuple), Field(max_length=100)]
"""Sizes of up to 100 layers, each a whole number of at least 1 and at most a million."""
