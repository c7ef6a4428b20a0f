"""The protocol of an evaluation: a score without it means nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

MAX_EPISODE_FRAMES = 108_000
"""Cap on the emulator frames of an evaluation episode: 30 minutes of play at 60 Hz (Machado et al. 2018)."""


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """Everything that a score depends on beside the network.

    Attributes:
        environment: The environment's resolved options, without those that no score depends on, such as the number
            of environments.
        episode_set: Which fixed set of episodes: ``"evaluation"``, which training never saw, or another.
        episodes: Size of the fixed set of episodes; all of them are finished.
        epsilon: Probability of a random action.
        seed: Seed of the episodes and of the random actions.
        max_episode_frames: Cap on the emulator frames of an episode.
        precision: Arithmetic of the torso: it decides between actions of nearly equal value.
        software: Versions of the packages that play, by name.
    """

    environment: dict[str, Any]
    episode_set: str
    episodes: int
    epsilon: float
    seed: int
    max_episode_frames: int
    precision: str
    software: dict[str, str]

    @property
    def stamp(self) -> str:
        """Eight hexadecimal digits; two scores can be compared if theirs are equal."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, the stamp among them."""
        return asdict(self) | {"stamp": self.stamp}
