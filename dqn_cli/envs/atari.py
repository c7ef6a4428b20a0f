"""Atari 2600 games, on the emulator's own vector environment."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from pydantic import ConfigDict, Field, field_validator

from dqn_cli.core.errors import UsageError, nearest
from dqn_cli.core.machine import available_cores
from dqn_cli.core.options import Count, Fraction, Name, Options, PositiveCount
from dqn_cli.core.types import BoolArray, IntArray, ObservationSpec
from dqn_cli.envs.contract import BackendReset, BackendStep, EnvironmentSpec

SEED_EVERY_STEPS = 5_000
"""A seeded reset loads the ROM again (150 ms), an unseeded one does not (10 ms): few episodes are seeded."""

_NO_FRAME_CAP = 2**30
_GAME_SUFFIX = re.compile(r"((NoFrameskip|Deterministic)?-v\d+)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AtariProtocol:
    """What decides how hard a game is, and so belongs to every score.

    Attributes:
        game: The game, in any spelling that ``canonical_game`` takes.
        sticky: Probability that an emulator frame repeats the previous action (Machado et al. 2018).
        full_action_set: All 18 actions instead of those that the game uses.
        frame_skip: Emulator frames in an agent step; an observation is the maximum over the last two.
        stack: Frames in an observation, S.
        screen: Height and width of a frame in pixels.
        noop_max: A game begins with fewer than this many no-ops.
        fire_on_reset: A game that waits for FIRE is started.
    """

    game: str
    sticky: float = 0.25
    full_action_set: bool = False
    frame_skip: int = 4
    stack: int = 4
    screen: int = 84
    noop_max: int = 30
    fire_on_reset: bool = True


class AtariOptions(Options):
    """An Atari 2600 game on the Arcade Learning Environment."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: Literal["atari"]
    """Which kind of environment."""

    game: Name = "Pong"
    """The game, as in ``Pong`` or ``MsPacman``."""

    num_envs: Annotated[PositiveCount, Field(le=65_536)] = 8
    """Number of games that step together."""

    threads: Literal["auto"] | Annotated[PositiveCount, Field(le=1_024)] = "auto"
    """Emulator threads; ``auto`` is one a game, as far as there are processors."""

    sticky: Fraction = 0.25
    """Probability that an emulator frame repeats the previous action."""

    full_action_set: bool = False
    """All 18 actions instead of those that the game uses."""

    frame_skip: Annotated[PositiveCount, Field(le=1_000)] = 4
    """Emulator frames in one agent step."""

    stack: Annotated[PositiveCount, Field(le=64)] = 4
    """Frames in an observation."""

    screen: Annotated[PositiveCount, Field(ge=16, le=210)] = 84
    """Height and width of a frame in pixels."""

    noop_max: Annotated[Count, Field(le=100_000)] = 30
    """A game begins with fewer than this many no-op frames."""

    fire_on_reset: bool = True
    """Press FIRE at the start of a game that waits for it."""

    terminal_on_life_loss: bool = False
    """A lost life ends the bootstrap; the game and its score go on."""

    max_episode_frames: PositiveCount = 108_000
    """Emulator frames after which a game is cut, no-ops included; 108,000 are 30 minutes."""

    @field_validator("game")
    @classmethod
    def _canonical(cls, game: str) -> str:
        try:
            return canonical_game(game)[1]
        except UsageError as failure:
            raise ValueError(str(failure)) from failure

    @property
    def emulator_threads(self) -> int:
        """What ``threads`` comes to here."""
        return min(self.num_envs, available_cores()) if self.threads == "auto" else self.threads

    def protocol(self) -> AtariProtocol:
        """Returns the part that belongs to every score."""
        return AtariProtocol(**{name: getattr(self, name) for name in AtariProtocol.__slots__})


@cache
def _roms() -> dict[str, str]:
    """ROM names by their letters and digits alone."""
    return {rom.replace("_", ""): rom for rom in roms.get_all_rom_ids()}


def _display_name(rom: str) -> str:
    return rom.title().replace("_", "")


def canonical_game(name: str) -> tuple[str, str]:
    """Returns the ROM name (``ms_pacman``) and the display name (``MsPacman``) of a game.

    Args:
        name: ``MsPacman``, ``ms_pacman``, ``ALE/MsPacman-v5`` or ``MsPacmanNoFrameskip-v4``, in any case.

    Raises:
        UsageError: There is no such game.
    """
    bare = _GAME_SUFFIX.sub("", re.sub(r"^ALE/", "", name, flags=re.IGNORECASE))
    rom = _roms().get(re.sub(r"[\s_-]", "", bare).lower())
    if rom is None:
        games = [_display_name(known) for known in _roms().values()]
        raise UsageError(
            f"env.game: there is no Atari game '{name}'.{nearest(bare, games)} Write it as Pong or MsPacman."
        )
    return rom, _display_name(rom)


