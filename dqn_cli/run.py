"""Starts one run and sees it through: the events of the loop become logs, scores and checkpoints."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.config.write import dump_config
from dqn_cli.core.errors import RunError
from dqn_cli.core.stateful import State
from dqn_cli.evaluate import Evaluation, Evaluator, load_weights
from dqn_cli.hardware import Hardware
from dqn_cli.plan import Plan
from dqn_cli.schema import RunOptions
from dqn_cli.telemetry.progress import ProgressDisplay, Snapshot, progress_display
from dqn_cli.training.checkpoint import NEWEST, CheckpointWriter, read_checkpoint
from dqn_cli.training.loop import (
    CheckpointDue,
    EpisodeFinished,
    EvaluationDue,
    Event,
    Finished,
    ReportDue,
)
from dqn_cli.training.run_folder import RunLogs, make_run_dir, provenance, write_config
from dqn_cli.training.signals import StopRequest, listening


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        run_dir: Where everything lies.
        reason: Why it ended.
        step: Agent steps behind the last checkpoint.
        exit_code: 0, or 128 plus the number of the signal that stopped it.
        evaluation: The last evaluation, if there was one.
        evaluated_step: Agent steps behind it.
        seconds: Wall time from the first step on.
    """

    run_dir: Path
    reason: str
    step: int
    exit_code: int
    evaluation: Evaluation | None
    evaluated_step: int
    seconds: float

    def text(self) -> str:
        """Returns how it ended, for people."""
        lines = [("ended", f"{self.reason}, {timedelta(seconds=round(self.seconds))}")]
        if self.evaluation is not None:
            summary, epsilon = self.evaluation.summary, self.evaluation.protocol.epsilon
            lines.append(
                (
                    "score",
                    f"mean return {summary.return_mean:.2f} over {summary.episodes} evaluation episodes, "
                    f"epsilon {epsilon:g}, at step {self.evaluated_step:,}",
                )
            )
        lines += [
            ("run folder", str(self.run_dir)),
            ("saved", f"{NEWEST}, step {self.step:,}"),
            ("score it", f"dqn eval {shlex.quote(str(self.run_dir))}"),
            ("look at it", f"tensorboard --logdir {shlex.quote(str(self.run_dir.parent))}"),
        ]
        return "\n".join(f"{label:>12}  {text}" for label, text in lines)


def train(plan: Plan, name: str, run_dir: Path, quiet: bool = False, init: Path | None = None) -> Outcome:
    """Trains as ``plan`` says, into a new folder.

    Args:
        plan: The plan, whose memory has been checked.
        name: Name of the config.
        run_dir: The run's own folder; must be empty if it is there.
        quiet: Show no progress.
        init: Checkpoint whose weights training starts from.

    Raises:
        UsageError: The folder exists, or ``init`` does not fit.
        RunError: Something failed while running.
    """
    options = recorded_options(plan.options, plan.hardware)
    start = read_checkpoint(init) if init is not None else None
    plan.hardware.apply()
    with ExitStack() as stack:
        environments = make_environments(options)
        stack.callback(environments.close)
        training = make_training(options, plan.hardware, environments)
        if start is not None:
            load_weights(training.learner.online, start, "this config describes")
            load_weights(training.learner.target, start, "this config describes")
        make_run_dir(run_dir)
        facts = provenance() | ({} if start is None else {"init": f"{start.path.absolute()}, step {start.step}"})
        write_config(run_dir / "config.yaml", options, name, facts)
        logs = RunLogs(run_dir, plan.spec.frames_per_step)
        stack.callback(logs.close)
        logs.text("config", f"```yaml\n{dump_config(options)}\n```")
        describe = {"name": name, "config": options.model_dump(mode="json"), "versions": facts}
        checkpoints = CheckpointWriter(run_dir, options.checkpoint.keep, lambda: describe)
        progress = stack.enter_context(progress_display(options.total_steps, quiet))
        request = stack.enter_context(listening())
        keeper = RunKeeper(training, options, plan.hardware, logs, checkpoints, progress, request)
        reason = keeper.follow()
    return Outcome(
        run_dir=run_dir,
        reason=reason,
        step=keeper.saved_step,
        exit_code=request.exit_code,
        evaluation=keeper.evaluation,
        evaluated_step=keeper.evaluated_step,
        seconds=keeper.seconds,
    )


