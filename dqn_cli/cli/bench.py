"""``dqn bench``: how fast a config trains here, and where the time goes."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dqn_cli.cli.options import Device, Json, Overrides, presets_folder, with_shortcuts
from dqn_cli.cli.streams import stdout_kept_for_data


def bench(
    config: Annotated[str, typer.Argument(metavar="[CONFIG]", help="A YAML file or a preset.")] = "atari/default",
    overrides: Overrides = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.05, max=600.0, help="Time of each measurement.")] = 5.0,
    tune: Annotated[
        bool, typer.Option("--tune", help="Try numbers of threads and environments, and recommend.")
    ] = False,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure how fast a config trains here, and where the time goes.

    Times environments, acting, sampling and updates by themselves, then the whole loop, and what the matrix products
    inside of an update take alone: the hardware's limit. Replay and warm-up are made small; nothing is written. With
    --tune, tries the whole loop with several numbers of threads and environments, in alternation.
    """
    from dqn_cli.config.load import load_config
    from dqn_cli.experiments.benchmark.measure import benchmark
    from dqn_cli.experiments.benchmark.tune import tune as tune_loop
    from dqn_cli.schema import RunOptions

    if "=" in config:  # dqn bench key=value
        config, overrides = "atari/default", [config, *(overrides or [])]
    options = load_config(config, with_shortcuts(overrides, None, device), RunOptions, presets_folder()).options
    with stdout_kept_for_data():
        if tune:
            tuned = tune_loop(options, seconds, lambda text: typer.echo(text, err=True))
            document, text = tuned.as_dict(), tuned.text()
        else:
            measured = benchmark(options, seconds)
            document, text = measured.as_dict(), measured.text()
    typer.echo(json.dumps(document, indent=2, allow_nan=False) if as_json else text)
