"""Table and picture of what `precision_curves.py` measured."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

_PARTS = 20
"""Of a run, each with the mean of the episodes that ended in it."""

_COLOURS = {"float32": "tab:blue", "bfloat16": "tab:orange"}


def precision_table(measured: dict[str, Any]) -> str:
    """Returns median and range over the seeds, at quarters of the runs, a row a precision."""
    curves = _curves(measured)
    quarters = [_PARTS * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    rows = [
        "| precision |" + "".join(f" to step {(part + 1) * measured['steps'] // _PARTS:,} |" for part in quarters),
        "|---|" + "---|" * len(quarters),
    ]
    for precision, of_seeds in curves.items():
        cells = []
        for part in quarters:
            found = [mean for curve in of_seeds if (mean := curve[part]) is not None]
            spread = f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else "-"
            cells.append(f" {spread} |")
        rows.append(f"| {precision} |" + "".join(cells))
    commands = [run["command"] for run in measured["runs"] if run["seed"] == measured["runs"][0]["seed"]]
    rows.append(
        f"\nReturn of the training episodes of the last {measured['steps'] // _PARTS:,} steps, median of "
        f"{len(next(iter(curves.values())))} seeds (least to most); {measured['jobs']} runs at once, "
        f"{measured['machine']['cpu']}, {measured['machine']['cores']} cores. The ranges of both overlap in "
        f"{_overlapping(curves)} of {_PARTS} parts of the runs. First commands: "
        + ", ".join(f"`{command}`" for command in commands)
        + "."
    )
    return "\n".join(rows)


def draw_precision(measured: dict[str, Any], path: Path) -> None:
    """Draws a line for the median of each precision, in a band from the least to the most of its seeds."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps = [(part + 1) * measured["steps"] / _PARTS / 1000 for part in range(_PARTS)]
    for precision, of_seeds in _curves(measured).items():
        parts = [[value for value in column if value is not None] for column in zip(*of_seeds, strict=True)]
        places = [place for place, found in zip(steps, parts, strict=True) if found]
        parts = [found for found in parts if found]
        axes.plot(places, [statistics.median(found) for found in parts], color=_COLOURS[precision], label=precision)
        low, high = ([choose(found) for found in parts] for choose in (min, max))
        axes.fill_between(places, low, high, alpha=0.2, color=_COLOURS[precision])
    axes.set(xlabel="agent steps (thousands)", ylabel="return of training episodes", title=measured["preset"])
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _overlapping(curves: dict[str, list[list[float | None]]]) -> int:
    """Returns in how many parts of the runs the ranges of all precisions overlap."""
    count = 0
    for part in range(_PARTS):
        found = [[curve[part] for curve in of_seeds] for of_seeds in curves.values()]
        ends = [[value for value in values if value is not None] for values in found]
        count += all(ends) and max(map(min, ends)) <= min(map(max, ends))
    return count


def _curves(measured: dict[str, Any]) -> dict[str, list[list[float | None]]]:
    """Returns the curve of each seed of each precision; None for a part of the run in which no episode ended."""
    found: dict[str, list[list[float | None]]] = {}
    for run in measured["runs"]:
        parts: list[list[float]] = [[] for _ in range(_PARTS)]
        for step, value in run["training_returns"]:
            parts[min(int(step * _PARTS / measured["steps"]), _PARTS - 1)].append(value)
        curve = [statistics.fmean(part) if part else None for part in parts]
        found.setdefault(run["precision"], []).append(curve)
    return found
