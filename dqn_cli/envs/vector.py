"""Turns a backend that only steps into the stream of whole episodes that the loop reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dqn_cli.core.errors import BrokenEnvironmentError, UsageError
from dqn_cli.core.interruption import Waiting
from dqn_cli.core.stateful import State
from dqn_cli.core.types import Array, BoolArray, IntArray
from dqn_cli.envs.contract import (
    BackendReset,
    BackendStep,
    EnvironmentSpec,
    EpisodeEnd,
    StepResult,
    VectorBackend,
    check_actions,
)
from dqn_cli.envs.failure import Place, failed_reset, failed_step
from dqn_cli.envs.lineage import LineageLog, SeedPolicy, SeedsAgain
from dqn_cli.envs.running import RunningEpisodes

_LARGEST_REWARD = float(np.finfo(np.float32).max)
"""Replay keeps rewards as float32."""


class EpisodicVector:
    """N environments as a stream of episodes; implements ``Environments``.

    An environment whose episode ended is reset by mask inside ``recv``, so that no step is ever taken between
    two episodes. The state holds what replays the running episodes, not the emulators themselves.

    Args:
        backend: The environments.
        seeds: Decides how each episode is seeded.
        max_episode_frames: Emulator frames, those of the reset included, after which an episode is cut as
            truncated; None for no limit.
        terminal_on_life_loss: A lost life ends the bootstrap; stack, episode and score go on.
        waiting: Knows when the backend is waited for; after `Interrupted`, `abandon` takes the step in hand back.
    """

    def __init__(
        self,
        backend: VectorBackend,
        seeds: SeedPolicy,
        max_episode_frames: int | None,
        terminal_on_life_loss: bool,
        waiting: Waiting | None = None,
    ) -> None:
        self._waiting = waiting or Waiting()
        self._backend = backend
        self._seeds = seeds
        self._max_episode_frames = max_episode_frames
        self._terminal_on_life_loss = terminal_on_life_loss
        self._spec = backend.spec
        num_envs = self._spec.num_envs
        self._log = LineageLog(num_envs, self._spec.num_actions)
        self._running = RunningEpisodes(num_envs, self._spec.frames_per_step, max_episode_frames, terminal_on_life_loss)
        self._sent: IntArray | None = None
        self._observation: Array | None = None
        self._next_seeds: Sequence[int | None] = ()  # of the latest reset

    @property
    def spec(self) -> EnvironmentSpec:
        """The environments' description."""
        return self._spec

    @property
    def observation(self) -> Array:
        """Observations ``[N, S, ...]`` to act on next.

        Raises:
            RuntimeError: No episode runs.
        """
        if self._observation is None:
            raise RuntimeError("there is no observation before the first reset")
        return self._observation

    def reset(self) -> Array:
        """Starts an episode in every environment and returns observations ``[N, S, ...]``."""
        self._sent = None
        everywhere = np.ones(self._spec.num_envs, dtype=np.bool_)
        reset = self._begin(everywhere)
        self._take_over(everywhere, reset)
        self._observation = reset.observation
        return self._observation

    def send(self, actions: IntArray) -> None:
        """Starts a step.

        Args:
            actions: ``[N]`` int64 in 0 to A-1.

        Raises:
            ValueError: Wrong dtype, shape or range; nothing was sent. An emulator thread that got such an
                action would never answer.
        """
        check_actions(actions, self._spec)
        if self._observation is None or self._sent is not None:
            raise RuntimeError("send needs a reset first, and a recv between two sends")
        # The caller may reuse its array before the step is logged.
        self._sent = actions.copy()
        try:
            with self._waiting:
                self._backend.send(self._sent)
        except BrokenEnvironmentError as failure:
            raise failed_step(failure, self._stopped_at(failure.env_index)) from failure

    def recv(self) -> StepResult:
        """Waits for the step, begins new episodes where one ended, and returns both sides.

        Raises:
            BrokenEnvironmentError: An environment failed, in its step or in the reset after it, or its reward is no
                finite number; the message says where, and the state is that before the step.
        """
        if self._sent is None:
            raise RuntimeError("recv without send")
        step = self._received()
        terminal, truncated, ended = self._running.ends(step.terminated, step.truncated, step.lives)
        # A reset may fail: until it is done, the state is that before the step.
        reset = self._begin(ended) if ended.any() else None
        self._log.append(self._sent)
        self._sent = None
        self._running.advance(step.reward, step.lives)
        if reset is not None:
            return self._restart(step, reset, terminal, truncated, ended)
        self._observation = step.observation
        return StepResult(step.observation, step.observation, step.reward, terminal, truncated, ended, ())

    def abandon(self) -> None:
        """Takes back a step that was sent; the state is that before it, and only ``close`` may follow."""
        self._sent = None

    def restart(self, mask: BoolArray) -> Array:
        """Leaves the running episodes in ``mask [N]`` where they are and starts others, each with a seed.

        Returns:
            Observations ``[N, S, ...]`` to act on next.
        """
        reset = self._begin(mask, anew=True)
        self._take_over(mask, reset)
        observation = self.observation.copy()
        observation[mask] = reset.observation[mask]
        self._observation = observation
        return observation

    def resume(self) -> BoolArray:
        """Brings the environments to where the loaded state says, by playing their lineages again.

        All arrive together: one with a shorter lineage is seeded later, and idles until then.

        Returns:
            Which of them, ``[N]``, arrived elsewhere: they are not reproducible, and must be restarted.

        Raises:
            BrokenEnvironmentError: An environment failed on the way.
        """
        seeds = SeedsAgain([self._log.seed(index) for index in range(self._spec.num_envs)])
        again = EpisodicVector(
            self._backend, seeds, self._max_episode_frames, self._terminal_on_life_loss, self._waiting
        )
        again.reset()
        for starting, actions in self._log.together():
            if starting.any():
                again.restart(starting)
            if actions is not None:
                again.send(actions)
                again.recv()
        return self._differs(again)

    def _differs(self, again: EpisodicVector) -> BoolArray:
        """Returns where, ``[N]``, another stream over the same environments stands elsewhere."""
        differs = self._running.differs(again._running)
        seen, found = (vector.observation.reshape(len(differs), -1).view(np.uint8) for vector in (self, again))
        differs |= (seen != found).any(1)
        return differs

    def close(self) -> None:
        """Frees workers and emulators; may be called twice."""
        self._backend.close()

    def _received(self) -> BackendStep:
        try:
            with self._waiting:
                step = self._backend.recv()
            fits = np.abs(step.reward) <= _LARGEST_REWARD
            if not fits.all():
                index = int(np.flatnonzero(~fits)[0])
                reward = step.reward[index]
                why = ", more than float32 holds" if np.isfinite(reward) else ""
                raise BrokenEnvironmentError(f"environment {index} gave the reward {reward}{why}", index)
        except BrokenEnvironmentError as failure:
            raise failed_step(failure, self._stopped_at(failure.env_index)) from failure
        return step

    def _stopped_at(self, env_index: int | None) -> Place | None:
        """Returns where an environment stands that has failed; a step in hand counts as not taken from here on."""
        sent, self._sent = self._sent, None
        if env_index is None or self._observation is None:
            return None
        lineage = self._log.lineage(env_index)
        actions = np.frombuffer(lineage.actions, f"<u{self._log.action_bytes}").tolist()
        step = None
        if sent is not None:
            actions.append(int(sent[env_index]))
            step = self._running.length(env_index)
        episode = int(self._running.number[env_index])
        return Place(env_index, episode, step, lineage.seed, actions, lineage.episode_offset)

    def state_dict(self) -> State:
        """Returns the running lineages, the counters of the running episodes, and the current observation.

        Raises:
            RuntimeError: No episode runs, or a step is in flight.
        """
        if self._observation is None or self._sent is not None:
            raise RuntimeError("the state of environments is whole only between a recv and a send")
        return {
            "lineages": self._log.state_dict(),
            **self._running.state_dict(),
            "observation": torch.tensor(self._observation),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a state that ``state_dict`` returned; the backend's environments are not touched.

        Raises:
            UsageError: The state is of another number of environments.
        """
        num_envs = self._spec.num_envs
        if len(state["episode"]) != num_envs:
            raise UsageError(
                f"env.num_envs: the checkpoint has {len(state['episode'])} environments, the config"
                f" {num_envs}; set env.num_envs={len(state['episode'])}"
            )
        self._log.load_state_dict(state["lineages"])
        self._running.load_state_dict(state)
        self._sent = None
        observation, frame = state["observation"].numpy().copy(), self._spec.observation
        if (observation.shape, observation.dtype) != ((num_envs, frame.stack, *frame.shape), frame.dtype):
            raise UsageError(
                f"env: the checkpoint has observations {list(observation.shape)} {observation.dtype}, the config "
                f"{[num_envs, frame.stack, *frame.shape]} {frame.dtype}; keep the run's environment"
            )
        self._observation = observation

    def _restart(
        self, step: BackendStep, reset: BackendReset, terminal: BoolArray, truncated: BoolArray, ended: BoolArray
    ) -> StepResult:
        episodes = tuple(self._episode_end(int(index), bool(step.terminated[index])) for index in np.flatnonzero(ended))
        self._take_over(ended, reset)
        observation = step.observation.copy()
        observation[ended] = reset.observation[ended]
        self._observation = observation
        # Where both happen at once there is nothing left to bootstrap from.
        truncated = truncated & ~terminal
        return StepResult(observation, step.observation, step.reward, terminal, truncated, ended, episodes)

    def _begin(self, mask: BoolArray, anew: bool = False) -> BackendReset:
        """Resets the environments in ``mask [N]``, and changes nothing else: it may fail; ``anew`` ends lineages."""
        seeds: list[int | None] = [None] * self._spec.num_envs
        in_hand = 0 if self._sent is None else 1  # a step that is not logged yet
        for index in np.flatnonzero(mask).tolist():
            steps = sys.maxsize if anew else self._log.steps(index) + in_hand
            seeds[index] = self._seeds.next_seed(index, int(self._running.number[index]) + 1, steps)
        try:
            with self._waiting:
                reset = self._backend.reset(mask, seeds)
        except BrokenEnvironmentError as failure:
            place, whole = self._stopped_at(failure.env_index), self._observation is not None
            raise failed_reset(failure, seeds, place, whole) from failure
        self._next_seeds = seeds
        return reset

    def _take_over(self, mask: BoolArray, reset: BackendReset) -> None:
        """Begins the episode of each environment in ``mask [N]`` that ``_begin`` has reset."""
        for index in np.flatnonzero(mask).tolist():
            self._log.begin_episode(index, self._next_seeds[index])
        self._running.begin(mask, reset.lives, reset.frames)

    def _episode_end(self, index: int, terminated: bool) -> EpisodeEnd:
        lineage_steps, seed = self._log.episode_offset(index), self._log.seed(index)
        return EpisodeEnd(
            env_index=index,
            episode=int(self._running.number[index]),
            seed=seed,
            lineage_steps=lineage_steps,
            score=float(self._running.score[index]),
            length=self._running.length(index),
            frames=self._running.frames(index),
            terminated=terminated,
            actions=self._log.episode_actions(index),
        )
