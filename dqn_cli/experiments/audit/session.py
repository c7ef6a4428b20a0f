"""One stretch of random play through the real objects of a run, beside a record of everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from dqn_cli.compose import Training, make_environments, make_training, num_envs
from dqn_cli.core.devices import to_host
from dqn_cli.core.rng import stream
from dqn_cli.core.types import IntArray
from dqn_cli.envs.contract import StepResult
from dqn_cli.envs.vector import EpisodicVector
from dqn_cli.experiments.audit.environments import SeenEpisode
from dqn_cli.experiments.audit.handover import Handover
from dqn_cli.experiments.audit.ledger import Ledger
from dqn_cli.experiments.audit.oracles import ORACLES
from dqn_cli.experiments.audit.recorder import Recorder
from dqn_cli.experiments.audit.report import Check
from dqn_cli.experiments.audit.sampling import Sampling
from dqn_cli.experiments.audit.tap import Tap
from dqn_cli.experiments.audit.truth import Truth
from dqn_cli.hardware import Hardware
from dqn_cli.schema import RunOptions
from dqn_cli.storage import history_steps

WRAPS = 4
"""How often the table of items is filled in a session, about."""

_BATCH = 32
_BATCHES = 200
_LOOKS = 20
_UPDATES = 3
_UPDATE_SECONDS = 2.0
"""An update of a wide network takes ten seconds on a small machine, and nothing is compared with it."""


class Session:
    """One stretch of random play.

    Args:
        options: The config.
        hardware: What it computes on.
        vector_steps: Length.
        cut: Agent steps after which an episode is cut; None: as the config says.
        number: Which session: another one has other seeds.
        finite: Held to every reward.
    """

    def __init__(
        self,
        options: RunOptions,
        hardware: Hardware,
        vector_steps: int,
        cut: int | None,
        number: int,
        finite: Check,
    ) -> None:
        self._options = _small(options.model_copy(update={"seed": options.seed + number}), vector_steps)
        self._vector_steps = vector_steps
        own: Any = self._options.env
        cap = getattr(own, "max_episode_frames", None) if cut is None else cut * getattr(own, "frame_skip", 1)
        self._environments = make_environments(
            self._options, max_episode_frames=cap, tap=lambda backend: self._listen(Tap(backend, finite), cap)
        )
        self._training: Training = make_training(self._options, hardware, self._environments)
        spec, learning, replay = self._environments.spec, self._options.learning, self._options.replay
        self.name = spec.name
        self._recorder = Recorder(replay.n_step, learning.gamma, replay.reward_clip)
        self._handover = Handover(spec.num_actions)
        self.ledger = Ledger(self._training.replay, self._recorder, history_steps(self._options, spec))
        sampler: Any = replay.sampler
        oracle = ORACLES[sampler.kind](sampler, self._options.total_steps) if sampler.kind in ORACLES else None
        errors = stream(self._options.seed, "audit errors")
        self._sampling = Sampling(self._training.replay, oracle, sampler.kind, errors)
        self.episodes: list[SeenEpisode] = []
        self.steps = 0
        self._seconds = {"environments": 0.0, "append": 0.0, "batch": 0.0, "update": 0.0}
        self._counts = dict.fromkeys(self._seconds, 0)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in the order of the path of the data."""
        return (*self._handover.checks, *self.ledger.checks, *self._sampling.checks)

    def run(self) -> None:
        """Plays, stores and compares.

        Raises:
            RunError: The environment failed; what was compared before stays.
        """
        try:
            self._play(self._environments)
        finally:
            self._environments.close()
        self.ledger.check_living()
        if len(self._training.replay):
            self._sampling.check_frequencies(_BATCH, self._options.total_steps)

    def time_learner(self) -> None:
        """Learns from some batches, for the times alone: nothing is compared any more."""
        replay, size = self._training.replay, self._options.learning.batch_size
        while len(replay) and self._counts["update"] < _UPDATES and self._seconds["update"] < _UPDATE_SECONDS:
            batch = self._timed("batch", lambda: replay.sample(size, self.steps))
            self._timed("update", lambda: self._training.learner.update(batch, self.steps))  # noqa: B023

    def milliseconds(self) -> dict[str, float]:
        """Returns the mean time of each part."""
        return {name: 1e3 * self._seconds[name] / count for name, count in self._counts.items() if count}

    def _listen(self, tap: Tap, cap: int | None) -> Tap:
        self._truth = Truth(tap, cap, getattr(self._options.env, "terminal_on_life_loss", False))
        return tap

    def _play(self, environments: EpisodicVector) -> None:
        replay, spec = self._training.replay, environments.spec
        rng = stream(self._options.seed, "audit")
        observation = environments.reset()
        self._recorder.begin(self._truth.begin())
        replay.begin(observation)
        for number in range(1, self._vector_steps + 1):
            actions = rng.integers(spec.num_actions, size=spec.num_envs)

            def step() -> StepResult:
                environments.send(actions)  # noqa: B023 used in this turn
                return environments.recv()

            result = self._timed("environments", step)
            self.steps += spec.num_envs
            self._record(actions, result)
            head = replay.items.head
            told = (result.reward, result.terminal, result.truncated, result.successor, result.restarted)
            self._timed("append", lambda: replay.append(actions, *told, result.observation))  # noqa: B023
            self.ledger.after_append(head)
            self._sampling.after_append()
            self._look(number)

    def _record(self, actions: IntArray, result: StepResult) -> None:
        """Records what the environments said, and compares what we made of it."""
        true = self._truth.step()
        self._handover.check(actions, true, result)
        self._recorder.append(true.actions, true)
        for end in true.ends:
            self.episodes.append(SeenEpisode(end, self._recorder.played[end.env][-len(end.actions) :]))

    def _look(self, number: int) -> None:
        """Compares what lives and what is sampled, at some of the vector steps."""
        replay = self._training.replay
        if not len(replay):
            return
        if number % max(1, self._vector_steps // _LOOKS) == 0:
            self.ledger.check_living()
            self._sampling.check_chances()
        if number % max(1, self._vector_steps // _BATCHES) == 0:
            batch = replay.sample(_BATCH, self.steps)
            self.ledger.check_batch(batch)
            keys = to_host(batch.key)
            self._sampling.check_batch(keys, to_host(batch.weight), self.steps)
            self._sampling.reprioritize(keys)

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        made = work()
        self._seconds[name] += time.perf_counter() - begun
        self._counts[name] += 1
        return made


def _small(options: RunOptions, vector_steps: int) -> RunOptions:
    """Returns the config with a replay that wraps several times in a session.

    It may hold less than a batch: draws are with replacement.
    """
    replay = options.replay
    least = replay.n_step * num_envs(options)
    capacity = min(replay.capacity, max(least, vector_steps * num_envs(options) // WRAPS))
    update = {"capacity": capacity, "warmup_steps": 0}
    return options.model_copy(update={"replay": replay.model_copy(update=cast("dict[str, Any]", update))})
