"""Makes tables and pictures of ``RESULTS.md`` and the results in ``docs/algorithms`` from the files in ``data``.

    python benchmarks/report.py

Tables stand between markers and are never edited by hand.
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from algorithm_results import (  # type: ignore[import-not-found]  # isort: skip
    PAGES,
    audits_table,
    learn_table,
    load,
    page_results,
    scores_by_seed,
)
from precision_results import draw_precision, precision_table  # type: ignore[import-not-found]  # isort: skip
from reliability_results import checkpoints_table, soak_table  # type: ignore[import-not-found]  # isort: skip
from scaling_results import SECTION, draw_scaling, scaling_note  # type: ignore[import-not-found]  # isort: skip
from speed_results import (  # type: ignore[import-not-found]  # isort: skip
    memory_table,
    peers_table,
    time_table,
    variant_speed_table,
)

HERE = Path(__file__).resolve().parent
PAGE = HERE / "RESULTS.md"
BARS = {
    "cartpole": 475.0,
    "cartpole/double": 475.0,
    "acrobot": -90.0,
    "lunarlander": 200.0,
    "mountaincar": -115.0,
    "atari/pong-cpu": -10.0,
    "atari/pong-speedrun": 18.0,
}
BEHIND_SCALING = "## Speed on CartPole beside other libraries\n"
"""Heading before which the section on scaling goes."""

WINDOW = 20
"""Training games of a point on the Pong curve."""


def records() -> dict[str, list[dict[str, Any]]]:
    """Returns the records of each preset, by seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((HERE / "data" / "learning").glob("*.json")):
        record = json.loads(path.read_text())
        found.setdefault(record["preset"], []).append(record)
    return {preset: sorted(rows, key=lambda row: row["seed"]) for preset, rows in found.items()}


