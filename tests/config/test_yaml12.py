"""Scalars of YAML 1.2, lines, and texts that are refused."""

import math

import pytest

from dqn_cli.config.yaml12 import YamlError, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-2e+3", -2000.0),
        ("1_000.5", 1000.5),
        ("1.0e-08", 1e-8),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("50_000", 50_000),
        ("-7", -7),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
    ],
)
def test_core_schema_scalars(text, value):
    assert parse(f"key: {text}").value == {"key": value}
    assert type(parse(f"key: {text}").value["key"]) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "off",
        "yes",
        "No",
        "y",
        "tRUE",
        "1:30",
        "2024-01-31",
        "1_000_",
        "0b11",
        "1e",
        "e5",
        ".",
        "=",
        "1__0",
    ],
)
def test_what_yaml_1_1_or_python_would_convert_is_text(text):
    assert parse(f"key: {text}").value == {"key": text}


def test_quoted_numbers_are_text_and_keys_that_look_like_words_are_text():
    assert parse("on: '1e-4'\nno: \"5\"").value == {"on": "1e-4", "no": "5"}


def test_a_quoted_merge_key_is_a_key():
    assert parse("'<<': 1").value == {"<<": 1}


def test_nan_is_a_number():
    assert math.isnan(parse("[.nan]").value[0])


def test_anchors_repeat_a_value():
    assert parse("a: &x {n: [1, 2]}\nb: *x").value == {"a": {"n": [1, 2]}, "b": {"n": [1, 2]}}


def test_every_key_and_item_knows_its_line():
    lines = parse("# top\na:\n  b: 1\n  c:\n    - 5\n    - {d: 2}\n").lines
    assert lines == {
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 4,
        ("a", "c", 0): 5,
        ("a", "c", 1): 6,
        ("a", "c", 1, "d"): 6,
    }


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", 4, 3, "key 'c' appears twice, first on line 3"),
        ("a: 1\nb: [1, 2", 2, 9, "the end"),
        ("a: 1\n\tb: 2", 2, 1, "indent with spaces"),
        ("a: b: c", 1, 5, "mapping values are not allowed here"),
        ("a: !!python/object/apply:os.getcwd []", 1, 4, "!!python/object/apply:os.getcwd is not allowed"),
        ("a: !!python/name:os.getcwd x", 1, 4, "is not allowed"),
        ("a: !!timestamp 2024-01-01", 1, 4, "!!timestamp is not allowed"),
        ("a: !!int five", 1, 4, "'five' does not read as int"),
        ("1: a", 1, 1, "'1' is not a key"),
        ('"\\a": 1', 1, 1, "'\\x07' is not a key"),
        ("? [a, b]\n: 1", 1, 3, "a list or mapping is not a key"),
        ("x: &x {a: 1}\ny:\n  <<: *x", 3, 3, "use 'extends'"),
        ("a: *nothing", 1, 4, "undefined alias"),
        ("a: 1\n---\nb: 2", 2, 1, "another document"),
        ("a: 1\nb: \x07", 2, 4, "character #x0007 is not allowed"),
        ('a: "\\ud800"', 1, 4, "surrogate"),
        ('a: "\\UFFFFFFFF"', 1, 1, "out of range"),
        ("a: " + "9" * 5000, 1, 4, "5000 characters is too long"),
        ("a: 0x" + "f" * 5000, 1, 4, "too long"),
        ("a: &x [*x]", 1, 4, "holds itself"),
        ("a: " + "[" * 60 + "]" * 60, 1, 44, "40 levels"),
        ("[" * 5000, 1, 1, "nested too deeply"),
    ],
)
def test_refusals_name_line_and_column_in_one_line(text, line, column, problem):
    with pytest.raises(YamlError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert problem in caught.value.problem
    assert caught.value.problem.isprintable()


def test_an_alias_bomb_is_refused():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    with pytest.raises(YamlError, match="20000 values, aliases included"):
        parse(bomb)


@pytest.mark.parametrize("text", ["", "  \n", "# only a comment\n"])
def test_an_empty_text_is_told_from_a_null(text):
    assert parse(text).empty
    assert not parse("null").empty
