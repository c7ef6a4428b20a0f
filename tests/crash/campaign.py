"""Kills a run again and again until it has ended, and compares it with one that was never killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.compare import content, differences
from tests.small_runs import PONG, SMALL

ZYGOTE = Path(__file__).with_name("zygote.py")
ROOT = Path(__file__).resolve().parents[2]
ENDED_BY_KILL, FAILED = -9, 1


class Zygote:
    """The process that starts commands; see ``zygote.py``."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, str(ZYGOTE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._read() == "ready"

    def run(self, arguments: list[str], log: Path, **end: Any) -> dict[str, Any]:
        """Runs one command and returns its exit code and number of operations."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"arguments": arguments, "log": str(log), **end}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._read())
        return answer

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def zygote() -> Iterator[Zygote]:
    """Starts the process that starts commands, and ends it."""
    made = Zygote()
    try:
        yield made
    finally:
        made.close()


@dataclass
class Campaign:
    """One config, trained once without and once with kills.

    Attributes:
        config: Name of the preset.
        overrides: Changes to it.
        folder: Where both runs go.
        starter: Starts commands.
        kills: What has been done to the run so far, for people.
    """

    config: str
    overrides: list[str]
    folder: Path
    starter: Zygote
    kills: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Trains without kills."""
        begun = time.monotonic()
        answer = self._command("unkilled")
        self.seconds = time.monotonic() - begun
        self.operations = answer["operations"]
        assert answer["code"] == 0, self._log("unkilled").read_text()

    def kill(self, rng: random.Random) -> None:
        """Starts or continues the run and ends it somewhere: at a random moment, at an operation, by a full disk."""
        way = rng.choice(["moment", "operation", "full"])
        if way == "moment":
            end: dict[str, Any] = {"kill_after": rng.uniform(0.0, self.seconds)}
        elif way == "operation":
            end = {"kill_at": rng.randint(1, self.operations)}
        else:
            end = {"full_at": rng.randint(1, self.operations)}
        answer = self._command("killed", **end)
        self.kills.append(f"{end}: {answer['code']}")
        allowed = {"moment": (0, ENDED_BY_KILL), "operation": (0, ENDED_BY_KILL), "full": (0, FAILED, 2)}[way]
        said = self._log("killed").read_text()
        assert answer["code"] in allowed, f"{self.kills}\n{said}"
        assert "Traceback" not in said, said
        assert "internal error" not in said, said

    def finish(self) -> list[str]:
        """Lets the run end, and returns where it differs from the one that was not killed."""
        answer = self._command("killed")
        assert answer["code"] == 0, f"{self.kills}\n{self._log('killed').read_text()}"
        return differences(content(self.folder / "unkilled"), content(self.folder / "killed"))

    def _command(self, name: str, **end: Any) -> dict[str, Any]:
        run_dir = str(self.folder / name)
        arguments = ["train", self.config, *self.overrides, "--run-dir", run_dir, "--resume"]
        return self.starter.run(arguments, self._log(name), **end)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def overrides_of(
    game: bool, prioritized: bool, n_step: int, num_envs: int, vectorization: str
) -> tuple[str, list[str]]:
    """Returns preset and overrides of one corner of what must survive."""
    sampler = "replay.sampler={kind: prioritized}" if prioritized else "replay.sampler={kind: uniform}"
    common = [sampler, f"replay.n_step={n_step}", f"env.num_envs={num_envs}"]
    if game:
        sizes = ["evaluation={every_steps: 160, episodes: 1}", "env.max_episode_frames=240", "replay.capacity=160"]
        steps = ["total_steps=320", "checkpoint={every_steps: 80, keep: 2}", "env.sticky=0.25"]
        return "atari/default", [*PONG, *common, *sizes, *steps, "env.game=Breakout"]
    return "cartpole", [*SMALL, *common, f"env.vectorization={vectorization}"]
