"""Where a run stands, and how that reads."""

from __future__ import annotations

from dataclasses import dataclass

RETURN_WINDOW = 100
"""Episodes over which `Snapshot.return_mean` is taken."""

_DAY_SECONDS = 86_400
_ENDLESS_SECONDS = 1e9


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a display shows of a run.

    Attributes:
        step: Agent steps so far, over all environments.
        episodes: Training episodes that have ended.
        return_mean: Mean raw return of the last `RETURN_WINDOW` episodes, or of all where there are fewer;
            None before the first one ends.
        epsilon: Probability of a random action.
        loss: A recent loss, None before the first update.
        q_mean: Mean action value of the same updates, or None.
        steps_per_second: Agent steps a second, recently; 0 where unknown.
    """

    step: int
    episodes: int
    return_mean: float | None
    epsilon: float
    loss: float | None
    q_mean: float | None
    steps_per_second: float


def percent(step: int, total_steps: int) -> int:
    """Returns the whole percent done, 0 to 100: 100 only at the end."""
    return min(100, step * 100 // total_steps)


def remaining(snapshot: Snapshot, total_steps: int) -> str:
    """Returns the time left at the present speed, such as ``"0:12:05 left"``."""
    steps = total_steps - snapshot.step
    if steps <= 0:
        return "done"
    seconds = steps / snapshot.steps_per_second if snapshot.steps_per_second > 0 else _ENDLESS_SECONDS
    if not seconds < _ENDLESS_SECONDS:
        return "-:--:-- left"
    days, rest = divmod(round(seconds), _DAY_SECONDS)
    if days:
        return f"{days}d {rest // 3600:02}h left"
    return f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02} left"


def speed(snapshot: Snapshot) -> str:
    """Returns the speed, such as ``"1,234 steps/s"``."""
    rate = snapshot.steps_per_second
    return f"{rate:,.0f} steps/s" if rate >= 10 else f"{number(rate if rate > 0 else None)} steps/s"


def facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Returns (label, value) pairs in the order in which a reader wants them."""
    window = f" (last {min(snapshot.episodes, RETURN_WINDOW)})" if snapshot.return_mean is not None else ""
    return [
        ("return", number(snapshot.return_mean) + window),
        ("episodes", f"{snapshot.episodes:,}"),
        ("epsilon", f"{snapshot.epsilon:.3f}"),
        ("loss", number(snapshot.loss)),
        ("q", number(snapshot.q_mean)),
    ]


def number(value: float | None) -> str:
    """Returns ``value`` with about four digits, ``"-"`` for None."""
    if value is None:
        return "-"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-2 or not size < 1e9:
        return f"{value:.3g}"
    if size < 1:
        return f"{value:.4f}"
    if size < 100:
        return f"{value:.2f}"
    return f"{value:,.1f}" if size < 10_000 else f"{value:,.0f}"
