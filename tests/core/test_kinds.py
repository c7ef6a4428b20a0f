"""Tables of kinds: a field takes the options of any row, and ``kind`` says which."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError, create_model

from dqn_cli.core.kinds import Kind, Table, choice, make
from dqn_cli.core.options import Options


class Circle(Options):
    kind: Literal["circle"] = "circle"
    radius: float = 1.0


class Square(Options):
    kind: Literal["square"] = "square"
    side: float = 2.0


SHAPES: Table = {
    "circle": Kind(Circle, lambda o, colour: (colour, "circle", o.radius)),
    "square": Kind(Square, lambda o, colour: (colour, "square", o.side)),
}


def drawing(table: Table, shape: Any) -> Any:
    model: Any = create_model("Drawing", __base__=Options, shape=(choice(table), Field(Circle())))
    drawn: Any = model.model_validate({"shape": shape})
    return drawn.shape


def test_kind_decides():
    assert drawing(SHAPES, {"kind": "square", "side": 3.0}) == Square(side=3.0)
    assert drawing(SHAPES, {"kind": "circle"}) == Circle()


def test_the_first_row_is_the_default():
    assert drawing(SHAPES, {"radius": 4.0}) == Circle(radius=4.0)
    assert drawing(SHAPES, {}) == Circle()


def test_options_pass_as_they_are():
    assert drawing(SHAPES, Square(side=5.0)) == Square(side=5.0)


@pytest.mark.parametrize(
    "wrong", [{"kind": "triangle"}, {"kind": None}, {"kind": "square", "radius": 1.0}, 3, "square"]
)
def test_unknown_kinds_and_keys_of_other_kinds_are_refused(wrong):
    with pytest.raises(ValidationError):
        drawing(SHAPES, wrong)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ValidationError, match="'circle', 'square'"):
        drawing(SHAPES, {"kind": "triangle"})


def test_a_table_of_one_row():
    only = {"circle": SHAPES["circle"]}
    assert drawing(only, {"radius": 2.0}) == Circle(radius=2.0)
    with pytest.raises(ValidationError):
        drawing(only, {"kind": "square"})


def test_make_calls_the_factory_of_the_kind():
    assert make(SHAPES, Square(side=7.0), "red") == ("red", "square", 7.0)
    assert make(SHAPES, Circle(), "blue") == ("blue", "circle", 1.0)