def emulator_arguments(protocol: AtariProtocol, num_envs: int, threads: int) -> dict[str, Any]:
    """Returns every argument of ``AtariVectorEnv``: none is left to its defaults, which clip rewards."""
    return {
        "game": canonical_game(protocol.game)[0],
        "num_envs": num_envs,
        "batch_size": num_envs,
        "num_threads": threads,
        "thread_affinity_offset": -1,
        # The emulator's own cap breaks out before the screen is read; EpisodicVector counts frames instead.
        "max_num_frames_per_episode": _NO_FRAME_CAP,
        "repeat_action_probability": protocol.sticky,
        "full_action_space": protocol.full_action_set,
        "continuous": False,
        "continuous_action_threshold": 0.5,
        # The one mode that knows partial resets; nothing resets by itself while no finished game is stepped.
        "autoreset_mode": AutoresetMode.NEXT_STEP,
        "img_height": protocol.screen,
        "img_width": protocol.screen,
        "grayscale": True,
        "stack_num": protocol.stack,
        "frameskip": protocol.frame_skip,
        "maxpool": True,
        "noop_max": protocol.noop_max,
        "episodic_life": False,
        # Would report a lost life as the end of the game.
        "life_loss_info": False,
        "reward_clipping": False,
        "use_fire_reset": protocol.fire_on_reset,
    }


class AtariBackend:
    """N games of one kind in C++ threads; implements ``VectorBackend``.

    Args:
        protocol: The game and how it is played.
        num_envs: Number of games, N.
        threads: Emulator threads.

    Raises:
        UsageError: There is no such game.
    """

    def __init__(self, protocol: AtariProtocol, num_envs: int, threads: int) -> None:
        arguments = emulator_arguments(protocol, num_envs, threads)
        ALEInterface.setLoggerMode(LoggerMode.Error)
        # With ALE_ROMS_DIR set, the emulator prints where it loads from; stdout is for data.
        with contextlib.redirect_stdout(sys.stderr):
            self._vector: AtariVectorEnv | None = AtariVectorEnv(**arguments)
        display_name = canonical_game(protocol.game)[1]
        self._spec = EnvironmentSpec(
            name=display_name,
            num_envs=num_envs,
            observation=ObservationSpec(
                (protocol.screen, protocol.screen), np.dtype(np.uint8), stack=protocol.stack, scale=1 / 255
            ),
            num_actions=len(self._vector.ale.get_action_set()),
            frames_per_step=protocol.frame_skip,
            seed_every_steps=SEED_EVERY_STEPS,
            atari_game=display_name,
        )

    @property
    def spec(self) -> EnvironmentSpec:
        """The environments' description."""
        return self._spec

    def reset(self, mask: BoolArray, seeds: Sequence[int | None]) -> BackendReset:
        """Resets the games in ``mask [N]``; ``seeds [N]`` holds one seed or None for each of N."""
        # The emulator wants one seed for each game that it resets, -1 for none, and a fresh options dict.
        reset_seeds = [seeds[index] for index in np.flatnonzero(mask).tolist()]
        observation, info = self._emulator.reset(
            seed=np.array([-1 if seed is None else seed for seed in reset_seeds], dtype=np.int64),
            options={"reset_mask": np.array(mask)},
        )
        return BackendReset(observation, info["lives"].astype(np.int64), info["episode_frame_number"].astype(np.int64))

    def send(self, actions: IntArray) -> None:
        """Starts a step with ``actions [N]`` in 0 to A-1; the caller has checked the range."""
        self._emulator.send(actions)

    def recv(self) -> BackendStep:
        """Waits for the step that ``send`` started."""
        # Rows come in the order of the games, because the batch holds all of them.
        observation, reward, terminated, truncated, info = self._emulator.recv()
        return BackendStep(
            observation, reward.astype(np.float64), terminated, truncated, info["lives"].astype(np.int64)
        )

    def close(self) -> None:
        """Ends the emulator threads; may be called twice."""
        self._vector = None

    @property
    def _emulator(self) -> AtariVectorEnv:
        if self._vector is None:
            raise RuntimeError("the environments are closed")
        return self._vector
