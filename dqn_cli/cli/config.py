"""``dqn config``: presets, resolved configs, checks, and the schema for editors."""

from __future__ import annotations

import json

import typer

from dqn_cli.cli.options import ConfigName, Json, Overrides, presets_folder

app = typer.Typer(
    help="List, show and check configs.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)


@app.command("list")
def list_configs(as_json: Json = False) -> None:
    """List the presets with what they are."""
    from dqn_cli.config.load import list_presets

    folder = presets_folder()
    names = list_presets(folder)
    titles = {name: _title((folder / f"{name}.yaml").read_text()) for name in names}
    if as_json:
        typer.echo(json.dumps(titles, indent=2))
        return
    width = max(map(len, names), default=0)
    for name, title in titles.items():
        typer.echo(f"{name:{width}}  {title}")


@app.command()
def show(config: ConfigName, overrides: Overrides = None) -> None:
    """Print a config with every key, defaults included."""
    from dqn_cli.config.load import load_config
    from dqn_cli.config.write import dump_config
    from dqn_cli.schema import RunOptions

    loaded = load_config(config, overrides or [], RunOptions, presets_folder())
    typer.echo(dump_config(loaded.options), nl=False)


@app.command()
def validate(config: ConfigName, overrides: Overrides = None) -> None:
    """Check a config and name all its problems; exit code 2 if there are any."""
    from dqn_cli.config.load import load_config
    from dqn_cli.schema import RunOptions

    loaded = load_config(config, overrides or [], RunOptions, presets_folder())
    typer.echo(f"{loaded.source}: valid")


@app.command()
def schema() -> None:
    """Print the JSON schema of configs, for editors."""
    from dqn_cli.config.write import json_schema
    from dqn_cli.schema import RunOptions

    typer.echo(json.dumps(json_schema(RunOptions), indent=2))


def _title(text: str) -> str:
    first = text.lstrip().partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
