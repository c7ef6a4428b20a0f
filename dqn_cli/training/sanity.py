"""What looks wrong while a run goes on: named warnings, and the end of a run whose numbers are none any more."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dqn_cli.core.errors import DivergedError
from dqn_cli.core.stateful import State

WINDOW = 100
"""Episodes over which returns are compared."""

EPISODE_PATIENCE_STEPS = 50_000
"""Steps of one environment without an end; Atari's own cap, 108,000 frames, is 27,000."""

_TOLERANCE = 10.0
"""Overestimation by a factor of two or three is common, and passes."""


@dataclass(frozen=True, slots=True)
class SanityWarning:
    """Something looks wrong.

    Attributes:
        step: Agent steps when it was noticed.
        name: ``exploding_q``, ``no_episode_end``, ``score_collapse`` or ``fast_path``.
        message: What was seen, what it mostly means, what to try.
    """

    step: int
    name: str
    message: str


def refuse_non_finite(step: int, loss: float | None, q_mean: float | None) -> None:
    """Ends a run whose numbers are none any more; None where there was no update.

    Raises:
        DivergedError: The loss or the mean Q-value is not finite.
    """
    for name, value in (("loss", loss), ("mean Q-value", q_mean)):
        if value is not None and not math.isfinite(value):
            raise DivergedError(
                f"training has diverged: before step {step:,} the {name} is {value}; lower learning.optimizer.lr, or "
                "set learning.max_grad_norm"
            )


def q_limit(
    largest_reward: float, discount: float, rescale: Callable[[float], float] = lambda value: value
) -> float | None:
    """Returns the |Q| beyond which a mean Q-value has left what was seen; None where there is no such bound.

    A value that is learnt from rewards of at most R over n steps is at most R / (1 - gamma^n); the limit is ten times
    that.

    Args:
        largest_reward: Largest absolute n-step reward in the replay, as it is learnt from, bonus included.
        discount: gamma^n.
        rescale: From values to the scale on which Q is learnt.
    """
    if largest_reward <= 0.0 or discount >= 1.0:
        return None
    return _TOLERANCE * rescale(largest_reward / (1.0 - discount))


class SanityMonitor:
    """Watches episodes and reports; each warning is given once, and again only after all was well in between.

    Args:
        num_envs: Environments that step together, N.
    """

    def __init__(self, num_envs: int) -> None:
        self._patience_steps = EPISODE_PATIENCE_STEPS * num_envs
        self._returns: deque[float] = deque(maxlen=WINDOW)
        self._first: tuple[float, float] | None = None  # mean and standard deviation of the first window
        self._best = -math.inf
        self._last_end = 0
        self._given: set[str] = set()

    def episode(self, step: int, score: float) -> list[SanityWarning]:
        """Takes the return of an episode that ended at agent step ``step``.

        The score has collapsed where the mean of the last 100 returns has lost more than half of what the best such
        mean had gained on the first; gains within two standard deviations of the first returns are none.
        """
        self._last_end = step
        self._given.discard("no_episode_end")
        self._returns.append(score)
        if len(self._returns) < WINDOW:
            return []
        mean = math.fsum(self._returns) / WINDOW  # anew each time: no error piles up
        if self._first is None:
            spread = math.sqrt(math.fsum((score - mean) ** 2 for score in self._returns) / WINDOW)
            self._first = mean, spread
        self._best = max(self._best, mean)
        start, spread = self._first
        gain = self._best - start
        if mean >= start + 0.75 * gain:
            self._given.discard("score_collapse")
        collapsed = gain > 2.0 * spread and mean < start + 0.5 * gain
        return self._warn(
            collapsed,
            step,
            "score_collapse",
            f"the mean return of the last {WINDOW} episodes is {mean:.4g} after {self._best:.4g} at best; where "
            "evaluations keep one, best.pt has the best weights; try a lower learning.optimizer.lr, a slower "
            "learning.target or a larger replay.capacity",
        )

    def report(self, step: int, q_mean: float | None, limit: float | None) -> list[SanityWarning]:
        """Takes the mean Q-value since the last report, None without updates, and its `q_limit`."""
        warnings = self._warn(
            step - self._last_end > self._patience_steps,
            step,
            "no_episode_end",
            f"no episode has ended for {step - self._last_end:,} steps; does the environment end at all? "
            "env.wrappers=[{name: TimeLimit, kwargs: {max_episode_steps: 1000}}] would limit it, on Atari "
            "env.max_episode_frames",
        )
        if q_mean is None or limit is None:
            return warnings
        if abs(q_mean) < 0.5 * limit:
            self._given.discard("exploding_q")
        return warnings + self._warn(
            abs(q_mean) > limit,
            step,
            "exploding_q",
            f"the mean Q-value is {q_mean:.4g}, where the rewards in the replay justify at most "
            f"{limit / _TOLERANCE:.4g}; try a lower learning.optimizer.lr, a slower "
            "learning.target, learning.bootstrap.kind=double, learning.max_grad_norm or replay.reward_clip",
        )

    def _warn(self, wrong: bool, step: int, name: str, message: str) -> list[SanityWarning]:
        if not wrong or name in self._given:
            return []
        self._given.add(name)
        return [SanityWarning(step, name, message)]

    def state_dict(self) -> State:
        """Returns the latest returns, what they are compared with, and the warnings that were given."""
        return {
            "returns": list(self._returns),
            "first": None if self._first is None else list(self._first),
            "best": self._best,
            "last_end": self._last_end,
            "given": sorted(self._given),
        }

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        self._returns.clear()
        self._returns.extend(float(score) for score in state["returns"])
        first = state["first"]
        self._first = None if first is None else (float(first[0]), float(first[1]))
        self._best, self._last_end = float(state["best"]), int(state["last_end"])
        self._given = {str(name) for name in state["given"]}
