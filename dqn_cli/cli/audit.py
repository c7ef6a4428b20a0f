"""``dqn audit``: is what enters the gradient what the environment did?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dqn_cli.cli.options import Json, Overrides, Seed, presets_folder, with_shortcuts
from dqn_cli.cli.streams import stdout_kept_for_data


def audit(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="A YAML file or a preset; may be left out with --env.")
    ] = None,
    overrides: Overrides = None,
    env: Annotated[
        str | None, typer.Option("--env", help="Audit this Gymnasium environment: an id, or module:Id.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=100, help="Agent steps.  [default: 4,000; 12,000 for Atari]")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="RUN", help="Play the episode that ended this run again.")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Check that what enters the gradient is what the environment did.

    Runs environments, n-step writer, replay and sampler of a config with random actions beside a naive record of
    everything, with a replay so small that it wraps, and compares every stored transition and many batches with that
    record. Also plays episodes again from their seeds and actions, and looks for values outside of declared spaces.
    Exit code 1 if a check fails. With --replay, plays the episode again in which an environment ended a run; exit code
    1 if it fails again.
    """
    from dqn_cli.config.load import load_config
    from dqn_cli.core.errors import UsageError
    from dqn_cli.experiments.audit.audit import audit as run_audit
    from dqn_cli.schema import RunOptions

    changes = list(overrides or [])
    if replay is not None:
        given = {"CONFIG": config, "KEY=VALUE": changes, "--env": env, "--steps": steps, "--seed": seed}
        _play_again(replay, [name for name, value in given.items() if value not in (None, [])], as_json)
        return
    if config is not None and "=" in config and env is not None:  # dqn audit --env ID key=value
        changes, config = [config, *changes], None
    if config is None and env is None:
        raise UsageError("nothing to audit: give a config, or an environment with --env")
    if env is not None:
        changes.append(f"env.id={env}")
    loaded = load_config(config or "cartpole", with_shortcuts(changes, seed, "cpu"), RunOptions, presets_folder())
    default = 12_000 if getattr(loaded.options.env, "kind") == "atari" else 4_000  # noqa: B009 every kind has it
    with stdout_kept_for_data():
        report = run_audit(loaded.options, steps or default)
    typer.echo(_json(report.as_dict()) if as_json else report.text())
    if not report.passed:
        raise typer.Exit(1)


def _play_again(run: Path, given: list[str], as_json: bool) -> None:
    from dqn_cli.core.errors import UsageError
    from dqn_cli.experiments.audit.failure import play_again

    if given:
        raise UsageError(f"--replay plays what the run recorded and takes no {', '.join(given)}; leave it out")
    with stdout_kept_for_data():
        played = play_again(run, presets_folder())
    typer.echo(_json(asdict(played)) if as_json else played.text())
    if played.found is not None:
        raise typer.Exit(1)


def _json(document: dict[str, Any]) -> str:
    """Returns strict JSON: what no parser but Python's would read is a defect here."""
    return json.dumps(document, indent=2, allow_nan=False)
