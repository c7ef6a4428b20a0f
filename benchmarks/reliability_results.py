"""Tables of what checkpoints cost, and of long runs."""

from __future__ import annotations

import re
from typing import Any


def checkpoints_table(measured: list[dict[str, Any]]) -> str:
    """Returns the table of `checkpoint_cost.py`, a row a game."""
    rows = [
        "| game, sampler | stall of a checkpoint | streaming between two | longest pause of it | segments written "
        "| checkpoint file | run folder, keep 2 | hashes checked | read back |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in measured:
        stalls, streamed = entry["stall_seconds"], entry["streaming_seconds_between"]
        rows.append(
            f"| {entry['game']}, {entry['sampler']} | {max(stalls):.2f} s | {max(streamed):.1f} s "
            f"| {entry['longest_stream_seconds']:.2f} s | {max(entry['segment_bytes_written']) / 1e6:.1f} MB "
            f"| {entry['checkpoint_bytes'] / 1e6:.1f} MB | {entry['folder_bytes'] / 1e6:.0f} MB "
            f"| {entry['check_seconds']:.1f} s | {entry['read_seconds']:.1f} s |"
        )
    first = measured[0]
    excess = max(entry["folder_bytes"] - entry["needed_bytes"] for entry in measured)
    processor = re.sub(r"\(R\)|Processor", "", first["machine"]["cpu"]).strip()
    rows.append(
        f"\n{first['items']:,} transitions, a checkpoint every {first['every_steps']:,} steps, the largest of two; "
        f"{processor}, {first['machine']['cores']} cores. The folder holds at most {excess / 1e3:.0f} kB beside what "
        "the manifests name: the manifests, and frames for the next checkpoint."
    )
    return "\n".join(rows)


def soak_table(measured: list[dict[str, Any]]) -> str:
    """Returns the table of `soak.py`, a row a run."""
    rows = [
        "| run | steps | hours | ring full at | memory then | growth since | SIGTERM to end |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in measured:
        stopped = f"{entry['seconds_from_sigterm_to_end']:.1f} s"
        end = "not needed: it was done" if entry["exit_code"] == 0 else stopped
        then = next(size for _, step, size in entry["samples"] if step >= entry["full_step"])
        rows.append(
            f"| `{entry['command']}` | {entry['steps']:,} | {entry['hours']:.2f} | {entry['full_step']:,} "
            f"| {then / 1e6:.0f} MB | {entry['growth_since_full']:.2%} | {end} |"
        )
    return "\n".join(rows)
