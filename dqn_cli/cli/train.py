"""``dqn train``: one config, one run."""

from __future__ import annotations

from pathlib import Path

import typer

from dqn_cli.cli.ending import show, tell, told_where
from dqn_cli.cli.options import (
    ConfigName,
    Device,
    Init,
    Overrides,
    Quiet,
    Resume,
    RunDir,
    Seed,
    presets_folder,
    with_shortcuts,
)
from dqn_cli.cli.streams import stdout_kept_for_data
from dqn_cli.core.errors import UsageError


def train(
    config: ConfigName,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    seed: Seed = None,
    device: Device = None,
    init: Init = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train an agent as one YAML file says.

    Prints the run folder on stdout when done. Exit codes: 0 done, 1 failed while running, 2 wrong usage, config or
    file, 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP (all saved).
    """
    start(config, with_shortcuts(overrides, seed, device), run_dir, init, resume, quiet)


def start(
    config: str,
    overrides: list[str],
    run_dir: Path | None,
    init: Path | None,
    resume: bool,
    quiet: bool,
    name: str | None = None,
) -> None:
    """Plans and trains; ``name`` other than the config's own goes into the folder's name."""
    from datetime import datetime

    from dqn_cli.config.load import load_config
    from dqn_cli.plan import check_memory, make_plan
    from dqn_cli.resume import go_on_if_begun
    from dqn_cli.run import train as run
    from dqn_cli.schema import RunOptions
    from dqn_cli.training.run_folder import new_run_dir

    if resume and run_dir is None:
        raise UsageError("--resume needs --run-dir: which run shall go on?")
    with stdout_kept_for_data():
        loaded = load_config(config, overrides, RunOptions, presets_folder())
        plan = make_plan(loaded.options)
        name = name or loaded.name
        outcome = None
        if resume and run_dir is not None:
            with told_where(run_dir):
                outcome = go_on_if_begun(loaded.options, run_dir, tell, quiet)
        if outcome is None:
            with new_run_dir(run_dir, name, loaded.options.seed, datetime.now()) as folder:
                if not quiet:
                    typer.echo(plan.text(folder), err=True)
                check_memory(plan)
                with told_where(folder):
                    outcome = run(plan, name, folder, quiet, init)
    show(outcome, quiet)
