"""What a run says of itself while it goes on: reports, warnings, the line that a person sees."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from dqn_cli.compose import Training
from dqn_cli.core.stateful import State
from dqn_cli.envs.contract import EpisodeEnd
from dqn_cli.rules.rescaling import rescale
from dqn_cli.schema import RunOptions
from dqn_cli.telemetry.progress import ProgressDisplay, Snapshot
from dqn_cli.training.run_logs import RunLogs
from dqn_cli.training.sanity import SanityMonitor, SanityWarning, q_limit, refuse_non_finite


class Reporter:
    """Turns what a run does into numbers in its logs; ``Stateful``, so that sums and clocks go on after a resume.

    Args:
        training: The objects of the run.
        options: Its options.
        logs: Where numbers go.
        progress: What a person sees.

    Attributes:
        unsaved: Something was logged that no checkpoint knows of; whoever saves sets it back.
    """

    def __init__(self, training: Training, options: RunOptions, logs: RunLogs, progress: ProgressDisplay) -> None:
        self._training, self._options, self._logs, self._progress = training, options, logs, progress
        self._sanity = SanityMonitor(training.environments.spec.num_envs)
        self.unsaved = False
        self._latest: dict[str, float] = {}
        self._episodes: list[tuple[float, int]] = []  # return and length since the last report
        self._started = time.monotonic()
        self._reported = (0, self._started)
        self._away = 0.0  # seconds since the last report spent on evaluations and checkpoints
        self._speed = 0.0

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self._started

    def aside(self, work: Callable[[], None]) -> None:
        """Does work whose time is not the loop's."""
        before = time.monotonic()
        work()
        self._away += time.monotonic() - before

    def episode(self, step: int, episode: EpisodeEnd) -> None:
        """Takes note of a finished episode."""
        self._logs.episode(step, episode)
        self._episodes.append((episode.score, episode.length))
        self.unsaved = True
        self._warn(self._sanity.episode(step, episode.score))
        self.show()

    def report(self, step: int) -> None:
        """Writes what happened since the last report; nothing where that was at the same step.

        Raises:
            DivergedError: Losses or Q-values are no finite numbers.
        """
        now = time.monotonic()
        last_step, last_time = self._reported
        if step == last_step:
            return
        self._speed = (step - last_step) / max(1e-9, now - last_time - self._away)
        self._reported, self._away = (step, now), 0.0
        self._warn([SanityWarning(step, "fast_path", notice) for notice in self._training.notices])
        self._training.notices.clear()
        fresh = self._training.learner.report()
        refuse_non_finite(step, fresh.get("loss"), fresh.get("q_mean"))
        self._latest |= fresh
        count = len(self._episodes)
        self._logs.metrics(
            step,
            {
                "updates": self._training.learner.updates,
                "episodes": self._training.loop.episodes,
                "wall_seconds": round(now - self._started, 3),
                "steps_per_second": round(self._speed, 1),
                "episode_return": sum(score for score, _ in self._episodes) / count if count else None,
                "episode_length": sum(length for _, length in self._episodes) / count if count else None,
                "loss": fresh.get("loss"),
                "q_mean": fresh.get("q_mean"),
                "epsilon": self._training.actor.explorer.epsilon(step),
            },
        )
        self._episodes.clear()
        self.unsaved = True
        self._warn(self._sanity.report(step, fresh.get("q_mean"), self._q_limit()))

    def warn(self, name: str, message: str) -> None:
        """Writes a warning of the present step into the logs."""
        self._logs.warning(self._training.loop.step, name, message)
        self.unsaved = True

    def show(self) -> None:
        """Brings what a person sees up to date."""
        loop = self._training.loop
        returns = list(loop.returns)[-100:]
        self._progress.update(
            Snapshot(
                step=loop.step,
                episodes=loop.episodes,
                return_mean=sum(returns) / len(returns) if returns else None,
                epsilon=self._training.actor.explorer.epsilon(loop.step),
                loss=self._latest.get("loss"),
                q_mean=self._latest.get("q_mean"),
                steps_per_second=self._speed,
            )
        )

    def state_dict(self) -> State:
        """Returns what the next report depends on."""
        return {
            "sanity": self._sanity.state_dict(),
            "reported_step": self._reported[0],
            "latest": dict(self._latest),
            "episodes": [list(episode) for episode in self._episodes],
            "seconds": self.seconds,
            "seconds_since_report": time.monotonic() - self._reported[1] - self._away,
        }

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned; the clock goes on where it stood."""
        self._sanity.load_state_dict(state["sanity"])
        now = time.monotonic()
        self._reported = (int(state["reported_step"]), now - float(state["seconds_since_report"]))
        self._latest = dict(state["latest"])
        self._episodes = [(float(score), int(length)) for score, length in state["episodes"]]
        self._started = now - float(state["seconds"])

    def _warn(self, warnings: list[SanityWarning]) -> None:
        for warning in warnings:
            self._logs.warning(warning.step, warning.name, warning.message)
            self._progress.message(f"step {warning.step:,}: warning {warning.name}: {warning.message}")
            self.unsaved = True

    def _q_limit(self) -> float | None:
        learning, replay = self._options.learning, self._options.replay
        reward = self._training.replay.items.largest_reward() + getattr(learning.bootstrap, "largest_bonus", 0.0)
        rescaling, discount = learning.value_rescaling, learning.gamma**replay.n_step
        if rescaling is None:
            return q_limit(reward, discount)
        return q_limit(reward, discount, lambda value: float(rescale(torch.tensor(value), rescaling.eps)))
