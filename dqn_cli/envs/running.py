"""The counters of the episodes that run: where each began, what it has scored, when it ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from dqn_cli.core.stateful import State
from dqn_cli.core.types import BoolArray, FloatArray, IntArray


class RunningEpisodes:
    """Counts the running episodes of N environments and says which of them end; ``Stateful``.

    Args:
        num_envs: N.
        frames_per_step: Emulator frames of an agent step.
        max_episode_frames: Frames, those of the reset included, after which an episode is cut as truncated; None for
            no limit.
        terminal_on_life_loss: A lost life ends the bootstrap; the episode goes on.

    Attributes:
        step: Agent steps of each environment.
        number: Episode of each environment ``[N]``, -1 before the first.
        score: Rewards of each running episode ``[N]``, summed.
    """

    def __init__(
        self, num_envs: int, frames_per_step: int, max_episode_frames: int | None, terminal_on_life_loss: bool
    ) -> None:
        self._frames_per_step, self._max_frames = frames_per_step, max_episode_frames
        self._terminal_on_life_loss = terminal_on_life_loss
        self.step = 0
        self.number = np.full(num_envs, -1, dtype=np.int64)
        self.score = np.zeros(num_envs)
        self._lives: IntArray | None = None
        self._reset_frames = np.zeros(num_envs, dtype=np.int64)
        # An episode's length is a difference of step counts: nothing to count up at each step.
        self._start_step = np.zeros(num_envs, dtype=np.int64)
        self._cut_step: IntArray | None = None
        self._next_cut: float = np.inf

    def length(self, index: int) -> int:
        """Returns the agent steps of one running episode."""
        return self.step - int(self._start_step[index])

    def frames(self, index: int) -> int:
        """Returns the emulator frames of one running episode, those of its reset included."""
        return int(self._reset_frames[index]) + self.length(index) * self._frames_per_step

    def ends(
        self, terminated: BoolArray, truncated: BoolArray, lives: IntArray | None
    ) -> tuple[BoolArray, BoolArray, BoolArray]:
        """Returns where, ``[N]``, the next step is terminal, truncated, and the end of its episode; changes nothing."""
        terminal = terminated
        if lives is not None and self._terminal_on_life_loss and self._lives is not None:
            terminal = terminal | (lives < self._lives)
        if self.step + 1 >= self._next_cut:
            truncated = truncated | (self._cut_step == self.step + 1)
        return terminal, truncated, terminated | truncated

    def advance(self, reward: FloatArray, lives: IntArray | None) -> None:
        """Counts a step of every environment."""
        self.step += 1
        self.score += reward
        if lives is not None:
            self._lives = lives

    def begin(self, mask: BoolArray, lives: IntArray | None, frames: IntArray | None) -> None:
        """Begins the next episode in ``mask [N]``, with what a reset has left in each environment."""
        self.number[mask] += 1
        self.score[mask] = 0.0
        self._start_step[mask] = self.step
        if frames is not None:
            self._reset_frames[mask] = frames[mask]
        if lives is not None:
            self._lives = lives if self._lives is None else np.where(mask, lives, self._lives)
        self._schedule_cuts()

    def differs(self, other: RunningEpisodes) -> BoolArray:
        """Returns where, ``[N]``, the running episodes are not those of ``other``, whatever their number."""
        own, found = self.state_dict(), other.state_dict()
        differs = np.zeros(len(self.number), dtype=np.bool_)
        for name in ("length", "frames", "score", "lives"):
            if own[name] is not None:
                differs |= np.array(own[name]) != np.array(found[name])
        return differs

    def state_dict(self) -> State:
        """Returns what every environment's running episode has come to."""
        return {
            "episode": self.number.tolist(),
            "length": (self.step - self._start_step).tolist(),
            "frames": [self.frames(index) for index in range(len(self.number))],
            "score": self.score.tolist(),
            "lives": None if self._lives is None else self._lives.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a state that ``state_dict`` returned; steps are counted from here on."""
        length = np.array(state["length"], dtype=np.int64)
        self.step, self._start_step = 0, -length
        self.number = np.array(state["episode"], dtype=np.int64)
        self.score = np.array(state["score"], dtype=np.float64)
        self._lives = None if state["lives"] is None else np.array(state["lives"], dtype=np.int64)
        self._reset_frames = np.array(state["frames"], dtype=np.int64) - length * self._frames_per_step
        self._schedule_cuts()

    def _schedule_cuts(self) -> None:
        """Finds the step at which each running episode reaches the frame cap, and the first of them."""
        if self._max_frames is None:
            return
        frames_left = self._max_frames - self._reset_frames
        steps_left = -(-frames_left // self._frames_per_step)
        self._cut_step = self._start_step + np.maximum(steps_left, 1)
        self._next_cut = int(self._cut_step.min())
