"""``dqn plan``: what a run would do."""

from __future__ import annotations

import json

import typer

from dqn_cli.cli.options import (
    ConfigName,
    Device,
    Json,
    Overrides,
    RunDir,
    Seed,
    presets_folder,
    with_shortcuts,
)
from dqn_cli.cli.streams import stdout_kept_for_data


def plan(
    config: ConfigName,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    seed: Seed = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Print what a run would do and need, without starting it."""
    from datetime import datetime

    from dqn_cli.config.load import load_config
    from dqn_cli.plan import check_memory, make_plan
    from dqn_cli.schema import RunOptions
    from dqn_cli.training.run_folder import default_run_dir

    loaded = load_config(config, with_shortcuts(overrides, seed, device), RunOptions, presets_folder())
    with stdout_kept_for_data():
        made = make_plan(loaded.options)
    folder = run_dir or default_run_dir(loaded.name, loaded.options.seed, datetime.now())
    typer.echo(json.dumps(made.as_dict(folder), indent=2) if as_json else made.text(folder))
    check_memory(made)
