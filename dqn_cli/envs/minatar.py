"""MinAtar (Young and Tian 2019) under its Gymnasium ids: registered when asked for, cleared at reset, planes first.

Read in MinAtar 1.0.15: ``last_action`` is all that outlives a reset, a seeded reset renews the one generator of a game,
every observation is a new array, nothing is ever truncated. Freeway ends by its own clock after 2,501 steps and calls
that a termination, as its authors do in their DQN; the observation does not show the clock.
"""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from dqn_cli.core.errors import UsageError
from dqn_cli.core.types import Array

_NO_OPERATION = 0
_ONE_OF_THEM = "MinAtar/Breakout-v1"


class MinAtarAdapter(gymnasium.Wrapper[Array, Any, Array, Any]):
    """One MinAtar game whose seeded resets decide the whole episode; observations ``[C, 10, 10]`` bool.

    A sticky action repeats the last one; MinAtar forgets to forget that at a reset, so that the first steps of an
    episode depended on the last step before it.

    Args:
        env: The game as MinAtar gives it, planes last.
    """

    def __init__(self, env: gymnasium.Env[Array, Any]) -> None:
        super().__init__(env)
        height, width, planes = cast("spaces.Box", env.observation_space).shape
        self.observation_space = spaces.Box(0, 1, (planes, height, width), cast("Any", np.bool_))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begins an episode and returns its first observation."""
        game: Any = self.unwrapped
        game.game.last_action = _NO_OPERATION  # what it is in a new environment
        # MinAtar seeds its own generator only; wrappers draw from this one.
        gymnasium.Env.reset(game, seed=seed)
        observation, info = self.env.reset(seed=seed, options=options)
        return _planes_first(observation), info

    def step(self, action: Any) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        """Takes one step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return _planes_first(observation), reward, terminated, truncated, info


ADAPTER = f"{__name__}:{MinAtarAdapter.__name__}"
"""The adapter as an entry of ``env.wrappers``: by name, so that a worker process finds it too."""


def is_minatar(spec: EnvSpec) -> bool:
    """Returns whether an environment is one of MinAtar's, whoever registered it."""
    return str(spec.entry_point).startswith("minatar.gym:")


def register_minatar(env_id: str, name: str) -> None:
    """Registers MinAtar's ids where ``name`` is to be one of them: importing the package does not.

    Args:
        env_id: What the user wrote, for error messages.
        name: The Gymnasium id in it.

    Raises:
        UsageError: The package is missing, or has no such game.
    """
    if not name.lower().startswith("minatar/") or name in gymnasium.registry:
        return
    try:
        from minatar.gym import register_envs
    except ImportError as failure:
        raise UsageError(f"environment '{env_id}' needs MinAtar: pip install 'dqn_cli[minatar]'") from failure
    if _ONE_OF_THEM not in gymnasium.registry:  # Gymnasium warns of a second registration
        register_envs()
    if name not in gymnasium.registry:
        games = sorted({key.rpartition("-")[0] for key in gymnasium.registry if key.startswith("MinAtar/")})
        raise UsageError(
            f"env.id: there is no environment '{env_id}'; MinAtar has {', '.join(games)}, each with -v0 (all 6 actions)"
            " or -v1 (those that do something) at the end"
        )


def _planes_first(observation: Array) -> Array:
    return np.ascontiguousarray(observation.transpose(2, 0, 1))
