"""The audit of one config, from environment to batch."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from dqn_cli.compose import num_envs
from dqn_cli.core.errors import RunError
from dqn_cli.experiments.audit.environments import EnvironmentChecks, SeenEpisode
from dqn_cli.experiments.audit.report import AuditReport, merged
from dqn_cli.experiments.audit.session import Session
from dqn_cli.hardware import resolve_hardware
from dqn_cli.schema import RunOptions

_LEAST_BARE_STEPS = 500
_LONGEST_CUT = 20
"""So short that episodes take more frames than a ring of large ones has to spare, and items leave for want of them."""

_TWIN_STEPS = 200


def audit(options: RunOptions, steps: int) -> AuditReport:
    """Runs the environments, writer, replay and sampler of a config beside a naive recorder, and compares.

    Two sessions of random play: one as the config says, and one whose episodes are cut at half the length that they
    had in the first or sooner, so that truncation and a crowded ring of frames are seen too.

    Args:
        options: The config; its replay is made so small that the ring wraps.
        steps: Agent steps of the two sessions together; half as many again are taken in one environment alone.
    """
    hardware = resolve_hardware(options)
    hardware.apply()
    environments = EnvironmentChecks(options, options.seed)
    sessions: list[Session] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except RunError as error:
            environments.steps.hold(False, str(error))

    vector_steps = max(20, steps // 2 // num_envs(options))
    for number in range(2):
        longest = max(_LONGEST_CUT, 2 * options.replay.n_step)
        cut = _cut(sessions[0].episodes, min(longest, vector_steps // 6)) if sessions else None
        session = Session(options, hardware, vector_steps, cut, number, environments.finite)
        sessions.append(session)
        guarded(session.run)
        environments.steps.hold(True, "", session.steps)
    environments.check_spaces(max(_LEAST_BARE_STEPS, steps // 2))
    if environments.steps.failure is None:
        guarded(lambda: environments.check_twins(_TWIN_STEPS))
    for session in sessions:
        guarded(lambda: environments.check_lineages(session.episodes, steps))  # noqa: B023 used in this turn
    if environments.steps.failure is None:
        guarded(sessions[0].time_learner)
    return AuditReport(
        sessions[0].name,
        sum(session.steps for session in sessions),
        sum(len(session.episodes) for session in sessions),
        min(session.ledger.wraps for session in sessions),
        merged([environments.checks, *(session.checks for session in sessions)]),
        sessions[0].milliseconds(),
    )


def _cut(episodes: list[SeenEpisode], longest: int) -> int:
    """Returns a length of at most ``longest`` that most episodes would exceed."""
    lengths = [len(episode.transitions) for episode in episodes]
    return max(2, min(int(statistics.median(lengths)) // 2, longest) if lengths else longest)
