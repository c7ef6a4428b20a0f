"""Starts one run and sees it through."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from dqn_cli.compose import make_environments, make_training
from dqn_cli.config.write import dump_config
from dqn_cli.core.errors import BrokenEnvironmentError, RunError
from dqn_cli.core.files import write_durably
from dqn_cli.evaluate import Evaluation
from dqn_cli.hardware import Hardware
from dqn_cli.keeper import RunKeeper
from dqn_cli.plan import Plan
from dqn_cli.schema import RunOptions
from dqn_cli.telemetry.progress import progress_display
from dqn_cli.training.checkpoint import NEWEST, CheckpointWriter, read_checkpoint
from dqn_cli.training.run_folder import FAILURE, RunLogs, make_run_dir, provenance, write_config
from dqn_cli.training.signals import listening
from dqn_cli.training.weights import load_weights


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
        try:
            reason = keeper.follow()
        except BrokenEnvironmentError as failure:
            raise RunError(_told(failure, run_dir, keeper.saved_step)) from failure
    return Outcome(
        run_dir=run_dir,
        reason=reason,
        step=keeper.saved_step,
        exit_code=request.exit_code,
        evaluation=keeper.evaluation,
        evaluated_step=keeper.evaluated_step,
        seconds=keeper.seconds,
    )


def _told(failure: BrokenEnvironmentError, run_dir: Path, saved_step: int) -> str:
    """Writes down what plays the failed episode again, and returns what to say."""
    saved = f"the run is saved up to step {saved_step:,}" if saved_step >= 0 else "nothing was saved yet"
    if failure.episode is None:
        return f"{failure}; {saved}"
    content = json.dumps({"message": str(failure), **failure.episode})
    write_durably(run_dir / FAILURE, lambda file: _write_text(file, content))
    return f"{failure}; {saved}; play that episode again: dqn audit --replay {shlex.quote(str(run_dir))}"


def _write_text(file: BinaryIO, text: str) -> None:
    file.write(text.encode())


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
