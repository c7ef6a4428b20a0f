"""Holds environments to their promises: an episode is a function of a seed and of actions, inside declared spaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from dqn_cli.build import ENVIRONMENTS
from dqn_cli.core.errors import told
from dqn_cli.core.kinds import make
from dqn_cli.core.rng import derive_seed, stream
from dqn_cli.core.types import Array
from dqn_cli.envs.contract import VectorBackend
from dqn_cli.envs.gymnasium_make import environment_factory
from dqn_cli.envs.spaces import discrete_actions
from dqn_cli.experiments.audit.recorder import Transition
from dqn_cli.experiments.audit.report import Check
from dqn_cli.experiments.audit.truth import TrueEnd
from dqn_cli.schema import RunOptions

_ONE = np.ones(1, np.bool_)


@dataclass(frozen=True, slots=True)
class SeenEpisode:
    """A finished episode and its transitions as they were recorded."""

    end: TrueEnd
    transitions: Sequence[Transition]


class EnvironmentChecks:
    """Checks of environments apart from replay.

    Args:
        options: The config.
        seed: Of what is played for the checks.
    """

    def __init__(self, options: RunOptions, seed: int) -> None:
        self._options, self._seed = options, seed
        self.steps = Check("steps without errors", "an environment that raises")
        self.spaces = Check("declared spaces", "observations outside their space, or of another dtype")
        self.finite = Check("finite rewards", "NaN or infinity, which would enter the network")
        self.twins = Check("two with one seed", "randomness that the seed does not reach")
        self.lineages = Check(
            "episodes played again", "state that outlives an episode, phantom steps (traps 3, 4, 25, 32)"
        )

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in the order in which a reader wants them."""
        return (self.steps, self.spaces, self.finite, self.twins, self.lineages)

    def check_spaces(self, steps: int) -> None:
        """Plays one bare environment, before anything of ours has touched what it returns."""
        env: Any = self._options.env
        if env.kind != "gymnasium":
            self.spaces.reason = "the emulator's observations have the form that we ask for"
            return
        wrappers = [(wrapper.name, wrapper.kwargs) for wrapper in env.wrappers]
        bare = environment_factory(env.id, env.kwargs, wrappers)()
        try:
            self._play_bare(bare, *discrete_actions(bare.action_space, env.id), steps)
        except (Exception, SystemExit) as failure:
            self.steps.hold(False, f"one environment alone: {told(failure)}")
        finally:
            with suppress(Exception, SystemExit):
                bare.close()

    def _play_bare(self, bare: Any, num_actions: int, start: int, steps: int) -> None:
        rng = stream(self._seed, "audit actions")
        observation, _ = bare.reset(seed=derive_seed(self._seed, "audit spaces"))
        self._hold_inside(bare.observation_space, observation, "reset")
        for step in range(steps):
            action = start + rng.integers(num_actions)
            observation, reward, terminated, truncated, _ = bare.step(action)
            self._hold_inside(bare.observation_space, observation, f"step {step}")
            finite = bool(np.isfinite(reward))
            self.finite.hold(finite, f"step {step} with action {action}: the reward is {reward}")
            if terminated or truncated:
                observation, _ = bare.reset()
                self._hold_inside(bare.observation_space, observation, f"the reset after step {step}")

    def check_twins(self, steps: int) -> None:
        """Plays two environments side by side with one seed and the same actions."""
        backend = self._backend(2)
        rng = stream(self._seed, "audit twins")
        ended, episode, seed = np.ones(2, np.bool_), 0, 0
        try:
            for step in range(steps):
                if ended.any():
                    seed = derive_seed(self._seed, "audit twins", episode)
                    observation = backend.reset(ended, [seed, seed]).observation
                    self._hold_equal(observation, f"seed {seed}: the first observations of an episode differ")
                    episode += 1
                backend.send(np.full(2, rng.integers(backend.spec.num_actions)))
                result = backend.recv()
                said = np.stack((result.reward, result.terminated, result.truncated), 1)
                self._hold_equal(result.observation, f"seed {seed}: observations differ after step {step}")
                self._hold_equal(said, f"seed {seed}: rewards or ends differ at step {step}: {said.tolist()}")
                ended = result.terminated | result.truncated
                if self.twins.failure is not None:
                    return
        finally:
            backend.close()

    def check_lineages(self, episodes: Sequence[SeenEpisode], most_steps: int) -> None:
        """Plays recorded episodes again in one fresh environment, the latest lineage first.

        In another order than they were recorded: what outlives an episode would be the same again otherwise.
        """
        if not episodes:
            self.lineages.reason = "no episode ended: give more --steps"
            return
        backend, steps = self._backend(1), 0
        try:
            for lineage in reversed(list(_lineages(episodes))):
                for number, episode in enumerate(lineage):
                    steps += len(episode.transitions)
                    if not self._plays_again(backend, episode, seeded=number == 0):
                        return
                if steps > most_steps:
                    return
        finally:
            backend.close()

    def _plays_again(self, backend: VectorBackend, episode: SeenEpisode, seeded: bool) -> bool:
        """Returns whether an episode came out as it was recorded."""
        place = _place(episode.end)
        observation = backend.reset(_ONE, [episode.end.seed if seeded else None]).observation
        first = episode.transitions[0].observation
        self.lineages.hold(np.array_equal(observation[0], first, equal_nan=True), f"{place}: another first observation")
        for step, transition in enumerate(episode.transitions):
            backend.send(np.array([transition.action]))
            result = backend.recv()
            found = float(result.reward[0]), bool(result.terminated[0]), bool(result.truncated[0])
            last = step == len(episode.transitions) - 1
            end = episode.end
            expected = transition.reward, end.terminated and last, end.truncated and last
            same = np.array_equal(result.observation[0], transition.successor, equal_nan=True)
            self.lineages.hold(same, f"{place}: another observation after step {step}")
            self.lineages.hold(
                found == expected,
                f"{place}: step {step} gave reward, termination and truncation {found}, recorded were {expected}",
            )
            if self.lineages.failure is not None:
                return False
        return True

    def _backend(self, num_envs: int) -> VectorBackend:
        backend: VectorBackend = make(ENVIRONMENTS, self._options.env.model_copy(update={"num_envs": num_envs}))
        return backend

    def _hold_inside(self, space: Any, observation: Any, where: str) -> None:
        inside = space.contains(observation)
        dtype = getattr(observation, "dtype", type(observation).__name__)
        self.spaces.hold(inside, "" if inside else f"{where}: {_short(observation)} of dtype {dtype} is not in {space}")

    def _hold_equal(self, pair: Array, counter_example: str) -> None:
        self.twins.hold(np.array_equal(pair[0], pair[1], equal_nan=pair.dtype.kind == "f"), counter_example)


def _lineages(episodes: Sequence[SeenEpisode]) -> Iterator[list[SeenEpisode]]:
    """Yields the episodes of each lineage in order; those whose beginning was not recorded are left out."""
    by_env: dict[int, list[SeenEpisode]] = {}
    for episode in episodes:
        by_env.setdefault(episode.end.env, []).append(episode)
    for own in by_env.values():
        lineage: list[SeenEpisode] = []
        for episode in own:
            if episode.end.lineage_steps == 0 and lineage:
                yield lineage
                lineage = []
            lineage.append(episode)
        if lineage:
            yield lineage


def _place(end: TrueEnd) -> str:
    return f"environment {end.env}, episode {end.episode}, lineage seed {end.seed}"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
