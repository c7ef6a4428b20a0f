"""What a replay of a million Atari transitions takes, compressed, and how long a batch takes.

    python benchmarks/replay_memory.py --game Qbert
    python benchmarks/replay_memory.py --game Pong --agent RUN/checkpoint.pt

Plays a million steps, at random or as the agent of a checkpoint does (epsilon 0.05), stores every frame, and then times
batches of 32 beside a dense replay of a tenth of the size. An agent that learnt on a smaller screen, which must divide
84, sees the mean of each block of pixels. Memory is that of the store and the table of items: packed bytes, pages of
the arena that were touched, and what the whole process has gained.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lz4
import numpy as np
import torch

from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import Training, make_environments, make_network, make_training
from dqn_cli.config import load_config
from dqn_cli.core.machine import describe_machine
from dqn_cli.envs.atari import AtariOptions
from dqn_cli.hardware import resolve_hardware
from dqn_cli.plan import make_plan
from dqn_cli.replay.buffer import Replay
from dqn_cli.replay.compressed_frames import CompressedHostFrames
from dqn_cli.replay.items import item_bytes
from dqn_cli.schema import RunOptions
from dqn_cli.training.checkpoint import read_checkpoint
from dqn_cli.training.weights import load_weights

HERE = Path(__file__).resolve().parent
PAGE = 4096


def resident_bytes() -> int:
    """Returns the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE


def make(game: str, capacity: int, storage: str) -> tuple[RunOptions, Training]:
    """Returns options and objects of a run whose replay holds ``capacity`` transitions."""
    overrides = [f"env.game={game}", f"replay.capacity={capacity}", f"replay.storage={storage}", "device=cpu"]
    options = load_config("atari/nature", [*overrides, "replay.warmup_steps=100"], RunOptions, presets_folder()).options
    return options, make_training(options, resolve_hardware(options), make_environments(options))


def player(agent: Path | None, training: Training) -> Any:
    """Returns what chooses actions: an agent with epsilon 0.05, or chance."""
    spec, rng = training.environments.spec, np.random.default_rng(0)
    if agent is None:
        return lambda _: rng.integers(spec.num_actions, size=spec.num_envs)
    checkpoint = read_checkpoint(agent)
    trained = RunOptions.model_validate(checkpoint.config)
    assert isinstance(trained.env, AtariOptions)
    screen = trained.env.screen
    block = spec.observation.shape[0] // screen
    seen = replace(spec, observation=replace(spec.observation, shape=(screen, screen)))
    network = make_network(trained, seen, resolve_hardware(trained)).eval()
    load_weights(network, checkpoint, "this game")

    def act(observation: Any) -> Any:
        blocks = observation.reshape(*observation.shape[:2], screen, block, screen, block)
        pixels = torch.from_numpy(blocks.mean((3, 5)).round().astype(np.uint8))
        with torch.inference_mode():
            greedy = network(pixels).values().argmax(1).numpy()
        random = rng.integers(spec.num_actions, size=spec.num_envs)
        return np.where(rng.random(spec.num_envs) < 0.05, random, greedy)

    return act


def play(training: Training, act: Any, steps: int) -> dict[str, Any]:
    """Stores ``steps`` transitions; returns returns of whole games and the time that storing took."""
    environments, replay = training.environments, training.replay
    replay.begin(environments.reset())
    returns, seconds = [], 0.0
    for _ in range(0, steps, environments.spec.num_envs):
        actions = act(environments.observation)
        environments.send(actions)
        r = environments.recv()
        returns += [end.score for end in r.episodes]
        begun = time.perf_counter()
        replay.append(actions, r.reward, r.terminal, r.truncated, r.successor, r.restarted, r.observation)
        seconds += time.perf_counter() - begun
    return {"returns": returns, "append_seconds": seconds}


def sample_milliseconds(replay: Replay, batches: int = 300) -> list[float]:
    """Returns the times of batches of 32, sorted."""
    times = []
    for step in range(batches):
        begun = time.perf_counter()
        replay.sample(32, step)
        times.append(1e3 * (time.perf_counter() - begun))
    return sorted(times)


def main() -> None:
    """Plays, measures, prints, and writes ``data/replay_memory-GAME.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", required=True)
    parser.add_argument("--agent", type=Path, help="a checkpoint; without one actions are random")
    parser.add_argument("--transitions", type=int, default=1_000_000)
    options = parser.parse_args()
    run, training = make(options.game, options.transitions, "compressed")
    frames = training.replay.frames
    assert isinstance(frames, CompressedHostFrames)
    before = resident_bytes()
    act = player(options.agent, training)
    played = play(training, act, options.transitions + 10 * training.environments.spec.num_envs)
    gained = resident_bytes() - before
    training.environments.close()
    compressed = sample_milliseconds(training.replay)
    _, dense = make(options.game, options.transitions // 10, "dense")
    play(dense, player(options.agent, dense), options.transitions // 10)
    dense.environments.close()
    plain = sample_milliseconds(dense.replay)
    arena = np.frombuffer(frames._arena, np.uint8)
    touched = sum(bool(arena[begin : begin + PAGE].any()) for begin in range(0, len(arena), PAGE)) * PAGE
    count, returns = frames.written - frames.oldest + 1, played["returns"]
    checkpoint = None if options.agent is None else read_checkpoint(options.agent)
    result: dict[str, Any] = {
        "command": f"python benchmarks/replay_memory.py --game {options.game}"
        + (f" --agent RUN/{options.agent.name}" if options.agent else "")
        + ("" if options.transitions == 1_000_000 else f" --transitions {options.transitions}"),
        "game": options.game,
        "agent_steps": None if checkpoint is None else checkpoint.step,
        "agent_preset": None if checkpoint is None else checkpoint.name,
        "return_mean": round(float(np.mean(returns)), 2) if returns else None,
        "items": len(training.replay),
        "frames": count,
        "packed_bytes": frames.packed_bytes,
        "arena_bytes_touched": touched,
        "index_bytes": frames._offset.nbytes + frames._length.nbytes,
        "item_bytes": options.transitions * item_bytes(4),
        "gained_bytes": gained,
        "unpacked_bytes": count * frames.frame_bytes,
        "planned_bytes": make_plan(run).replay_bytes,
        "append_microseconds_a_frame": round(1e6 * played["append_seconds"] / count, 1),
        "sample_milliseconds": [round(compressed[len(compressed) * q // 100], 3) for q in (10, 50, 90)],
        "dense_sample_milliseconds": [round(plain[len(plain) * q // 100], 3) for q in (10, 50, 90)],
        "lz4": lz4.VERSION if hasattr(lz4, "VERSION") else lz4.version.version,
        "machine": describe_machine(),
    }
    name = options.game + ("-agent" if options.agent else "")
    (HERE / "data" / f"replay_memory-{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
