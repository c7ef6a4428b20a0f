"""The training loop, top to bottom."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dqn_cli.agent.actor import Actor
from dqn_cli.agent.learner import Learner
from dqn_cli.core.stateful import State
from dqn_cli.core.types import Array, IntArray
from dqn_cli.envs.contract import Environments, EpisodeEnd
from dqn_cli.replay.buffer import Replay
from dqn_cli.training.pacing import Pacing, passed


@dataclass(frozen=True, slots=True)
class EpisodeFinished:
    """An episode ended at agent step ``step``."""

    step: int
    episode: EpisodeEnd


@dataclass(frozen=True, slots=True)
class ReportDue:
    """Metrics are due."""

    step: int


@dataclass(frozen=True, slots=True)
class EvaluationDue:
    """An evaluation is due."""

    step: int


@dataclass(frozen=True, slots=True)
class CheckpointDue:
    """A checkpoint is due."""

    step: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Training is over; ``reason`` says why."""

    step: int
    reason: str


Event = EpisodeFinished | ReportDue | EvaluationDue | CheckpointDue | Finished


@dataclass(frozen=True, slots=True)
class Calendar:
    """What happens how often, in agent steps.

    Attributes:
        total_steps: End of training.
        report_steps: Between two reports.
        evaluation_steps: Between two evaluations; None for none.
        checkpoint_steps: Between two checkpoints.
    """

    total_steps: int
    report_steps: int
    evaluation_steps: int | None
    checkpoint_steps: int


@dataclass(frozen=True, slots=True)
class ReturnGoal:
    """Training ends when the last ``window`` episodes have a mean return of at least ``return_mean``."""

    return_mean: float
    window: int


class TrainingLoop:
    """Acts and learns at the same time: while the environments step, the learner works.

    Events are yielded between vector steps, where the state is whole.

    Args:
        environments: N environments that step together.
        actor: Chooses actions.
        replay: Keeps transitions.
        learner: Learns from batches.
        pacing: How many updates belong to how many steps.
        batch_size: B.
        calendar: When events are due.
        goal: Ends training early; None for never.

    ``stop_requested`` may be set by a signal handler: training then ends after the vector step in hand.
    """

    def __init__(
        self,
        environments: Environments,
        actor: Actor,
        replay: Replay,
        learner: Learner,
        pacing: Pacing,
        batch_size: int,
        calendar: Calendar,
        goal: ReturnGoal | None = None,
    ) -> None:
        self._environments, self._actor, self._replay, self._learner = environments, actor, replay, learner
        self._pacing, self._batch_size, self._calendar, self._goal = pacing, batch_size, calendar, goal
        self.step = 0
        self.episodes = 0
        self.stop_requested = False
        self.returns: deque[float] = deque(maxlen=max(100, goal.window if goal else 0))
        # Chosen and not yet answered: who goes on after a failed step must not draw random numbers again.
        self._pending: IntArray | None = None

    def run(self) -> Iterator[Event]:
        """Trains until the last step or the goal; ends with `Finished`."""
        environments, replay = self._environments, self._replay
        observation: Array = environments.reset()
        replay.begin(observation)
        while self.step < self._calendar.total_steps:
            if self._pending is None:
                self._pending = self._actor.act(observation, self.step)
            actions = self._pending
            environments.send(actions)
            self._learn()
            result = environments.recv()
            self._pending = None
            replay.append(
                actions,
                result.reward,
                result.terminal,
                result.truncated,
                result.successor,
                result.restarted,
                result.observation,
            )
            observation = result.observation
            before, self.step = self.step, self.step + len(actions)
            if self.step >= self._calendar.total_steps:
                self._learn()  # no step is left to overlap with: the last events see the finished network
            for episode in result.episodes:
                self.episodes += 1
                self.returns.append(episode.score)
                yield EpisodeFinished(self.step, episode)
            yield from self._due(before)
            if self._goal_reached() or self.stop_requested:
                yield Finished(self.step, "stopped" if self.stop_requested else "goal reached")
                return
        yield Finished(self.step, "all steps done")

    def _learn(self) -> None:
        """Applies the updates that belong to the steps taken so far."""
        for _ in range(self._pacing.updates_until(self.step) - self._learner.updates):
            batch = self._replay.sample(self._batch_size, self.step)
            priority = self._learner.update(batch, self.step)
            self._replay.reprioritize(batch.key, priority)

    def _due(self, before: int) -> Iterator[Event]:
        calendar = self._calendar
        if passed(calendar.report_steps, before, self.step):
            yield ReportDue(self.step)
        if calendar.evaluation_steps is not None and passed(calendar.evaluation_steps, before, self.step):
            yield EvaluationDue(self.step)
        if passed(calendar.checkpoint_steps, before, self.step):
            yield CheckpointDue(self.step)

    def _goal_reached(self) -> bool:
        goal = self._goal
        if goal is None or len(self.returns) < goal.window:
            return False
        latest = list(self.returns)[-goal.window :]
        return sum(latest) / goal.window >= goal.return_mean

    def state_dict(self) -> State:
        """Returns the counters, the latest returns, and the actions of a step that failed."""
        pending = None if self._pending is None else self._pending.tolist()
        return {"step": self.step, "episodes": self.episodes, "returns": list(self.returns), "pending": pending}

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned."""
        self.step, self.episodes = int(state["step"]), int(state["episodes"])
        self.returns.extend(state["returns"])
        pending = state["pending"]
        self._pending = None if pending is None else np.array(pending, dtype=np.int64)
