"""Holds what replay and telemetry are told of a step to what the environments said of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dqn_cli.core.types import Array, IntArray
from dqn_cli.envs.contract import EpisodeEnd, StepResult
from dqn_cli.experiments.audit.report import Check
from dqn_cli.experiments.audit.truth import TrueEnd, TrueStep


class Handover:
    """Compares the results of `dqn_cli.envs.vector.EpisodicVector` with the truth.

    Args:
        num_actions: A; tells how wide a logged action is.
    """

    def __init__(self, num_actions: int) -> None:
        self._action_type = "u1" if num_actions <= 256 else "<u2"
        self._count = 0
        self._last: tuple[Array, Array] | None = None
        self._begun: dict[tuple[int, int], int] = {}  # who began an episode of that number with that seed
        self.steps = Check(
            "steps handed on", "other actions, clipped rewards, the wrong episode's frames (traps 2, 3, 4)"
        )
        self.ends = Check("episode ends", "a cut, a lost life or an end taken for another (traps 1, 3, 4, 5, 26)")
        self.records = Check("episode records", "another score, length or seed than the whole game's (traps 1, 2, 10)")

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in the order of the path of the data."""
        return (self.steps, self.ends, self.records)

    def check(self, actions: IntArray, true: TrueStep, found: StepResult) -> None:
        """Compares what a vector step with ``actions [N]`` must say with what it says."""
        self._count += 1
        place = f"vector step {self._count}"
        got = true.actions
        self.steps.hold(np.array_equal(actions, got), f"{place}: actions {actions.tolist()} became {got.tolist()}")
        if self._last is not None:
            self._hold_equal(place, "observation of the step before", *self._last)
        self._last = true.observation, found.observation
        for name in ("successor", "observation", "reward"):
            self._hold_equal(place, name, getattr(true, name), getattr(found, name))
        self.ends.hold(not true.unexpected, f"{place}: the environments took {true.unexpected} for one action")
        for env, ended in enumerate(true.restarted.tolist()):
            self.ends.hold(
                ended == true.reset[env],
                f"{place}: environment {env} {'ended and was not' if ended else 'did not end and was'} reset",
            )
            said, right = _flags(found, env), _flags(true, env)
            self.ends.hold(said == right, f"{place}, environment {env} was told as {said}, what it returned is {right}")
        self._check_records(place, true.ends, found.episodes)

    def _hold_equal(self, place: str, name: str, true: Array, found: Array) -> None:
        if np.array_equal(true, found, equal_nan=true.dtype.kind == "f"):
            self.steps.hold(True, "", len(true))
            return
        same_shape = true.shape == found.shape
        env = next((i for i in range(len(true)) if same_shape and not np.array_equal(true[i], found[i])), 0)
        self.steps.hold(
            False,
            f"{place}: another {name} for environment {env}, {found[env].tolist() if found.size <= 64 else 'of pixels'}"
            f" for {true[env].tolist() if true.size <= 64 else 'what it returned'}",
        )

    def _check_records(self, place: str, true: tuple[TrueEnd, ...], found: tuple[EpisodeEnd, ...]) -> None:
        self.records.hold(
            [end.env for end in true] == [end.env_index for end in found],
            f"{place}: {len(true)} episodes ended, {len(found)} were recorded",
            len(true),
        )
        for end in true:
            if end.lineage_steps == 0:
                other = self._begun.setdefault((end.episode, end.seed), end.env)
                self.records.hold(
                    other == end.env,
                    f"environments {other} and {end.env} both played episode {end.episode} from seed {end.seed}",
                )
        for right, said in zip(true, found, strict=False):
            for name, (wanted, value) in self._record(right, said).items():
                self.records.hold(
                    wanted == value or (name == "score" and math.isclose(wanted, value, rel_tol=1e-9, abs_tol=1e-9)),
                    f"{place}: environment {right.env}, episode {right.episode} was recorded with {name} {value},"
                    f" right is {wanted}",
                )

    def _record(self, right: TrueEnd, said: EpisodeEnd) -> dict[str, tuple[Any, Any]]:
        """Returns for each field what is right and what was said."""
        return {
            "episode": (right.episode, said.episode),
            "seed": (right.seed, said.seed),
            "lineage_steps": (right.lineage_steps, said.lineage_steps),
            "score": (right.score, said.score),
            "length": (len(right.actions), said.length),
            "frames": (right.frames, said.frames),
            "terminated": (right.terminated, said.terminated),
            "actions": (list(right.actions), np.frombuffer(said.actions, self._action_type).tolist()),
        }


def _flags(step: TrueStep | StepResult, env: int) -> str:
    named = {"terminal": step.terminal, "truncated": step.truncated, "restarted": step.restarted}
    return ", ".join(name for name, flags in named.items() if flags[env]) or "going on"
