"""Starts one run and sees it through."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from dqn_cli.compose import Training, make_environments, make_training
from dqn_cli.config.write import dump_config
from dqn_cli.core.errors import BrokenEnvironmentError, DivergedError, RunError
from dqn_cli.core.files import write_durably
from dqn_cli.core.interruption import Interrupted
from dqn_cli.core.stateful import State
from dqn_cli.evaluate import Evaluation
from dqn_cli.hardware import Hardware
from dqn_cli.keeper import RunKeeper
from dqn_cli.plan import Plan
from dqn_cli.schema import RunOptions
from dqn_cli.telemetry.progress import ProgressDisplay, progress_display
from dqn_cli.training.checkpoint import NEWEST, read_checkpoint
from dqn_cli.training.checkpoint_writer import CheckpointWriter
from dqn_cli.training.run_folder import FAILURE, make_run_dir, provenance, write_config
from dqn_cli.training.run_lock import locked
from dqn_cli.training.run_logs import RunLogs
from dqn_cli.training.signals import StopRequest, listening
from dqn_cli.training.weights import load_weights


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        run_dir: Where everything lies.
        reason: Why it ended.
        step: Agent steps behind the last checkpoint, -1 where there is none.
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
        folder = shlex.quote(str(self.run_dir))
        lines.append(("run folder", str(self.run_dir)))
        if self.step < 0:
            lines.append(("saved", "nothing"))
            if self.exit_code:
                lines.append(("go on", "start it again: nothing had begun"))
        else:
            lines += [
                ("saved", f"{NEWEST}, step {self.step:,}"),
                ("score it", f"dqn eval {folder}"),
                ("look at it", f"tensorboard --logdir {shlex.quote(str(self.run_dir.parent))}"),
            ]
            if self.exit_code:
                lines.append(("go on", f"dqn resume {folder}"))
        return "\n".join(f"{label:>12}  {text}" for label, text in lines)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run says of itself in its config file and its checkpoints.

    Attributes:
        name: Name of the config.
        options: The options, nothing in them automatic.
        facts: Versions, state of the source, where its weights are from.
    """

    name: str
    options: RunOptions
    facts: dict[str, str]

    def describe(self) -> State:
        """Returns plain values, for a checkpoint."""
        return {"name": self.name, "config": self.options.model_dump(mode="json"), "versions": self.facts}


def train(plan: Plan, name: str, run_dir: Path, quiet: bool = False, init: Path | None = None) -> Outcome:
    """Trains as ``plan`` says, into a new folder.

    Args:
        plan: The plan, whose memory has been checked.
        name: Name of the config.
        run_dir: The run's own folder; must be empty if it is there.
        quiet: Show no progress.
        init: Checkpoint whose weights training starts from.

    Raises:
        UsageError: The folder exists or is in use, or ``init`` does not fit.
        RunError: Something failed while running.
    """
    start = read_checkpoint(init) if init is not None else None
    facts = provenance() | {"gradients": plan.gradients}
    if start is not None:
        facts["init"] = f"{start.path.absolute()}, step {start.step}"
    identity = Identity(name, recorded_options(plan.options, plan.hardware), facts)

    def begin(keeping: Keeping) -> RunKeeper:
        training = keeping.training
        if start is not None:
            load_weights(training.learner.online, start, "this config describes")
            load_weights(training.learner.target, start, "this config describes")
        make_run_dir(run_dir)
        keeping.stack.enter_context(locked(run_dir))
        make_run_dir(run_dir)  # another process may have used it in between
        write_config(run_dir / "config.yaml", identity.options, name, facts)
        logs = RunLogs(run_dir, plan.spec.frames_per_step)
        logs.text("config", f"```yaml\n{dump_config(identity.options)}\n```")
        checkpoints = CheckpointWriter(run_dir, identity.options.checkpoint.keep, identity.describe)
        return keeping.keeper(identity.options, plan.hardware, logs, checkpoints)

    return follow(identity.options, plan.hardware, run_dir, quiet, begin)


