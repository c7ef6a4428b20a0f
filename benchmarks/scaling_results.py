"""The picture of what `scaling.py` measured, and its section of ``RESULTS.md``."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

SECTION = """## Scaling

How the whole loop changes with the number of environments, an update with the size of its batch, and sampling with the
length of the replay; both axes are logarithmic:

    python benchmarks/scaling.py

![Steps a second, milliseconds of an update and of a batch](scaling.png)

<!-- generated: scaling -->
<!-- end -->

"""
"""Goes into the page once there is something to show."""

_PANELS = {
    "environments": ("whole loop", "environments", "agent steps a second"),
    "batch": ("update", "transitions of a batch", "milliseconds an update"),
    "replay": ("sampling", "transitions in the replay", "milliseconds a batch"),
}
_COLOURS = ("tab:blue", "tab:orange")


def draw_scaling(measured: dict[str, Any], path: Path) -> None:
    """Draws a panel each for environments, batch and replay: a colour a preset, dashed where replay is prioritized."""
    figure, panels = plt.subplots(1, len(_PANELS), figsize=(4.4 * len(_PANELS), 3.8), layout="constrained")
    presets = list(dict.fromkeys(point["preset"] for point in measured["points"]))
    for axes, (group, (title, across, up)) in zip(panels, _PANELS.items(), strict=True):
        of_panel = [point for point in measured["points"] if point["what"].split(",")[0] == group]
        for what, preset in dict.fromkeys((point["what"], point["preset"]) for point in of_panel):
            points = [point for point in of_panel if (point["what"], point["preset"]) == (what, preset)]
            places = [point["at"] for point in points]
            style = {
                "color": _COLOURS[presets.index(preset)],
                "linestyle": "--" if what.endswith("prioritized") else "-",
                "label": ", ".join([preset, *what.split(", ")[1:]]),
            }
            axes.plot(
                places, [statistics.median(point["found"]) for point in points], marker="o", markersize=4, **style
            )
            low, high = ([choose(point["found"]) for point in points] for choose in (min, max))
            axes.fill_between(places, low, high, alpha=0.2, color=style["color"])
        places = sorted({point["at"] for point in of_panel})
        axes.set(title=title, xlabel=across, ylabel=up, xscale="log", yscale="log")
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def scaling_note(measured: dict[str, Any]) -> str:
    """Returns the line under the picture."""
    rounds = len(measured["points"][0]["found"])
    how = f"medians of {rounds} rounds, in bands from the lowest to the highest" if rounds > 1 else "one round"
    processor = re.sub(r"\(R\)|Processor", "", measured["machine"]["cpu"]).strip()
    overrides = "".join(f", `{override}`" for override in measured["overrides"])
    return (
        f"Each point is measured for {measured['seconds']:g} s; {how}{overrides}. Pong in float32, frames not "
        f"compressed; {processor}, {measured['machine']['cores']} cores."
    )
