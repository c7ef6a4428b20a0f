"""Goes on with a run that was stopped, killed, or has failed, as if nothing had happened."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dqn_cli.compose import Training
from dqn_cli.config.problems import validate
from dqn_cli.core.errors import UsageError
from dqn_cli.core.loading import refusing
from dqn_cli.core.stateful import State
from dqn_cli.hardware import resolve_hardware
from dqn_cli.keeper import RunKeeper
from dqn_cli.plan import Plan, check_memory, has_room, make_plan, with_storage
from dqn_cli.run import Identity, Keeping, Outcome, follow, recorded_options
from dqn_cli.schema import RunOptions
from dqn_cli.training.checkpoint import Checkpoint, read_checkpoint
from dqn_cli.training.checkpoint_writer import CheckpointWriter
from dqn_cli.training.generations import Generation, newest_whole
from dqn_cli.training.run_folder import PACKAGES, clear, holds_a_run, provenance, refuse_foreign
from dqn_cli.training.run_lock import locked
from dqn_cli.training.run_logs import RunLogs

Result = TypeVar("Result")

_OF_THE_MACHINE = ("device", "precision", "threads", "memory_format", "env.threads")
"""Options that a command may leave to ``auto``, while the run has recorded what that meant."""


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A run on the disk.

    Attributes:
        generation: The newest whole generation.
        checkpoint: What its checkpoint file says.
        training: The state of its training.
        options: Its options.
    """

    generation: Generation
    checkpoint: Checkpoint
    training: State
    options: RunOptions


def find_saved(run_dir: Path, tell: Callable[[str], None]) -> SavedRun | None:
    """Returns where a run stands; None where nothing was saved yet.

    Args:
        run_dir: The run folder.
        tell: Is told of each damaged checkpoint that is passed over.

    Raises:
        UsageError: What is there cannot be resumed.
    """
    generation = newest_whole(run_dir, tell)
    if generation is None:
        return None
    checkpoint = read_checkpoint(generation.path)
    if checkpoint.training is None:
        raise UsageError(f"{generation.path} holds weights alone: use them with dqn eval, or with dqn train --init")
    options = validate(checkpoint.config, RunOptions, str(checkpoint.path))
    if options.replay.storage == "auto":  # of a version that knew but one
        options = with_storage(options, "dense")
    return SavedRun(generation, checkpoint, checkpoint.training, options)


def resume(run_dir: Path, tell: Callable[[str], None], quiet: bool = False, device: str | None = None) -> Outcome:
    """Goes on with the run in ``run_dir`` from its newest whole checkpoint.

    Args:
        run_dir: The run folder.
        tell: Is told what a user should know.
        quiet: Show no progress.
        device: Another device than the one that the run has recorded.

    Raises:
        UsageError: There is no run that could be resumed, it is in use, or does not fit this machine.
        RunError: Something failed while running.
    """
    if not run_dir.is_dir():
        raise UsageError(f"{run_dir} is no run folder: {'it is a file' if run_dir.exists() else 'it does not exist'}")
    if not holds_a_run(run_dir):
        raise UsageError(f"{run_dir} is no run folder: it is empty")
    refuse_foreign(run_dir)
    with locked(run_dir):
        saved = find_saved(run_dir, tell)
        if saved is None:
            raise UsageError(
                f"{run_dir} has no checkpoint: the run was ended before its first; start it again with its own "
                f"command and --resume --run-dir {shlex.quote(str(run_dir))}"
            )
        return go_on(run_dir, saved, tell, quiet, device)


def go_on_if_begun(options: RunOptions, run_dir: Path, tell: Callable[[str], None], quiet: bool) -> Outcome | None:
    """Goes on with the run in ``run_dir``; None where there is none yet, and the folder is ready for a new one.

    Args:
        options: Of the command; they must be those of the run.
        run_dir: The run folder.
        tell: Is told what a user should know.
        quiet: Show no progress.

    Raises:
        UsageError: The run has other options, cannot be resumed or is in use; or the folder holds something else.
        RunError: Something failed while running.
    """
    if not run_dir.is_dir() or not holds_a_run(run_dir):
        return None
    refuse_foreign(run_dir)
    with locked(run_dir):
        saved = find_saved(run_dir, tell)
        if saved is None:
            tell(f"{run_dir} was ended before its first checkpoint: it is started again")
            clear(run_dir)
            return None
        differing = differences(options, saved)
        if differing:
            raise UsageError(
                f"run folder {run_dir} holds a run with other options; this command says {', '.join(differing)}; "
                "repeat the command of the run, or give another folder with --run-dir"
            )
        return go_on(run_dir, saved, tell, quiet)