@dataclass(frozen=True, slots=True)
class Keeping:
    """What there is of a run before its folder is touched.

    Attributes:
        training: Its objects, fresh.
        progress: What a person sees.
        request: Signals that have arrived.
        stack: Is closed when the run has ended.
    """

    training: Training
    progress: ProgressDisplay
    request: StopRequest
    stack: ExitStack

    def keeper(
        self, options: RunOptions, hardware: Hardware, logs: RunLogs, checkpoints: CheckpointWriter
    ) -> RunKeeper:
        """Returns the keeper that follows the training; the logs are closed when the run has ended."""
        self.stack.callback(logs.close)
        return RunKeeper(self.training, options, hardware, logs, checkpoints, self.progress, self.request)


def follow(
    options: RunOptions,
    hardware: Hardware,
    run_dir: Path,
    quiet: bool,
    begin: Callable[[Keeping], RunKeeper],
    saved_step: int = -1,
) -> Outcome:
    """Builds the objects of a run, has ``begin`` bring them to where training starts, and sees training through.

    Args:
        options: Options of the run, nothing in them automatic.
        hardware: What it computes on.
        run_dir: Its folder.
        quiet: Show no progress.
        begin: Returns the keeper of a run that is ready.
        saved_step: Agent steps behind the checkpoint that is there already, -1 where there is none.

    Raises:
        UsageError: Something does not fit; nothing has begun.
        RunError: Something failed while running.
    """
    hardware.apply()
    keeper: RunKeeper | None = None
    reason = "stopped before training began"
    with ExitStack() as stack:
        request = stack.enter_context(listening())
        try:
            with request.waiting:  # a signal may end all of it: what is on the disk is whole at any time
                environments = make_environments(options, waiting=request.waiting)
                stack.callback(environments.close)
                training = make_training(options, hardware, environments)
                progress = stack.enter_context(progress_display(options.total_steps, quiet))
                keeper = begin(Keeping(training, progress, request, stack))
            reason = keeper.follow()
        except Interrupted as end:
            end.take()
        except RunError as failure:
            raise _told(failure, run_dir, saved_step if keeper is None else keeper.saved_step) from failure
    return Outcome(
        run_dir=run_dir,
        reason=reason,
        step=saved_step if keeper is None else keeper.saved_step,
        exit_code=request.exit_code,
        evaluation=None if keeper is None else keeper.evaluation,
        evaluated_step=-1 if keeper is None else keeper.evaluated_step,
        seconds=0.0 if keeper is None else keeper.seconds,
    )


def _told(failure: RunError, run_dir: Path, saved_step: int) -> RunError:
    """Returns a failure that says what is saved and what to do; writes down what plays a failed episode again."""
    folder = shlex.quote(str(run_dir))
    saved = f"the run is saved up to step {saved_step:,}" if saved_step >= 0 else "nothing was saved yet"
    told = f"{failure}; {saved}"
    if isinstance(failure, DivergedError):
        return DivergedError(f"{told}, from before that" if saved_step >= 0 else told)
    if isinstance(failure, BrokenEnvironmentError) and failure.episode is not None:
        content = json.dumps({"message": str(failure), **failure.episode})
        try:
            write_durably(run_dir / FAILURE, lambda file: _write_text(file, content))
            told += f"; play that episode again: dqn audit --replay {folder}"
        except RunError as second:  # the first failure is the one to know of
            told += f"; what plays that episode again was not written: {second}"
    return RunError(f"{told}; go on: dqn resume {folder}" if saved_step >= 0 else told)


def _write_text(file: BinaryIO, text: str) -> None:
    file.write(text.encode())


def recorded_options(options: RunOptions, hardware: Hardware) -> RunOptions:
    """Returns the options with every ``auto`` of the hardware replaced by what was chosen."""
    chosen, env = hardware.as_dict(), options.env
    emulator_threads = chosen.pop("emulator_threads")
    if emulator_threads is not None:
        env = env.model_copy(update={"threads": emulator_threads})
    return options.model_copy(update={"env": env, **chosen})
