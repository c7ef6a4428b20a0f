"""What happened, from the environments' own words: naively, one environment after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dqn_cli.core.errors import RunError
from dqn_cli.core.types import Array, BoolArray, FloatArray, IntArray
from dqn_cli.envs.contract import BackendStep, EnvironmentSpec
from dqn_cli.experiments.audit.tap import Begun, Stepped, Tap


@dataclass(frozen=True, slots=True)
class TrueEnd:
    """An episode that ended.

    Attributes:
        env: Which of the N environments.
        episode: Number of the episode in that environment, from 0.
        seed: Of its lineage.
        lineage_steps: Steps that the lineage had taken when it began.
        score: Sum of raw rewards.
        frames: Emulator frames, those of the reset included.
        actions: All of them.
        terminated: What the environment said of its last step.
        truncated: The same.
    """

    env: int
    episode: int
    seed: int
    lineage_steps: int
    score: float
    frames: int
    actions: tuple[int, ...]
    terminated: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class TrueStep:
    """One vector step; see `dqn_cli.envs.contract.StepResult` for the fields of that name.

    Attributes:
        actions: ``[N]`` that the environments got.
        reset: ``[N]`` who was reset; the same as ``restarted`` unless something is wrong.
        unexpected: What was done to the environments beside one step and at most one reset, or empty.
        ends: The episodes that ended.
    """

    actions: IntArray
    observation: Array
    successor: Array
    reward: FloatArray
    terminal: BoolArray
    truncated: BoolArray
    restarted: BoolArray
    reset: BoolArray
    unexpected: str
    ends: tuple[TrueEnd, ...]


@dataclass(slots=True)
class _Running:
    """An episode that runs."""

    episode: int
    seed: int
    lineage_steps: int
    frames: int
    lives: int | None
    rewards: list[float] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)


class Truth:
    """Derives from what a tap heard what every step must say.

    Args:
        tap: Between the environments and whatever steps them.
        max_episode_frames: Emulator frames, those of the reset included, at which an episode is cut; None: never.
        terminal_on_life_loss: A lost life ends the bootstrap.
    """

    def __init__(self, tap: Tap, max_episode_frames: int | None, terminal_on_life_loss: bool) -> None:
        self._tap, self._spec = tap, tap.spec
        self._cap, self._life_loss = max_episode_frames, terminal_on_life_loss
        self._running: list[_Running | None] = [None] * self._spec.num_envs
        self._early: list[Begun | Stepped] = []  # between the first reset and the first action: nothing

    @property
    def spec(self) -> EnvironmentSpec:
        """The environments' description."""
        return self._spec

    def begin(self) -> Array:
        """Returns the observations ``[N, S, ...]`` of the first reset."""
        first, *self._early = self._tap.taken()
        assert isinstance(first, Begun)
        for env in range(self._spec.num_envs):
            self._begin(env, first)
        return first.reset.observation

    def step(self) -> TrueStep:
        """Returns what the latest vector step must say.

        Raises:
            RunError: The environments were not stepped.
        """
        events = [*self._early, *self._tap.taken()]
        self._early.clear()
        stepped = [event for event in events if isinstance(event, Stepped)]
        begun = [event for event in events if isinstance(event, Begun)]
        if not stepped:
            raise RunError("a vector step was returned without a step of the environments")
        count = self._spec.num_envs
        step = stepped[0].step
        terminal, truncated, ended, reset = (np.zeros(count, np.bool_) for _ in range(4))
        ends = []
        for env in range(count):
            running = self._running[env]
            assert running is not None
            lost = self._moves(running, stepped[0], env)
            capped = self._cap is not None and running.frames >= self._cap
            terminal[env] = step.terminated[env] or (lost and self._life_loss)
            ended[env] = step.terminated[env] or step.truncated[env] or capped
            truncated[env] = ended[env] and not terminal[env]
            if ended[env]:
                ends.append(_end(env, running, step))
        observation = step.observation.copy()
        for event in begun:
            reset |= event.mask
            for env in np.flatnonzero(event.mask).tolist():
                self._begin(env, event)
                observation[env] = event.reset.observation[env]
        usual = len(stepped) == 1 and events[0] is stepped[0] and len(begun) <= 1
        unexpected = "" if usual else f"{len(stepped)} steps and {len(begun)} resets"
        told = observation, step.observation, step.reward, terminal, truncated, ended
        return TrueStep(stepped[0].actions, *told, reset, unexpected, tuple(ends))

    def _moves(self, running: _Running, stepped: Stepped, env: int) -> bool:
        """Counts a step of one environment and returns whether a life was lost in it."""
        running.frames += self._spec.frames_per_step
        running.actions.append(int(stepped.actions[env]))
        running.rewards.append(float(stepped.step.reward[env]))
        before = running.lives
        running.lives = None if stepped.step.lives is None else int(stepped.step.lives[env])
        return before is not None and running.lives is not None and running.lives < before

    def _begin(self, env: int, event: Begun) -> None:
        before, seed, reset = self._running[env], event.seeds[env], event.reset
        if before is None:
            assert seed is not None
            episode, lineage_steps = 0, 0
        else:
            episode, lineage_steps = before.episode + 1, before.lineage_steps + len(before.actions)
        self._running[env] = _Running(
            episode,
            seed=before.seed if seed is None and before is not None else int(seed or 0),
            lineage_steps=lineage_steps if seed is None else 0,
            frames=0 if reset.frames is None else int(reset.frames[env]),
            lives=None if reset.lives is None else int(reset.lives[env]),
        )


def _end(env: int, running: _Running, step: BackendStep) -> TrueEnd:
    return TrueEnd(
        env,
        running.episode,
        running.seed,
        running.lineage_steps,
        sum(running.rewards),
        running.frames,
        tuple(running.actions),
        bool(step.terminated[env]),
        bool(step.truncated[env]),
    )