def go_on(
    run_dir: Path, saved: SavedRun, tell: Callable[[str], None], quiet: bool, device: str | None = None
) -> Outcome:
    """Goes on with ``saved``; the caller holds the lock of the folder. Arguments and errors as in `resume`."""
    reason = _plain(saved, lambda: saved.training["keeper"]["finished"])
    if reason is not None:
        CheckpointWriter(run_dir, saved.options.checkpoint.keep, dict).go_on(
            saved.generation
        )  # it may have been killed
        step = saved.checkpoint.step
        return Outcome(run_dir, f"{reason}, before this command", step, 0, None, -1, 0.0)
    options = saved.options if device is None else saved.options.model_copy(update={"device": device})
    plan = _planned_here(options, tell)
    check_memory(plan)
    options = recorded_options(plan.options, plan.hardware)
    facts = provenance() | {"gradients": plan.gradients}
    _tell_changes(saved, facts, tell)
    init = saved.checkpoint.versions.get("init")
    identity = Identity(saved.checkpoint.name, options, facts | ({} if init is None else {"init": init}))

    def begin(keeping: Keeping) -> RunKeeper:
        training, state = keeping.training, saved.training
        checkpoints = CheckpointWriter(run_dir, options.checkpoint.keep, identity.describe)
        checkpoints.load(saved.generation, training.replay)
        if not saved.options.device.startswith(("auto", plan.hardware.device.type)):
            tell("the device has changed: noise and augmentation begin new random numbers")
            state["learner"]["streams"] = training.learner.state_dict()["streams"]
        _plain(saved, lambda: _load(training, state))
        strayed = _plain(saved, lambda: _bring_back(training))
        step, frames_per_step = saved.checkpoint.step, plan.spec.frames_per_step
        logs = _plain(saved, lambda: RunLogs(run_dir, frames_per_step, state["log_marks"], step))
        if logs.events_lost:
            tell("the TensorBoard events from before are gone: its curves begin here")
        keeper = keeping.keeper(options, plan.hardware, logs, checkpoints)
        _plain(saved, lambda: keeper.load_state_dict(state["keeper"]))
        checkpoints.go_on(saved.generation)
        if strayed:
            keeper.warn("not_reproducible", strayed)
            tell(strayed)
        if not quiet:
            tell(f"goes on behind step {step:,}")
        return keeper

    return follow(options, plan.hardware, run_dir, quiet, begin, saved.checkpoint.step)


def _planned_here(options: RunOptions, tell: Callable[[str], None]) -> Plan:
    """Returns the plan of a saved run on this machine, whose GPU may have less room than the one before.

    Frames on a GPU and dense ones in host memory are the same frames; a compressed store might hold fewer than there
    are items for. Without a GPU a replay on the device stays what it is, in host memory: its sampler is the same.
    """
    plan = make_plan(options)
    if options.replay.storage != "device" or plan.hardware.device.type == "cpu" or has_room(plan):
        return plan
    tell("replay.storage: this GPU has no room for the replay, which goes on in host memory")
    return make_plan(with_storage(options, "dense"))


def differences(options: RunOptions, saved: SavedRun) -> list[str]:
    """Returns in what the options of a command differ from those of a run, ``key=command's (run's)``."""
    given, asked, recorded = (
        _flat(chosen.model_dump(mode="json"))
        for chosen in (options, recorded_options(options, resolve_hardware(options)), saved.options)
    )
    left_open = {key for key in _OF_THE_MACHINE if given.get(key) == "auto"}
    # A resume may have moved the frames from the device to the host, and a command does not know of that.
    same_frames = {"device", "dense"} >= {options.replay.storage, saved.options.replay.storage}
    left_open |= {"replay.storage"} if options.replay.storage == "auto" or same_frames else set()
    return [
        f"{key}={asked.get(key)} (the run has {recorded.get(key)})"
        for key in sorted({*asked, *recorded} - left_open)
        if asked.get(key) != recorded.get(key)
    ]


def _flat(values: Any, key: str = "") -> dict[str, Any]:
    """Returns nested mappings as one, with dotted keys."""
    if not isinstance(values, dict) or not values:
        return {key: values}
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{key}.{name}" if key else name)
    return flat


def _load(training: Training, state: State) -> None:
    training.learner.load_state_dict(state["learner"])
    training.actor.explorer.load_state_dict(state["explorer"])
    training.replay.load_state_dict(state["replay"])
    training.environments.load_state_dict(state["environments"])
    training.loop.load_state_dict(state["loop"])


def _bring_back(training: Training) -> str:
    """Plays the running lineages again; environments that arrive elsewhere begin new episodes, and it is said which."""
    strayed = training.environments.resume()
    if not strayed.any():
        return ""
    training.replay.cut(strayed, training.environments.restart(strayed))
    which = ", ".join(map(str, np.flatnonzero(strayed).tolist()))
    return (
        f"environments {which} are not reproducible: the same seed and actions led elsewhere; their episodes are cut "
        "here and new ones begin (dqn audit tells more)"
    )


def _tell_changes(saved: SavedRun, facts: dict[str, str], tell: Callable[[str], None]) -> None:
    versions = saved.checkpoint.versions
    changed = [
        f"{name} {versions[name]} -> {facts.get(name)}"
        for name in ("dqn_cli", *PACKAGES)
        if name in versions and versions[name] != facts.get(name)
    ]
    if changed:
        tell(f"the software has changed ({', '.join(changed)}): the run goes on, but its bits may be others")


def _plain(saved: SavedRun, take: Callable[[], Result]) -> Result:
    """Returns what ``take`` returns; a state that is none of ours becomes an error for the user."""
    with refusing(f"{saved.checkpoint.path} is damaged or foreign: its state fits no training"):
        return take()
