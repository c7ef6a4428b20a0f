"""Options as YAML text, and the schema for editors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from dqn_cli.config.yaml12 import add_core_schema
from dqn_cli.core.options import Options


class _Dumper(yaml.SafeDumper):
    """Writes what loaders of YAML 1.1 and 1.2 read alike: text that either takes for a number is quoted."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (the name is PyYAML's)
        """Says that equal values are written out each time."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # Only between double quotes does PyYAML escape every line break that Unicode knows.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


def _flow_list(dumper: yaml.SafeDumper, items: Sequence[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


add_core_schema(_Dumper)
_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _flow_list)
_Dumper.add_representer(tuple, _flow_list)


def dump_config(options: Options) -> str:
    """Returns the YAML text of all options, defaults included, in the model's order."""
    return yaml.dump(options.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def json_schema(schema: type[Options]) -> dict[str, Any]:
    """Returns the JSON schema (draft 2020-12) of the config files that ``schema`` reads.

    A file may leave out what the one that it extends says, so nothing is required; digits grouped with
    underscores, which YAML 1.2 takes for text, are numbers. Descriptions come from fields or, where a field
    has none, from the ``Attributes`` section of its model's docstring.
    """
    generated = schema.model_json_schema()
    for definition in [generated, *generated.get("$defs", {}).values()]:
        _describe(definition)
    body: dict[str, Any] = _relax(generated)
    extends = {
        "type": "string",
        "description": "A config, by path or preset name, on top of which this one lies.",
    }
    properties = {"extends": extends, **body.pop("properties", {})}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **body, "properties": properties}


def _describe(definition: dict[str, Any]) -> None:
    summary, found, attributes = definition.get("description", "").partition("\nAttributes:\n")
    if not found:
        return
    definition["description"] = summary.strip()
    for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, flags=re.MULTILINE):
        if name in definition.get("properties", {}):
            definition["properties"][name].setdefault("description", " ".join(text.split()))


def _relax(node: Any) -> Any:
    if isinstance(node, list):
        return [_relax(item) for item in node]
    if not isinstance(node, dict):
        return node
    relaxed: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):  # names, not keywords
            relaxed[key] = {name: _relax(inner) for name, inner in value.items()}
        elif key in ("default", "const", "enum"):
            relaxed[key] = value
        elif key != "required":
            # A section without kind fits several kinds of a union: that is no error.
            relaxed["anyOf" if key == "oneOf" else key] = _relax(value)
    if relaxed.get("type") in ("integer", "number"):
        relaxed |= {"type": [relaxed["type"], "string"], "pattern": r"^[-+]?[0-9]+(_[0-9]+)+(\.[0-9]*)?$"}
    return relaxed
