"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def _checked_device(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise typer.BadParameter(f"'{name}' is no device; write auto, cpu, cuda or cuda:N.")
    return name


ConfigName = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or a preset such as cartpole or atari/nature.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the config, such as learning.optimizer.lr=1e-4."),
]
RunDir = Annotated[
    Path | None, typer.Option("--run-dir", help="Folder of this run.  [default: runs/CONFIG-sSEED-TIME]")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the run; the same as seed=N.")]
Device = Annotated[
    str | None,
    typer.Option("--device", callback=_checked_device, help="auto, cpu, cuda or cuda:N; the same as device=D."),
]
EvaluationDevice = Annotated[str, typer.Option("--device", callback=_checked_device, help="auto, cpu, cuda or cuda:N.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show errors and the result only.")]
Init = Annotated[Path | None, typer.Option("--init", help="Start from the weights of a checkpoint or run folder.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="With --run-dir: go on with the run that is there, or start it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def presets_folder() -> Path:
    """Returns the folder of the presets: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def with_shortcuts(overrides: list[str] | None, seed: int | None, device: str | None) -> list[str]:
    """Returns the overrides with those of ``--seed`` and ``--device`` at the end."""
    shortcuts = [f"seed={seed}"] if seed is not None else []
    shortcuts += [f"device={device}"] if device is not None else []
    return [*(overrides or []), *shortcuts]
