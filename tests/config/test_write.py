"""Options as YAML, and the JSON schema."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_cli.config import dump_config, json_schema, validate
from dqn_cli.config.yaml12 import parse
from tests.config.example import Adam, Crop, Example, Gymnasium, Learning, Mlp, Network, Rmsprop, Stop


def reload(options: Example) -> Example:
    return validate(parse(dump_config(options)).value, Example, "dump")


def test_a_dump_reads_back_as_an_equal():
    options = Example(
        env=Gymnasium(id="A", kwargs={"nested": {"list": [1, {"x": None}], "empty": {}}, "none": []}),
        network=Network(torso=Mlp(hidden=(64, 32))),
        learning=Learning(optimizer=Rmsprop(lr=6.25e-05), augmentation=(Crop(kind="crop", pad=2),)),
        stop=Stop(return_mean=1e16),
    )
    assert reload(options) == options


def test_numbers_are_numbers_for_yaml_1_1_too():
    text = dump_config(Example(env=Gymnasium(id="A"), learning=Learning(optimizer=Adam(lr=6.25e-05, eps=1e-8))))
    assert "eps: 1.0e-08\n" in text
    optimizer = yaml.safe_load(text)["learning"]["optimizer"]
    assert optimizer == {"kind": "adam", "lr": 6.25e-05, "eps": 1e-8}


def test_keys_keep_the_order_of_the_model_and_lists_are_on_one_line():
    text = dump_config(Example(env=Gymnasium(id="A")))
    assert list(parse(text).value) == list(Example.model_fields)
    assert "    hidden: [256, 256]\n" in text


@pytest.mark.parametrize(
    "text", ["1e-4", "1E5", "on", "08", "1:30", "2024-01-31", "null", "", "50_000", "<<", "=", "0o7"]
)
def test_text_stays_text_for_yaml_1_1_and_1_2(text):
    dumped = dump_config(Example(env=Gymnasium(id=text)))
    assert parse(dumped).value["env"]["id"] == text
    assert yaml.safe_load(dumped)["env"]["id"] == text


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(10**80), 10**80)
            | st.floats(allow_nan=False)
            | st.text(st.characters(codec="utf-8")),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("key"), inner),
            max_leaves=5,
        ),
        max_size=3,
    )
)
def test_any_plain_value_survives(kwargs):
    options = Example(env=Gymnasium(id="A", kwargs=kwargs))
    assert reload(options) == options


def test_the_json_schema_describes_a_file():
    schema = json_schema(Example)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (schema["title"], schema["description"]) == ("Example", "A whole experiment.")
    assert schema["additionalProperties"] is False
    assert schema["properties"]["extends"]["type"] == "string"
    assert "required" not in schema
    environment = schema["$defs"]["Gymnasium"]
    assert environment["additionalProperties"] is False
    assert environment["description"] == "Any environment."
    assert environment["properties"]["id"]["description"] == "Id of the environment, as registered."
    assert schema["$defs"]["Learning"]["properties"]["batch_size"]["description"] == "Transitions in a batch."


def test_a_section_without_kind_fits_one_of_its_kinds():
    schema = json_schema(Example)
    assert len(schema["properties"]["env"]["anyOf"]) == 2
    assert "oneOf" not in str(schema)


def test_editors_take_grouped_digits_for_a_number():
    steps = json_schema(Example)["properties"]["total_steps"]
    assert steps["type"] == ["integer", "string"]
    assert re.search(steps["pattern"], "50_000")
    assert not re.search(steps["pattern"], "many")
