"""The training loop, top to bottom."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dqn_cli.agent.actor import Actor
from dqn_cli.agent.learner import Learner
from dqn_cli.core.interruption import Interrupted
from dqn_cli.core.stateful import State
from dqn_cli.core.types import IntArray
from dqn_cli.envs.contract import Environments, EpisodeEnd, StepResult
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
class StreamDue:
    """So many frames have arrived that they may fill a segment on the disk."""

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


Event = EpisodeFinished | ReportDue | EvaluationDue | StreamDue | CheckpointDue | Finished


@dataclass(frozen=True, slots=True)
class Calendar:
    """What happens how often, in agent steps.

    Attributes:
        total_steps: End of training.
        report_steps: Between two reports.
        evaluation_steps: Between two evaluations; None for none.
        checkpoint_steps: Between two checkpoints.
        stream_steps: Between two looks at the frames that are not on the disk; None: checkpoints are enough.
    """

    total_steps: int
    report_steps: int
    evaluation_steps: int | None
    checkpoint_steps: int
    stream_steps: int | None = None


@dataclass(frozen=True, slots=True)
class ReturnGoal:
    """Training ends when the last ``window`` episodes have a mean return of at least ``return_mean``."""

    return_mean: float
    window: int


class TrainingLoop:
    """Acts and learns at the same time: while the environments step, the learner works.

    Events are yielded between vector steps, where the state is whole. The first is a checkpoint of step 0: whatever
    happens after it, the run can go on. A loop that has taken over a state goes on behind it.

    Args:
        environments: N environments that step together.
        actor: Chooses actions.
        replay: Keeps transitions.
        learner: Learns from batches.
        pacing: How many updates belong to how many steps.
        batch_size: B.
        calendar: When events are due.
        goal: Ends training early; None for never.

    Two attributes may be set by a signal handler. ``stop_requested``: training ends after the vector step in hand, or
    before it where the rest of its updates or the wait for its environments would take too long; whoever goes on takes
    that step again, with the same actions and without the updates that were made. ``save_requested``: a checkpoint is
    due after the step in hand.
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
        self.save_requested = False
        self.returns: deque[float] = deque(maxlen=max(100, goal.window if goal else 0))
        # Chosen and not yet answered: who goes on after a failed step must not draw random numbers again.
        self._pending: IntArray | None = None
        self._begun = False

    def run(self) -> Iterator[Event]:
        """Trains until the last step or the goal; ends with `Finished`.

        Raises:
            Interrupted: The first reset was.
        """
        if not self._begun:
            self._replay.begin(self._environments.reset())
            self._begun = True
            yield CheckpointDue(self.step)
        while (reason := self._over()) is None:
            # No step is left to overlap with the last updates: the last events see the finished network, and come when
            # it is, be it after a stop.
            if self._last_updates_left():
                if self._learn():
                    yield from self._due(self.step - len(self._environments.observation))
                continue
            result = self._advance()
            if result is None:
                continue  # it was told to stop
            for episode in result.episodes:
                self.episodes += 1
                self.returns.append(episode.score)
                yield EpisodeFinished(self.step, episode)
            if not self._last_updates_left():
                yield from self._due(self.step - len(result.reward))
        yield Finished(self.step, reason)

    def _advance(self) -> StepResult | None:
        """Takes a vector step and learns meanwhile; None where a stop ended it, which leaves the state before it."""
        environments = self._environments
        if self._pending is None:
            self._pending = self._actor.act(environments.observation, self.step)
        actions = self._pending
        try:
            environments.send(actions)
            if not self._learn():
                environments.abandon()
                return None
            result = environments.recv()
        except Interrupted as end:
            end.take()
            self.stop_requested = True
            environments.abandon()
            return None
        self._pending = None
        self._replay.append(
            actions,
            result.reward,
            result.terminal,
            result.truncated,
            result.successor,
            result.restarted,
            result.observation,
        )
        self.step += len(actions)
        return result

    def _updates_left(self) -> int:
        """Returns how many updates belong to the steps taken so far and were not made."""
        return max(0, self._pacing.updates_until(self.step) - self._learner.updates)

    def _last_updates_left(self) -> bool:
        """Returns whether all steps were taken, and updates that belong to them were not made."""
        return self.step >= self._calendar.total_steps and self._updates_left() > 0

    def _learn(self) -> bool:
        """Makes the updates that are left; returns whether none is, as is so unless a stop is requested."""
        while due := self._updates_left():
            if self.stop_requested:
                return False
            # A function of counts alone: who goes on after a stop makes the same updates at once.
            count = min(due, self._learner.at_once(), self._replay.at_once(self._batch_size))
            batch = self._replay.sample(count * self._batch_size, self.step)
            priority = self._learner.update(batch, self.step, count)
            self._replay.reprioritize(batch.key, priority)
        return True

    def _over(self) -> str | None:
        """Returns why training is over, or None."""
        if self.stop_requested:
            return "stopped"
        if self._last_updates_left():
            return None
        if self._goal_reached():
            return "goal reached"
        return "all steps done" if self.step >= self._calendar.total_steps else None

    def _due(self, before: int) -> Iterator[Event]:
        calendar = self._calendar
        if passed(calendar.report_steps, before, self.step):
            yield ReportDue(self.step)
        if calendar.evaluation_steps is not None and passed(calendar.evaluation_steps, before, self.step):
            yield EvaluationDue(self.step)
        if calendar.stream_steps is not None and passed(calendar.stream_steps, before, self.step):
            yield StreamDue(self.step)
        if self.save_requested or passed(calendar.checkpoint_steps, before, self.step):
            self.save_requested = False
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
        """Takes over a state that ``state_dict`` returned; the environments must stand where it was saved."""
        self._begun = True
        self.step, self.episodes = int(state["step"]), int(state["episodes"])
        self.returns.clear()
        self.returns.extend(state["returns"])
        pending = state["pending"]
        self._pending = None if pending is None else np.array(pending, dtype=np.int64)
