"""Says where an environment failed, and what plays it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dqn_cli.core.errors import BrokenEnvironmentError


@dataclass(frozen=True, slots=True)
class Place:
    """Where one environment stands.

    Attributes:
        env_index: Which of the N environments.
        episode: Number of its episode.
        step: Number in the episode of the step in hand; None where none is.
        seed: Seed of its lineage.
        actions: Actions of the lineage, that of the step in hand included.
        episode_offset: Number of those that were taken before the episode began.
    """

    env_index: int
    episode: int
    step: int | None
    seed: int
    actions: Sequence[int]
    episode_offset: int

    def text(self) -> str:
        """Returns it for people."""
        step = "" if self.step is None else f", step {self.step}, action {self.actions[-1]}"
        return f"episode {self.episode}{step}, lineage seed {self.seed}"


def failed_step(failure: BrokenEnvironmentError, place: Place | None) -> BrokenEnvironmentError:
    """Returns a failure of a step, whose state before it is whole, with its place; None where that is unknown."""
    if place is None:
        return BrokenEnvironmentError(str(failure), failure.env_index, whole=True)
    episode = _plain(place.env_index, place.episode, place.seed, place.actions, place.episode_offset)
    return BrokenEnvironmentError(f"{failure} ({place.text()})", failure.env_index, episode, whole=True)


def failed_reset(
    failure: BrokenEnvironmentError, seeds: Sequence[int | None], place: Place | None, whole: bool
) -> BrokenEnvironmentError:
    """Returns a failure of a reset with its place.

    Args:
        failure: What the backend raised.
        seeds: Those of the reset, ``[N]``.
        place: Where the environment stood before it; None before its first episode, and where it is unknown.
        whole: Whether the state before the reset is whole: it is not before the first episode.
    """
    index = failure.env_index
    if index is None:
        return BrokenEnvironmentError(str(failure), whole=whole)
    number = 0 if place is None else place.episode + 1
    after = "" if place is None else f", after {place.text()}"
    seed = seeds[index]
    # A seeded reset begins a lineage: it plays alone. Another one belongs to what was played before it.
    actions: Sequence[int] = []
    if seed is None and place is not None:
        seed, actions = place.seed, place.actions
    episode = _plain(index, number, seed, actions, len(actions))
    return BrokenEnvironmentError(f"{failure} (before episode {number}{after})", index, episode, whole)


def _plain(index: int, episode: int, seed: int | None, actions: Sequence[int], offset: int) -> dict[str, Any]:
    return {"env": index, "episode": episode, "seed": seed, "episode_offset": offset, "actions": list(actions)}
