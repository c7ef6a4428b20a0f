"""Tables of what the variants do, for ``RESULTS.md`` and for the pages of ``docs/algorithms``; see ``report.py``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGES: dict[str, tuple[str, ...]] = {
    "dqn": ("atari/nature", "minatar/dqn"),
    "double-dqn": ("atari/double", "minatar/double"),
    "dueling": ("atari/dueling", "minatar/dueling"),
    "n-step": ("atari/default",),
    "prioritized-replay": ("atari/per", "minatar/per"),
    "noisy-networks": ("atari/noisy", "minatar/noisy"),
    "c51": ("atari/c51", "minatar/c51"),
    "qr-dqn": ("atari/qr", "minatar/qr"),
    "iqn": ("atari/iqn", "minatar/iqn"),
    "munchausen": ("atari/munchausen", "minatar/munchausen"),
    "advantage-learning": (),
    "rainbow": ("atari/rainbow", "minatar/rainbow"),
    "beyond-the-rainbow": ("atari/btr",),
    "impala": ("atari/impala-qr",),
    "data-efficient-rainbow": ("atari100k/der",),
    "drq-eps": ("atari100k/drq-eps",),
    "weight-resets": (),
    "value-rescaling": (),
}
"""Page to the presets that show its algorithm."""


def load(name: str) -> Any:
    """Returns the content of a file of ``data``, or None if it was never measured."""
    path = HERE / "data" / name
    return json.loads(path.read_text()) if path.exists() else None


def audits_table(audits: dict[str, Any]) -> str:
    """Returns the table of `audits.py`."""
    rows = ["| command | steps | episodes | comparisons | failed | not seen | time |", "|---|---|---|---|---|---|---|"]
    records = [*audits["presets"], *audits["atari"]]
    rows += [
        f"| `{record['command']}` | {record['steps']:,} | {record['episodes']:,} | {record['compared']:,} "
        f"| {', '.join(record['failures']) or '-'} | {', '.join(record['unseen']) or '-'} | {record['seconds']:.0f} s |"
        for record in records
    ]
    passed = sum(not record["failures"] for record in records)
    slowest = max(record["seconds"] for record in records)
    rows.append(f"\n{passed} of {len(records)} pass; the slowest took {slowest:.0f} s, some beside other work.")
    return "\n".join(rows)


def learn_table(learn: dict[str, Any]) -> str:
    """Returns the table of `learn.py`, a row a preset."""
    presets = list(dict.fromkeys(run["preset"] for run in learn["runs"]))
    rows = [
        "| what it keeps of | final checkpoint, by seed | steps, by seed | command of the first |",
        "|---|---|---|---|",
    ]
    for preset in presets:
        runs = [run for run in learn["runs"] if run["preset"] == preset]
        scores = ", ".join(f"{run['return_mean']:.1f}" for run in runs)
        steps = ", ".join(f"{run['steps']:,}" for run in runs)
        rows.append(f"| `{preset}` | {scores} | {steps} | `{runs[0]['command']}` |")
    passed = sum(run["return_mean"] >= learn["bar"] for run in learn["runs"])
    rows.append(
        f"\n{passed} of {len(learn['runs'])} runs at or above {learn['bar']:g}, over 100 episodes that training never "
        "saw. A run stops early where its last 20 training episodes average 495."
    )
    return "\n".join(rows)


def scores_by_seed(presets: dict[str, list[dict[str, Any]]]) -> str:
    """Returns a table of the records of `learning.py`, a row a run."""
    rows = [
        "| preset | seed | final checkpoint | 95% interval | wall time | commit | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for preset, runs in presets.items():
        for run in runs:
            low, high = run["score"]["return_ci95"]
            rows.append(
                f"| `{preset}` | {run['seed']} | {run['score']['return_mean']:.2f} | {low:.2f} to {high:.2f} "
                f"| {run['wall_seconds'] / 60:.0f} min | `{(run.get('commit') or '-')[:7]}` | `{run['command']}` |"
            )
    medians = [
        f"`{preset}` {statistics.median(run['score']['return_mean'] for run in runs):.2f}"
        for preset, runs in presets.items()
    ]
    return "\n".join([*rows, f"\nMedians: {', '.join(medians)}."])


def page_results(presets: Sequence[str], records: dict[str, list[dict[str, Any]]]) -> str:
    """Returns what one page of ``docs/algorithms`` says of its presets."""
    learn, speed = load("learn.json"), load("variant_speed.json")
    lines = [
        f"| CartPole | {run['seed']} | {run['return_mean']:.1f} | `{run['command']}` |"
        for run in (learn["runs"] if learn else ())
        if run["preset"] in presets
    ]
    for preset in presets:
        lines += [
            f"| {_name(run['protocol']['environment'])} | {run['seed']} | {run['score']['return_mean']:.2f} "
            f"| `{run['command']}` |"
            for run in records.get(preset, ())
        ]
    parts = ["\n".join(["| on | seed | final checkpoint | command |", "|---|---|---|---|", *lines])] if lines else []
    timed = speed["presets"] if speed else {}
    parts += [
        f"An update of `{preset}` takes {timed[preset]['ratio']:.2f} of the time of one of `{speed['base']}`, on two "
        "cores of a CPU (`python benchmarks/variant_speed.py`)."
        for preset in presets
        if preset in timed and preset != speed["base"]
    ]
    return "\n\n".join(parts) or "Not measured yet."


def _name(environment: dict[str, Any]) -> str:
    return str(environment.get("id") or environment.get("game"))
