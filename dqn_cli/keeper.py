"""Listens to the loop of one run: its events become logs, scores and checkpoints."""

from __future__ import annotations

from dqn_cli.compose import Training
from dqn_cli.core.errors import BrokenEnvironmentError, DivergedError, DqnError, RunError, UsageError
from dqn_cli.core.interruption import Interrupted
from dqn_cli.core.stateful import State
from dqn_cli.evaluate import Evaluation, Evaluator
from dqn_cli.hardware import Hardware
from dqn_cli.reporter import Reporter
from dqn_cli.schema import RunOptions
from dqn_cli.telemetry.progress import ProgressDisplay
from dqn_cli.training.checkpoint_writer import CheckpointWriter
from dqn_cli.training.loop import (
    CheckpointDue,
    EpisodeFinished,
    EvaluationDue,
    Event,
    Finished,
    ReportDue,
    StreamDue,
)
from dqn_cli.training.run_logs import RunLogs
from dqn_cli.training.signals import StopRequest


class RunKeeper:
    """Writes what is due when it is due; ``Stateful``, so that its logs and scores go on after a resume.

    Args:
        training: The objects of the run.
        options: Its options.
        hardware: What it computes on.
        logs: Where numbers go.
        checkpoints: Where states go.
        progress: What a person sees.
        request: Signals that have arrived.
    """

    def __init__(
        self,
        training: Training,
        options: RunOptions,
        hardware: Hardware,
        logs: RunLogs,
        checkpoints: CheckpointWriter,
        progress: ProgressDisplay,
        request: StopRequest,
    ) -> None:
        self._training, self._options = training, options
        self._logs, self._checkpoints, self._progress = logs, checkpoints, progress
        self._request = request
        request.listen(self._request_stop, self._request_save)
        self._reporter = Reporter(training, options, logs, progress)
        evaluation = options.evaluation
        self._evaluator = Evaluator(
            options, hardware, evaluation.episodes, evaluation.epsilon, options.seed, "training evaluation"
        )
        self.evaluation: Evaluation | None = None
        self.saved_step = self.evaluated_step = -1
        self.finished: str | None = None  # why, once everything is done
        self._unsaved = False  # something was scored since the last save
        self._interrupted: int | None = None  # step of an evaluation that a signal or a failure ended
        self._failure: RunError | None = None  # to save, in the midst of an evaluation
        self._best: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return self._reporter.seconds

    def follow(self) -> str:
        """Sees the run through and returns why it ended.

        Raises:
            RunError: Something failed; where it was an environment, the state before its step is saved, and where it
                was an evaluation, that of training. Where training diverged, the checkpoint from before stays.
            Interrupted: Before training began.
        """
        try:
            if self._interrupted is not None:
                self._reporter.aside(lambda: self._evaluate(self._training.loop.step))
                self._save(self._training.loop.step)
            for event in self._training.loop.run():
                self._handle(event)
                if isinstance(event, Finished):
                    return event.reason
        except BrokenEnvironmentError as failure:
            if failure.whole:
                self._save_after(failure)
            raise
        except UsageError as failure:  # nothing can be wrong with the usage any more
            raise RunError(str(failure)) from failure
        raise RunError("training ended without saying why")

    def _save_after(self, failure: BrokenEnvironmentError) -> None:
        """Saves the state before a step that failed; where that fails too, the first failure is told with it."""
        try:
            self._save(self._training.loop.step)
        except RunError as second:
            message = f"{failure}; the state before it was not saved: {second}"
            raise BrokenEnvironmentError(message, failure.env_index, failure.episode) from failure

    def _handle(self, event: Event) -> None:
        match event:
            case EpisodeFinished(step, episode):
                self._reporter.episode(step, episode)
            case ReportDue(step):
                self._reporter.report(step)
                self._reporter.show()
            case EvaluationDue(step):
                self._reporter.aside(lambda: self._evaluate(step))
            case StreamDue():
                self._reporter.aside(lambda: self._checkpoints.stream(self._training.replay))
            case CheckpointDue(step):
                self._reporter.aside(lambda: self._save(step))
            case Finished(step, reason):
                self._finish(step, reason)

    def _finish(self, step: int, reason: str) -> None:
        if self._request.signal is not None:
            self._progress.message(f"step {step:,}: stopping; Ctrl-C again ends at once, without saving")
            self._save(step)
            self._reporter.report(step)  # after the save: a run that goes on from it has no report here
        else:
            self._reporter.report(step)
            if self._options.evaluation.every_steps is not None and step != self.evaluated_step:
                self._save(step)  # an evaluation that fails loses nothing
                self._evaluate(step)
            if self._request.signal is None:  # the evaluation may have been ended by one
                self.finished, self._unsaved = reason, True
            self._save(step)
        self._reporter.show()

    def warn(self, name: str, message: str) -> None:
        """Writes a warning of the present step into the logs."""
        self._reporter.warn(name, message)

    def _evaluate(self, step: int) -> None:
        if step == self.evaluated_step:
            return
        self._refuse_diverged(step)
        self._interrupted, self._unsaved = step, True  # whatever is saved before it is over repeats it
        try:
            with self._request.waiting:  # an evaluation changes nothing that is saved
                evaluation = self._evaluator.evaluate(self._training.learner.online, lambda: self._leaves(step))
        except Interrupted as end:
            end.take()
            return
        except DqnError as failure:
            raise self._failed_evaluation(step, failure) from failure
        if self._failure is not None:
            raise self._failure
        if evaluation is None:
            return
        self.evaluation, self.evaluated_step, self._interrupted = evaluation, step, None
        summary = evaluation.summary
        wall = {"wall_seconds": round(self.seconds, 3)}
        self._logs.evaluation(step, wall | evaluation.as_dict())
        stalled = f", {evaluation.stalled} stalled at the frame cap" if evaluation.stalled else ""
        self._progress.message(
            f"step {step:,}: evaluation return {summary.return_mean:.1f} +- {summary.return_std:.1f} "
            f"over {summary.episodes} episodes{stalled}"
        )
        if self._best is None or summary.return_mean > self._best:
            self._best = summary.return_mean
            if self._options.checkpoint.keep_best:
                self._checkpoints.save_best(step, self._training.learner.online.state_dict())

    def _leaves(self, step: int) -> bool:
        """Returns whether an evaluation must end now; saves in its midst where that is asked for."""
        if self._training.loop.save_requested:
            self._training.loop.save_requested = False
            try:
                self._save(step)
            except RunError as failure:  # it is none of the evaluation
                self._failure = failure
        return self._failure is not None or self._request.signal is not None

    @staticmethod
    def _failed_evaluation(step: int, failure: DqnError) -> BrokenEnvironmentError:
        """Returns a failure that says that it is not one of the environments of training."""
        message = f"in the evaluation at step {step:,}, which has environments and episodes of its own: {failure}"
        index, episode = getattr(failure, "env_index", None), getattr(failure, "episode", None)
        return BrokenEnvironmentError(message, index, episode, whole=True)

    def _save(self, step: int) -> None:
        if step == self.saved_step and not (self._unsaved or self._reporter.unsaved):
            return
        self._refuse_diverged(step)
        self._logs.flush()
        training = self._training
        state: State = {
            "learner": training.learner.state_dict(),
            "explorer": training.actor.explorer.state_dict(),
            "replay": training.replay.state_dict(),
            "environments": training.environments.state_dict(),
            "loop": training.loop.state_dict(),
            "keeper": self.state_dict(),
            "log_marks": self._logs.marks(),
        }
        self._checkpoints.save(step, state["learner"]["online"], state, training.replay)
        self.saved_step, self._unsaved, self._reporter.unsaved = step, False, False

    def _refuse_diverged(self, step: int) -> None:
        """Keeps what is no finite number out of every checkpoint, that of the best evaluation too."""
        if not self._training.learner.is_finite():
            raise DivergedError(
                f"training has diverged before step {step:,}: losses or weights are no finite numbers; lower "
                "learning.optimizer.lr, or set learning.max_grad_norm"
            )

    def state_dict(self) -> State:
        """Returns what the next report, evaluation and choice of the best depend on."""
        return {
            "finished": self.finished,
            "best": self._best,
            "evaluated_step": self.evaluated_step,
            "interrupted": self._interrupted,
            **self._reporter.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Takes over a state that ``state_dict`` returned, behind all others."""
        self._reporter.load_state_dict(state)
        self.saved_step, self._unsaved, self._reporter.unsaved = self._training.loop.step, False, False
        self.finished, self._best, self._interrupted = state["finished"], state["best"], state["interrupted"]
        self.evaluated_step = int(state["evaluated_step"])

    def _request_stop(self) -> None:
        self._training.loop.stop_requested = True

    def _request_save(self) -> None:
        self._training.loop.save_requested = True
