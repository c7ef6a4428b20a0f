"""Golden runs: the numbers of a fixed-seed run of each preset, float32 and one thread, sizes overridden.

``python tests/golden/make.py [NAME ...]`` writes them anew, where a change of the numbers is meant; what is not meant
is a bug.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dqn_cli.agent.gradient import Measured
from dqn_cli.agent.learner import Learner
from dqn_cli.cli.options import presets_folder
from dqn_cli.compose import make_environments, make_training
from dqn_cli.config import list_presets, load_config
from dqn_cli.core.machine import cpu_flags
from dqn_cli.core.types import Batch
from dqn_cli.evaluate import Evaluator
from dqn_cli.hardware import resolve_hardware
from dqn_cli.schema import RunOptions

FOLDER = Path(__file__).parent
LOSSES = 25
"""Updates whose losses are kept; up to there no action depends on a network, so that other CPUs come close."""

_SHARED = ("device=cpu", "precision=float32", "threads=1", "memory_format=contiguous")
_RANDOM_UNTIL = "exploration={start: 1.0, end: 0.1, begin_steps: %d, decay_steps: 50, off_after_steps: null}"
_ATARI = (
    "total_steps=400",
    "env.num_envs=2",
    "env.screen=42",
    "env.max_episode_frames=600",
    "replay.capacity=400",
    "replay.warmup_steps=100",
    "learning.batch_size=16",
    "learning.update_every_steps=8",
    _RANDOM_UNTIL % 300,
)
_OTHERS = (
    "total_steps=800",
    "replay.capacity=600",
    "replay.warmup_steps=200",
    "learning.batch_size=16",
    "learning.update_every_steps=8",
    "learning.updates=2",
    _RANDOM_UNTIL % 500,
)
_OWN_SIZES = {
    "cartpole": ("total_steps=2_200", "evaluation.episodes=4"),
    # A wide residual network takes a third of a second for a batch of 16.
    **dict.fromkeys(("atari/btr", "atari/impala-qr"), ("learning.batch_size=8", "learning.update_every_steps=32")),
    "atari/default": ("learning.optimizer.lr=1e-3", "learning.target={kind: periodic, every_steps: 100}"),
}
"""What some presets have beside the common sizes, or instead; elsewhere target copies are far apart."""


def _sizes(preset: str) -> tuple[str, ...]:
    """Returns overrides of sizes alone: what decides how a preset learns stays its own."""
    own = (*_OWN_SIZES.get(preset, ()), "evaluation.episodes=2")
    if preset == "cartpole":
        return (*_SHARED, *_OWN_SIZES[preset])
    return (*_SHARED, *(_ATARI if preset.startswith("atari") else _OTHERS), *own)


RUNS: dict[str, tuple[str, ...]] = {
    preset.replace("/", "-"): (preset, *_sizes(preset)) for preset in list_presets(presets_folder())
}
"""Name to a preset and its overrides: every preset."""

_FEATURES = {"sse4_1", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve"}


def cpu_class() -> dict[str, Any]:
    """Returns what must be equal for two machines to be expected to compute the same bits."""
    facts = dict.fromkeys(("vendor_id", "cpu family", "model", "stepping", "model name", "cache size"), "")
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if facts.get(key.strip()) == "":
                facts[key.strip()] = value.strip()
    except OSError:
        pass
    return {
        **facts,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "features": sorted(cpu_flags() & _FEATURES),
        **{package: version(package) for package in ("torch", "numpy", "gymnasium", "ale-py")},
    }


def golden_run(name: str) -> dict[str, Any]:
    """Trains as ``RUNS`` says, without a run folder, and returns what is compared."""
    preset, *overrides = RUNS[name]
    options = load_config(preset, overrides, RunOptions, presets_folder()).options
    hardware = resolve_hardware(options)
    environments = make_environments(options)
    threads = torch.get_num_threads()
    hardware.apply()
    try:
        training = make_training(options, hardware, environments)
        losses, before = _recorded(training.learner), training.learner.state_dict()["online"]
        actions = hashlib.sha256()
        act = training.actor.act

        def recorded_act(observation: Any, step: int) -> Any:
            chosen = act(observation, step)
            actions.update(chosen.tobytes())
            return chosen

        training.actor.act = recorded_act  # type: ignore[method-assign]
        for _ in training.loop.run():
            pass
        after = training.learner.online.state_dict()
        assert all(bool((before[name] != after[name]).any()) for name in before), "some weights never learn"
        evaluation = Evaluator(options, hardware, options.evaluation.episodes, 0.1, 0, "evaluation")
        played = evaluation.evaluate(training.learner.online)
    finally:
        environments.close()
        torch.set_num_threads(threads)
    assert played is not None
    return {
        "updates": training.learner.updates,
        "losses": losses[:LOSSES],
        "actions": actions.hexdigest(),
        "parameters": _checksum(training.learner),
        "returns": [episode.score for episode in played.episodes],
    }


def _recorded(learner: Learner) -> list[float]:
    """Returns a list that gets the loss of each update of ``learner``."""
    losses: list[float] = []
    gradient = learner._gradient

    class Recorded:
        most = gradient.most

        def __call__(self, batch: Batch, count: int, descend: Callable[[], None]) -> Measured:
            measured = gradient(batch, count, descend)
            losses.extend(measured.loss.tolist())
            return measured

    learner._gradient = Recorded()
    return losses


def _checksum(learner: Learner) -> str:
    digest = hashlib.sha256()
    for name, tensor in learner.online.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    """Writes the numbers of the runs named on the command line, or of every run."""
    for name in sys.argv[1:] or RUNS:
        path = FOLDER / f"{name}.json"
        content = {"run": list(RUNS[name]), "cpu": cpu_class(), **golden_run(name)}
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()
