"""Floor 1: reads YAML configs into options, whatever the schema."""

from dqn_cli.config.load import LoadedConfig, find_config, list_presets, load_config, read_mapping
from dqn_cli.config.problems import validate
from dqn_cli.config.write import dump_config, json_schema

__all__ = [
    "LoadedConfig",
    "dump_config",
    "find_config",
    "json_schema",
    "list_presets",
    "load_config",
    "read_mapping",
    "validate",
]