def scores_table(runs: list[dict[str, Any]]) -> str:
    """Returns the table of one preset."""
    rows = [
        "| seed | final checkpoint | std | 95% interval | wall time | commit | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        score = run["score"]
        low, high = score["return_ci95"]
        rows.append(
            f"| {run['seed']} | {score['return_mean']:.2f} | {score['return_std']:.2f} | {low:.2f} to {high:.2f} "
            f"| {seconds(run):.0f} s, {machine(run)} | {commit(run)} | `{run['command']}` |"
        )
    means = [run["score"]["return_mean"] for run in runs]
    passed = sum(mean >= BARS[runs[0]["preset"]] for mean in means)
    protocol, jobs = runs[0]["protocol"], runs[0]["jobs"]
    rows.append(
        f"\nMedian {statistics.median(means):.2f}, {min(means):.2f} to {max(means):.2f}; {passed} of {len(means)} "
        f"seeds at or above {BARS[runs[0]['preset']]:g}. {protocol['episodes']} episodes that training never saw, "
        f"epsilon {protocol['epsilon']:g}. " + (f"{jobs} seeds trained at once, a thread each." if jobs > 1 else "")
    )
    if all("process_seconds" in run for run in runs):
        times = [run["process_seconds"] for run in runs]
        rows.append(
            f"Wall time is from the start of the process to its end: median {statistics.median(times):.1f} s, "
            f"{min(times):.1f} to {max(times):.1f} s, evaluations while training counted."
        )
    return "\n".join(rows)


def seconds(run: dict[str, Any]) -> float:
    """Returns the time of a training: of the whole process, where that was clocked."""
    return float(run.get("process_seconds", run["wall_seconds"]))


def commit(run: dict[str, Any]) -> str:
    """Returns the commit that trained a run; earlier records do not say."""
    if not run.get("commit"):
        return "-"
    name, _, changed = run["commit"].partition("-")
    return f"`{name[:7]}`" + (", changed" if changed else "")


def machine(record: dict[str, Any]) -> str:
    """Returns the processor that a record was made on, without its marks."""
    return re.sub(r"\(R\)|Processor", "", record["machine"]["cpu"]).strip()


def pong_table(runs: list[dict[str, Any]]) -> str:
    """Returns the table of the Pong runs: the mean of the last games, and when it first passed the bar."""
    bar = BARS["atari/pong-cpu"]
    rows = [
        f"| seed | mean of the last {WINDOW} games | first above {bar:g} | evaluation | wall time | commit | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        curve = moving_mean(run["training_returns"])
        first = next((f"step {step:,.0f}" for step, mean in curve if mean > bar), "never")
        rows.append(
            f"| {run['seed']} | {curve[-1][1]:.2f} | {first} | {run['score']['return_mean']:.2f} "
            f"| {run['wall_seconds'] / 60:.0f} min, {machine(run)} | {commit(run)} | `{run['command']}` |"
        )
    protocol = runs[0]["protocol"]
    rows.append(
        f"\nThe evaluation is of the final checkpoint: {protocol['episodes']} games that training never saw, epsilon "
        f"{protocol['epsilon']:g}. Both ran beside other work."
    )
    return "\n".join(rows)


def moving_mean(returns: list[list[float]]) -> list[tuple[float, float]]:
    """Returns (agent step, mean return of the last games), from the game on that fills the window."""
    return [
        (returns[i][0], statistics.fmean(score for _, score in returns[i - WINDOW + 1 : i + 1]))
        for i in range(WINDOW - 1, len(returns))
    ]


def variants_table(measured: dict[str, Any]) -> str:
    """Returns the table of `update_variants.py`."""
    rows = ["| update | median | of the learner's own | of a matrix product's speed |", "|---|---|---|---|"]
    own = measured["medians"]["as_it_is"]
    for name, median in measured["medians"].items():
        share = measured["operations"] / median / measured["peak"]
        rows.append(f"| {name.replace('_', ' ')} | {median * 1e3:.1f} ms | {median / own:.2f} | {share:.0%} |")
    rows.append(f"\n{machine(measured)}, {measured['threads']} threads, {measured['peak'] / 1e9:.0f} GFLOP/s.")
    return "\n".join(rows)


def draw_pong(runs: list[dict[str, Any]], path: Path) -> None:
    """Draws the moving means of the Pong runs."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for run in runs:
        steps, means = zip(*moving_mean(run["training_returns"]), strict=True)
        axes.plot([step / 1000 for step in steps], means, label=f"seed {run['seed']}")
    axes.axhline(BARS["atari/pong-cpu"], color="gray", linestyle="--", linewidth=1)
    axes.set(xlabel="agent steps (thousands)", ylabel=f"return, mean of {WINDOW} games", title="Pong, atari/pong-cpu")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_evaluations(presets: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draws the evaluations while training, a panel a preset."""
    figure, panels = plt.subplots(
        1, len(presets), figsize=(3.6 * len(presets), 3.2), layout="constrained", squeeze=False
    )
    for axes, (preset, runs) in zip(panels[0], presets.items(), strict=True):
        for run in runs:
            steps, means = zip(*run["evaluations"], strict=True)
            axes.plot([step / 1000 for step in steps], means, marker=".", label=f"seed {run['seed']}")
        axes.axhline(BARS[preset], color="gray", linestyle="--", linewidth=1)
        axes.set(title=preset, xlabel="agent steps (thousands)")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("mean return, evaluation while training")
    panels[0][0].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def fill(page: str, name: str, content: str) -> str:
    """Returns ``page`` with the section ``name`` replaced."""
    pattern = rf"(<!-- generated: {re.escape(name)} -->\n).*?(<!-- end -->)"
    if not re.search(pattern, page, flags=re.DOTALL):
        raise SystemExit(f"{PAGE.name} has no section {name}")
    return re.sub(pattern, lambda match: f"{match[1]}\n{content}\n\n{match[2]}", page, flags=re.DOTALL)


def main() -> None:
    """Rewrites the page and the pictures."""
    found = records()
    page = PAGE.read_text()
    classic = {preset: found[preset] for preset in BARS if preset in found and not preset.startswith("atari/")}
    for preset, runs in classic.items():
        page = fill(page, preset, scores_table(runs))
    if classic:
        draw_evaluations(classic, HERE / "evaluations.png")
    if "atari/pong-speedrun" in found:
        page = fill(page, "pong-speedrun", scores_table(found["atari/pong-speedrun"]))
    if "atari/pong-cpu" in found:
        page = fill(page, "pong", pong_table(found["atari/pong-cpu"]))
        draw_pong(found["atari/pong-cpu"], HERE / "pong.png")
    variants = HERE / "data" / "update_variants.json"
    if variants.exists():
        page = fill(page, "variants", variants_table(json.loads(variants.read_text())))
    for section, name, table in (
        ("audits", "audits.json", audits_table),
        ("learn", "learn.json", learn_table),
        ("variant speed", "variant_speed.json", variant_speed_table),
        ("cartpole speed", "cartpole_speed.json", peers_table),
        ("speed", "pong_speed.json", peers_table),
        ("time", "time_shares.json", time_table),
    ):
        if (content := load(name)) is not None:
            page = fill(page, section, table(content))
    for section, pattern, rows in (
        ("checkpoints", "checkpoint_cost-*.json", checkpoints_table),
        ("soak", "soak-*.json", soak_table),
        ("memory", "replay_memory-*.json", memory_table),
    ):
        if measured := [json.loads(path.read_text()) for path in sorted((HERE / "data").glob(pattern))]:
            page = fill(page, section, rows(measured))
    if (content := load("scaling.json")) is not None:
        if SECTION.splitlines()[0] not in page.splitlines():
            page = page.replace(BEHIND_SCALING, SECTION + BEHIND_SCALING)
        page = fill(page, "scaling", scaling_note(content))
        draw_scaling(content, HERE / "scaling.png")
    for path in sorted((HERE / "data").glob("precision-*.json")):
        curves = json.loads(path.read_text())
        page = fill(page, f"precision {curves['preset']}", precision_table(curves))
        draw_precision(curves, HERE / f"{path.stem}.png")
    for section in ("minatar", "atari100k"):
        if chosen := {preset: runs for preset, runs in found.items() if preset.startswith(f"{section}/")}:
            page = fill(page, section, scores_by_seed(chosen))
    PAGE.write_text(page)
    for name, presets in PAGES.items():
        path = HERE.parent / "docs" / "algorithms" / f"{name}.md"
        path.write_text(fill(path.read_text(), f"results {name}", page_results(presets, found)))


if __name__ == "__main__":
    main()
