"""Turns the stream of steps into items: n-step windows that never straddle the end of an episode."""

from __future__ import annotations

import numpy as np
import torch

from dqn_cli.core.errors import UsageError
from dqn_cli.core.stateful import State
from dqn_cli.core.types import BoolArray, FloatArray, IntArray
from dqn_cli.replay.frames import BLANK, FrameIds
from dqn_cli.replay.items import Items


class NStepWriter:
    """Open windows of at most n steps for N environments.

    A window that was opened by action ``a_t`` leaves as the item (s_t, a_t, sum of gamma^i r_{t+i} over i < k,
    gamma^k, s_{t+k}). k is n, or less where the episode ends before: every transition is stored, with the discount
    that belongs to its true length (Sutton 1988; Hessel et al. 2018, section "Multi-step learning"). Terminal windows
    have discount 0; truncated ones bootstrap from the true final observation.

    All arrays are ``[N, n]``: column ``t % n`` belongs to the window opened at vector step t, so that one vector step
    is a handful of array operations and no loop over environments.

    Args:
        num_envs: N.
        stack: Stack depth S.
        n_step: n, at least 1.
        gamma: Discount of one step.
        reward_clip: Each reward is clipped to [-reward_clip, reward_clip] before it is summed; None for no clipping.
    """

    def __init__(self, num_envs: int, stack: int, n_step: int, gamma: float, reward_clip: float | None = None) -> None:
        self._num_envs, self._n_step, self._reward_clip = num_envs, n_step, reward_clip
        self._powers = gamma ** np.arange(n_step + 1, dtype=np.float64)  # [n + 1]
        self._columns = np.arange(n_step)
        self._steps = 0
        self._current = np.full((num_envs, stack), BLANK, np.int32)
        self._open = np.zeros((num_envs, n_step), np.bool_)
        self._stack = np.zeros((num_envs, n_step, stack), np.int32)
        self._action = np.zeros((num_envs, n_step), np.int32)
        self._reward = np.zeros((num_envs, n_step), np.float64)

    def begin(self, ids: FrameIds, mask: BoolArray | None = None) -> None:
        """Starts an episode in the environments of ``mask [N]`` (None for all) with first frames ``ids [M]``."""
        rows = slice(None) if mask is None else mask
        self._current[rows] = BLANK
        self._current[rows, -1] = ids

    def append(
        self,
        actions: IntArray,
        reward: FloatArray,
        terminal: BoolArray,
        truncated: BoolArray,
        successor: FrameIds,
    ) -> Items:
        """Takes one vector step, all arguments ``[N]``, and returns the items that it completes."""
        column = self._steps % self._n_step
        self._steps += 1
        if self._reward_clip is not None:
            reward = np.clip(reward, -self._reward_clip, self._reward_clip)
        if self._n_step == 1:
            return self._single(actions, reward, terminal, successor)
        self._open[:, column] = True
        self._stack[:, column] = self._current
        self._action[:, column] = actions
        self._reward[:, column] = 0.0
        age = (column - self._columns) % self._n_step  # [n] steps since each window was opened
        self._reward += np.where(self._open, self._powers[age] * reward[:, None], 0.0)

        self._current = self._moved_on(successor)
        complete = self._open & ((terminal | truncated)[:, None] | (age == self._n_step - 1))
        return self._close(complete, age, terminal)

    def _single(self, actions: IntArray, reward: FloatArray, terminal: BoolArray, successor: FrameIds) -> Items:
        """Returns the items of one step, which are complete at once: no window is ever open."""
        stack, self._current = self._current, self._moved_on(successor)
        return Items(
            stack=stack,
            next_stack=self._current.copy(),  # `begin` writes into it
            action=actions.astype(np.int32),
            reward=reward.astype(np.float32),
            discount=np.where(terminal, 0.0, self._powers[1]).astype(np.float32),
        )

    def _moved_on(self, successor: FrameIds) -> FrameIds:
        """Returns the current stacks with ``successor [N]`` as their newest frames, in fresh memory."""
        stack = np.empty_like(self._current)
        stack[:, :-1] = self._current[:, 1:]
        stack[:, -1] = successor
        return stack

    def cut(self, mask: BoolArray) -> Items:
        """Closes the windows of the environments in ``mask [N]`` as truncated at the last step; returns their items."""
        age = (self._steps - 1 - self._columns) % self._n_step
        return self._close(self._open & mask[:, None], age, np.zeros_like(mask))

    def _close(self, complete: BoolArray, age: IntArray, terminal: BoolArray) -> Items:
        """Takes the windows ``complete [N, n]``, opened ``age [n]`` steps before the last, as items."""
        env, window = np.nonzero(complete)
        self._open &= ~complete
        return Items(
            stack=self._stack[env, window],
            next_stack=self._current[env],
            action=self._action[env, window],
            reward=self._reward[env, window].astype(np.float32),
            discount=np.where(terminal[env], 0.0, self._powers[age[window] + 1]).astype(np.float32),
        )

    def state_dict(self) -> State:
        """Returns the open windows."""
        return {
            "steps": self._steps,
            "current": torch.from_numpy(self._current.copy()),
            "open": torch.from_numpy(self._open.copy()),
            "stack": torch.from_numpy(self._stack.copy()),
            "action": torch.from_numpy(self._action.copy()),
            "reward": torch.from_numpy(self._reward.copy()),
        }

    def load_state_dict(self, state: State) -> None:
        """Takes over open windows that ``state_dict`` returned.

        Raises:
            UsageError: They are of another number of environments, or of another n or S.
        """
        saved = (*state["open"].shape, state["current"].shape[1])
        own = (*self._open.shape, self._current.shape[1])
        for key, theirs, ours in zip(("env.num_envs", "replay.n_step", "env.stack"), saved, own, strict=True):
            if theirs != ours:
                raise UsageError(f"{key}: the checkpoint has {theirs}, the config {ours}; set {key}={theirs}")
        self._steps = int(state["steps"])
        self._current = state["current"].numpy().copy()
        self._open = state["open"].numpy().copy()
        self._stack = state["stack"].numpy().copy()
        self._action = state["action"].numpy().copy()
        self._reward = state["reward"].numpy().copy()
