"""Tables of speed beside other libraries, and of the memory of the replay."""

from __future__ import annotations

import re
import statistics
from typing import Any

# Run as a script, so a neighbour in its folder is a module of its own; mypy sees a package.
from peer_rounds import ratios  # type: ignore[import-not-found]


def peers_table(measured: dict[str, Any]) -> str:
    """Returns the table of `cartpole_speed.py` or `pong_speed.py`, a row a side, with ratios to each library it has."""
    speeds = measured["steps_per_second"]
    libraries = ratios(speeds)
    rows = [
        "| side | agent steps/s, median | spread |" + "".join(f" of {name}, median | spread |" for name in libraries),
        "|---|---|---|" + "---|---|" * len(libraries),
    ]
    for name, found in speeds.items():
        shares = [sides[name] for sides in libraries.values()]
        rows.append(
            f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} |"
            + "".join(f" {statistics.median(own):.2f} | {min(own):.2f} to {max(own):.2f} |" for own in shares)
        )
    versions = "".join(f"{name} {version}, " for name, version in measured.get("versions", {}).items())
    rows.append(
        f"\n{len(next(iter(speeds.values())))} rounds of {measured['steps']:,} learning steps, compared round by "
        f"round; {versions}{_machine(measured)}{_commit(measured)}."
    )
    return "\n".join(rows)


def time_table(measured: dict[str, Any]) -> str:
    """Returns the table of `time_shares.py`, a row a config: medians of the rounds, and the spread of the loop."""
    rows = [
        "| config | threads | agent steps/s, median | spread | outside of updates | an update | of the limit "
        "| sampling | acting | stepping |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in measured["rows"]:
        found = row["found"]
        speeds = [each["steps_per_second"] for each in found]
        parts = {
            part["name"]: statistics.median(each["parts"][number]["milliseconds"] for each in found)
            for number, part in enumerate(found[0]["parts"])
        }
        threads = f"{found[0]['threads']}"
        if found[0]["emulator_threads"] is not None:
            threads += f" + {found[0]['emulator_threads']}"
        outside, limit = (
            statistics.median(each[name] for each in found) for name in ("share_outside_updates", "share_of_limit")
        )
        rows.append(
            f"| {row['name']} | {threads} | {statistics.median(speeds):,.0f} "
            f"| {min(speeds):,.0f} to {max(speeds):,.0f} | {outside:.0%} | {parts['update']:.2f} ms | {limit:.0%} "
            f"| {parts['sampling']:.2f} ms | {parts['acting']:.2f} ms | {parts['stepping']:.2f} ms |"
        )
    rows.append(
        f"\nThreads of the learner + of emulators; acting and stepping are for all environments at once. "
        f"{len(measured['rows'][0]['found'])} rounds in alternation; {_machine(measured)}{_commit(measured)}."
    )
    return "\n".join(rows)


def memory_table(measured: list[dict[str, Any]]) -> str:
    """Returns the table of `replay_memory.py`, a row a game."""
    rows = [
        "| game | played by | mean return | transitions | unpacked | packed | whole replay | planned at most "
        "| store a frame | batch of 32: median (10% to 90%) | dense |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in measured:
        who = "chance" if entry["agent_steps"] is None else f"`{entry['agent_preset']}`, {entry['agent_steps']:,} steps"
        whole = entry["arena_bytes_touched"] + entry["index_bytes"] + entry["item_bytes"]
        low, middle, high = entry["sample_milliseconds"]
        unpacked, packed, planned = (entry[f"{name}_bytes"] / 1e9 for name in ("unpacked", "packed", "planned"))
        rows.append(
            f"| {entry['game']} | {who} | {entry['return_mean']} | {entry['items']:,} "
            f"| {unpacked:.2f} GB | {packed:.2f} GB, {unpacked / packed:.1f}x "
            f"| {whole / 1e9:.2f} GB | {planned:.2f} GB "
            f"| {entry['append_microseconds_a_frame']:.0f} us | {middle:.2f} ms ({low:.2f} to {high:.2f}) "
            f"| {entry['dense_sample_milliseconds'][1]:.2f} ms |"
        )
    rows.append(
        f"\nThe whole replay is the touched pages of the arena, where each frame lies, and the table of items; "
        f"{_machine(measured[0])}, python-lz4 {measured[0]['lz4']}."
    )
    return "\n".join(rows)


def variant_speed_table(measured: dict[str, Any]) -> str:
    """Returns the table of `variant_speed.py`."""
    rows = [f"| preset | batch | torso | parameters | update | of `{measured['base']}` |", "|---|---|---|---|---|---|"]
    for name, row in sorted(measured["presets"].items(), key=lambda item: item[1]["ratio"]):
        low, high = min(row["ratios"]), max(row["ratios"])
        rows.append(
            f"| `{name}` | {row['batch_size']} | {row['torso']} | {row['parameters']:,} "
            f"| {row['milliseconds']:.0f} ms | {row['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    rows.append(
        f"\nThe row of `{measured['base']}` is that learner beside itself. {measured['threads']} threads, "
        f"{measured['precision']}; {_machine(measured)}{_commit(measured)}."
    )
    return "\n".join(rows)


def _machine(record: dict[str, Any]) -> str:
    processor = re.sub(r"\(R\)|Processor", "", record["machine"]["cpu"]).strip()
    return f"{processor}, {record['machine']['cores']} cores"


def _commit(record: dict[str, Any]) -> str:
    """Returns the commit that was measured; earlier records do not say."""
    name, _, changed = record.get("commit", "").partition("-")
    return f", `{name[:7]}`" + (", changed" if changed else "") if name else ""