class RunKeeper:
    """Listens to the loop: writes what is due when it is due.

    Args:
        training: The objects of the run.
        options: Its options.
        hardware: What it computes on.
        logs: Where numbers go.
        checkpoints: Where states go.
        progress: What a person sees.
        request: A signal that has arrived.
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
        request.listen(self._request_stop)
        evaluation = options.evaluation
        self._evaluator = Evaluator(
            options, hardware, evaluation.episodes, evaluation.epsilon, options.seed, "training evaluation"
        )
        self.evaluation: Evaluation | None = None
        self.saved_step = self.evaluated_step = -1
        self._best: float | None = None
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

    def follow(self) -> str:
        """Sees the run through and returns why it ended."""
        for event in self._training.loop.run():
            self._handle(event)
            if isinstance(event, Finished):
                return event.reason
        raise RunError("training ended without saying why")

    def _handle(self, event: Event) -> None:
        match event:
            case EpisodeFinished(step, episode):
                self._logs.episode(step, episode)
                self._episodes.append((episode.score, episode.length))
                self._show()
            case ReportDue(step):
                self._report(step)
                self._show()
            case EvaluationDue(step):
                self._aside(lambda: self._evaluate(step))
            case CheckpointDue(step):
                self._aside(lambda: self._save(step))
            case Finished(step):
                self._finish(step)

    def _finish(self, step: int) -> None:
        self._report(step)
        if self._request.signal is not None:
            self._progress.message(f"step {step:,}: stopping; Ctrl-C again ends at once, without saving")
        elif self._options.evaluation.every_steps is not None:
            self._evaluate(step)
        self._save(step)
        self._show()

    def _aside(self, work: Callable[[], None]) -> None:
        """Does work whose time is not the loop's."""
        before = time.monotonic()
        work()
        self._away += time.monotonic() - before

    def _report(self, step: int) -> None:
        now = time.monotonic()
        last_step, last_time = self._reported
        if step == last_step:
            return
        self._speed = (step - last_step) / max(1e-9, now - last_time - self._away)
        self._reported, self._away = (step, now), 0.0
        fresh = self._training.learner.report()
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

    def _show(self) -> None:
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

    def _evaluate(self, step: int) -> None:
        if step == self.evaluated_step:
            return
        evaluation = self._evaluator.evaluate(self._training.learner.online, lambda: self._request.signal is not None)
        if evaluation is None:
            return
        self.evaluation, self.evaluated_step = evaluation, step
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

    def _save(self, step: int) -> None:
        if step == self.saved_step:
            return
        self._logs.flush()
        training = self._training
        state: State = {
            "learner": training.learner.state_dict(),
            "explorer": training.actor.explorer.state_dict(),
            "replay": training.replay.state_dict(),
            "environments": training.environments.state_dict(),
            "loop": training.loop.state_dict(),
            "best": self._best,
            "log_offsets": self._logs.offsets(),
        }
        self._checkpoints.save(step, state["learner"]["online"], state, training.replay)
        self.saved_step = step

    def _request_stop(self) -> None:
        self._training.loop.stop_requested = True


def recorded_options(options: RunOptions, hardware: Hardware) -> RunOptions:
    """Returns the options with every ``auto`` of the hardware replaced by what was chosen."""
    return options.model_copy(
        update={
            "device": str(hardware.device),
            "precision": hardware.precision,
            "threads": hardware.threads,
            "memory_format": hardware.memory_format,
        }
    )
