"""Which number of threads and environments trains fastest here."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dqn_cli.compose import make_environments, make_training, num_envs
from dqn_cli.core.errors import UsageError
from dqn_cli.core.machine import available_cores
from dqn_cli.experiments.benchmark.measure import small, time_loop
from dqn_cli.hardware import MAX_LEARNER_THREADS, resolve_hardware
from dqn_cli.plan import make_plan
from dqn_cli.schema import RunOptions

_ENVIRONMENTS = (1, 4, 8, 16, 32)
_ROUNDS = 3
WORTH = 1.05
"""What is not faster by so much is not worth another number: a machine is noisy."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One choice, and how fast it was.

    Attributes:
        threads: Of the learner.
        num_envs: Environments that step together.
        steps_per_second: Of each round.
    """

    threads: int
    num_envs: int
    steps_per_second: tuple[float, ...]

    @property
    def median(self) -> float:
        """Agent steps a second, median of the rounds."""
        return statistics.median(self.steps_per_second)


@dataclass(frozen=True, slots=True)
class TuneReport:
    """All choices that were tried.

    Attributes:
        settings: Each with its speed.
        present: The one that the config has now.
        advice: The one that is recommended; the present one where none is faster by `WORTH`.
    """

    settings: tuple[Setting, ...]
    present: Setting
    advice: Setting

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, as ``dqn bench --tune --json`` prints them."""
        return {
            "settings": [asdict(setting) | {"median": setting.median} for setting in self.settings],
            "present": asdict(self.present),
            "advice": asdict(self.advice),
        }

    def text(self) -> str:
        """Returns a table for people, and the advice as overrides."""
        lines = ["threads  environments  agent steps/s"]
        for s in self.settings:
            spread = f"({min(s.steps_per_second):,.0f} to {max(s.steps_per_second):,.0f})"
            lines.append(f"{s.threads:7}  {s.num_envs:12}  {s.median:,.0f} {spread}")
        if self.advice == self.present:
            return "\n".join([*lines, "", "nothing tried is faster than the config as it is, by 5% and more"])
        gain = self.advice.median / self.present.median
        said = f"{gain:.2f} times as fast: threads={self.advice.threads} env.num_envs={self.advice.num_envs}"
        if self.advice.num_envs != self.present.num_envs:
            said += "; other environments are another experiment, whose scores may differ"
        return "\n".join([*lines, "", said])


def tune(options: RunOptions, seconds: float, tell: Callable[[str], None]) -> TuneReport:
    """Measures the loop of a config with several numbers of threads and environments, in alternation.

    Args:
        options: The config.
        seconds: How long each of the rounds of each choice is timed.
        tell: Is told how far it is.
    """
    plan = make_plan(options)  # all choices keep their frames where the config does
    options, hardware = plan.options, plan.hardware
    present = (hardware.threads, num_envs(options))
    choices = candidates(options, present, available_cores())
    found: dict[tuple[int, int], list[float]] = {choice: [] for choice in choices}
    rng = random.Random(0)
    for number in range(_ROUNDS):
        tell(f"round {number + 1} of {_ROUNDS}, {len(choices)} choices")
        for choice in rng.sample(choices, len(choices)):
            found[choice].append(_speed(options, *choice, seconds))
    return advise({choice: tuple(speeds) for choice, speeds in found.items()}, present)


def candidates(options: RunOptions, present: tuple[int, int], cores: int) -> list[tuple[int, int]]:
    """Returns the (threads, environments) to try: those that the config can have, the present ones among them."""
    threads = {1, present[0]}
    threads |= {count for count in (2, 4, MAX_LEARNER_THREADS) if count <= cores}
    most = options.replay.capacity // options.replay.n_step
    environments = {count for count in _ENVIRONMENTS if count <= min(most, 16 * cores)} | {present[1]}
    return sorted((t, n) for t in threads for n in environments)


def advise(found: Mapping[tuple[int, int], Sequence[float]], present: tuple[int, int]) -> TuneReport:
    """Returns the report on the speeds ``found`` of each choice."""
    settings = tuple(Setting(*choice, tuple(speeds)) for choice, speeds in sorted(found.items()))
    (own,) = (s for s in settings if (s.threads, s.num_envs) == present)
    best = max(settings, key=lambda setting: setting.median)
    return TuneReport(settings, own, best if best.median >= WORTH * own.median else own)


def _speed(options: RunOptions, threads: int, environments: int, seconds: float) -> float:
    env: Any = options.env.model_copy(update={"num_envs": environments})
    run = small(options.model_copy(update={"env": env, "threads": threads}))
    hardware = resolve_hardware(run)
    hardware.apply()
    try:
        made = make_environments(run)
    except UsageError as error:
        raise UsageError(f"with {environments} environments: {error}") from error
    try:
        return time_loop(make_training(run, hardware, made), run, hardware.device, seconds).steps_per_second
    finally:
        made.close()
