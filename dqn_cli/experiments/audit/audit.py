"""The audit of one config, from environment to batch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from dqn_cli.compose import Training, history_steps, make_environments, make_training, num_envs
from dqn_cli.core.errors import RunError
from dqn_cli.core.rng import stream
from dqn_cli.envs.vector import EpisodicVector
from dqn_cli.experiments.audit.environments import EnvironmentChecks, SeenEpisode
from dqn_cli.experiments.audit.ledger import Ledger
from dqn_cli.experiments.audit.recorder import Recorder
from dqn_cli.experiments.audit.report import AuditReport, Check
from dqn_cli.hardware import Hardware, resolve_hardware
from dqn_cli.schema import RunOptions

WRAPS = 4
"""How often the ring of a whole audit is overwritten, about."""

_BATCH = 32
_UPDATES = 3
_BARE_STEPS = 500
_TWIN_STEPS = 200


def audit(options: RunOptions, steps: int) -> AuditReport:
    """Runs the environments, writer, replay and sampler of a config beside a naive recorder, and compares.

    Two sessions of random play: one as the config says, and one whose episodes are cut at half the length that they
    had in the first, so that truncation is seen too.

    Args:
        options: The config; its replay is made so small that the ring wraps.
        steps: Agent steps of the two sessions together.
    """
    hardware = resolve_hardware(options)
    hardware.apply()
    environments = EnvironmentChecks(options, options.seed)
    steps_check = Check("steps without errors", "an environment that raises")
    audits: list[Session] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except RunError as error:
            steps_check.hold(False, str(error))

    vector_steps = max(20, steps // 2 // num_envs(options))
    name = ""
    for number in range(2):
        cut = _cut(audits[0].episodes, vector_steps) if audits else None
        session = Session(options, hardware, vector_steps, cut, number)
        name = session.name
        audits.append(session)
        guarded(session.run)
        steps_check.hold(True, "", session.steps)
    with suppress(Exception):  # what it raises is told by the sessions, through our own steppers
        environments.check_spaces(_BARE_STEPS)
    if steps_check.failure is None:
        guarded(lambda: environments.check_twins(_TWIN_STEPS))
    for session in audits:
        for episode in session.episodes:
            environments.check_rewards(episode)
        guarded(lambda: environments.check_lineages(session.episodes, steps))  # noqa: B023 used in this turn
    checks = (steps_check, *environments.checks, *_merged([session.ledger.checks for session in audits]))
    return AuditReport(
        name,
        sum(session.steps for session in audits),
        sum(len(session.episodes) for session in audits),
        checks,
        audits[0].milliseconds(),
    )


class Session:
    """One stretch of random play through the real objects of a run.

    Args:
        options: The config.
        hardware: What it computes on.
        vector_steps: Length.
        cut: Agent steps after which an episode is cut; None: as the config says.
        number: Which session: another one has other seeds.
    """

    def __init__(
        self, options: RunOptions, hardware: Hardware, vector_steps: int, cut: int | None, number: int
    ) -> None:
        self._options = _small(options.model_copy(update={"seed": options.seed + number}), vector_steps)
        self._vector_steps = vector_steps
        frames = getattr(options.env, "frame_skip", 1)
        cap = None if cut is None else cut * frames
        self._environments = make_environments(self._options, max_episode_frames=cap)
        self._training: Training = make_training(self._options, hardware, self._environments)
        env, replay = self._environments.spec, self._options.replay
        self.name = env.name
        self._recorder = Recorder(replay.n_step, self._options.learning.gamma, replay.reward_clip)
        self.ledger = Ledger(self._training.replay, self._recorder, history_steps(self._options, env))
        self.episodes: list[SeenEpisode] = []
        self.steps = 0
        self._seconds = {"environments": 0.0, "append": 0.0, "batch": 0.0, "update": 0.0}
        self._counts = dict.fromkeys(self._seconds, 0)

    def run(self) -> None:
        """Plays, stores and compares.

        Raises:
            RunError: The environment failed; what was compared before stays.
        """
        try:
            self._play(self._environments)
        finally:
            self._environments.close()
        replay = self._training.replay
        self.ledger.check_living()
        if len(replay):
            self.ledger.check_sampler(20 * len(replay))
            for _ in range(_UPDATES):
                batch = self._timed("batch", lambda: replay.sample(self._options.learning.batch_size))
                self._timed("update", lambda: self._training.learner.update(batch, self.steps))  # noqa: B023

    def milliseconds(self) -> dict[str, float]:
        """Returns the mean time of each part."""
        return {name: 1e3 * self._seconds[name] / count for name, count in self._counts.items() if count}

    def _play(self, environments: EpisodicVector) -> None:
        replay, spec = self._training.replay, environments.spec
        rng = stream(self._options.seed, "audit")
        observation = environments.reset()
        self._recorder.begin(observation)
        replay.begin(observation)
        every = max(1, self._vector_steps // 20)
        for number in range(1, self._vector_steps + 1):
            actions = rng.integers(spec.num_actions, size=spec.num_envs)

            def step() -> Any:
                environments.send(actions)  # noqa: B023 used in this turn
                return environments.recv()

            result = self._timed("environments", step)
            self.steps += spec.num_envs
            self._recorder.append(actions, result)
            head = replay.items.head
            told = (result.reward, result.terminal, result.truncated, result.successor, result.restarted)
            self._timed("append", lambda: replay.append(actions, *told, result.observation))  # noqa: B023
            self.ledger.after_append(head)
            for end in result.episodes:
                played = self._recorder.played[end.env_index]
                self.episodes.append(SeenEpisode(end, played[len(played) - end.length :]))
            if number % every == 0 and len(replay):
                self.ledger.check_living()
                self.ledger.check_batch(replay.sample(_BATCH))

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        made = work()
        self._seconds[name] += time.perf_counter() - begun
        self._counts[name] += 1
        return made


def _cut(episodes: list[SeenEpisode], vector_steps: int) -> int:
    """Returns a length that most episodes would exceed, and that several fit into a session."""
    lengths = [episode.end.length for episode in episodes]
    typical = int(statistics.median(lengths)) if lengths else vector_steps
    return max(2, min(typical // 2, vector_steps // 6))


def _small(options: RunOptions, vector_steps: int) -> RunOptions:
    """Returns the config with a replay that wraps several times in a session."""
    replay = options.replay
    least = max(options.learning.batch_size, replay.n_step * num_envs(options))
    capacity = min(replay.capacity, max(least, vector_steps * num_envs(options) // WRAPS))
    update = {"capacity": capacity, "warmup_steps": 0}
    return options.model_copy(update={"replay": replay.model_copy(update=cast("dict[str, Any]", update))})


def _merged(sessions: list[tuple[Check, ...]]) -> list[Check]:
    """Returns the checks of several sessions as one of each name."""
    merged = []
    for checks in zip(*sessions, strict=True):
        one = Check(checks[0].name, checks[0].guards)
        for check in checks:
            one.hold(check.failure is None, check.failure or "", check.compared)
        merged.append(one)
    return merged
