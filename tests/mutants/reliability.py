"""Defects of what a run that goes on depends on: states, generations, lineages, logs, signals."""

from __future__ import annotations

from tests.mutants.defect import Defect

KEEPER, LOOP, GENERATIONS = "dqn_cli/keeper.py", "dqn_cli/training/loop.py", "dqn_cli/training/generations.py"
VECTOR, SIGNALS, RESUMED = "dqn_cli/envs/vector.py", "dqn_cli/training/signals.py", "tests/test_resume.py"

RELIABILITY_DEFECTS = (
    Defect(
        "returns since the last report lost in a checkpoint",
        "dqn_cli/reporter.py",
        '"episodes": [list(episode) for episode in self._episodes],',
        '"episodes": [],',
        "tests/test_run.py",
    ),
    Defect(
        "an interrupted evaluation that nobody repeats",
        KEEPER,
        "self._interrupted, self._unsaved = step, True",
        "self._unsaved = True",
        RESUMED,
    ),
    Defect(
        "a save that is asked for by stopping",
        KEEPER,
        "self._training.loop.save_requested = True",
        "self._training.loop.stop_requested = True",
        RESUMED,
    ),
    Defect(
        "logs that are not cut back",
        "dqn_cli/training/run_logs.py",
        "log.truncate(int(marks[name]))",
        "pass",
        RESUMED,
    ),
    Defect(
        "events that are not cut back",
        "dqn_cli/telemetry/tensorboard.py",
        "        file.truncate(offset)",
        "        file.flush()",
        RESUMED,
    ),
    Defect(
        "a step that goes on without its updates",
        LOOP,
        "            if self.stop_requested and not to_the_end:\n                return False",
        "            if self.stop_requested and not to_the_end:\n                break",
        RESUMED,
    ),
    Defect(
        "a goal that is forgotten by who goes on",
        LOOP,
        '"returns": list(self.returns), ',
        '"returns": [], ',
        RESUMED,
    ),
    Defect(
        "flipped bits pass",
        GENERATIONS,
        "if fingerprint(path) != written:",
        "if False:",
        "tests/training/test_generations.py",
    ),
    Defect(
        "a manifest whose seal is broken",
        GENERATIONS,
        'content.pop("seal", None) != _seal(content)',
        'content.pop("seal", None) is None',
        "tests/training/test_generations.py",
    ),
    Defect(
        "a step that is saved again over its own file",
        GENERATIONS,
        "if name != taken)",
        "if name)",
        "tests/training/test_generations.py",
    ),
    Defect(
        "segments that the next checkpoint needs deleted",
        "dqn_cli/replay/segments.py",
        "keep = {*needed, *(segment.name for segment in self._saved)}",
        "keep = {*needed}",
        "tests/replay/test_segments.py",
    ),
    Defect(
        "short lineages that begin one step late",
        "dqn_cli/envs/lineage.py",
        "begun = self._first <= row",
        "begun = self._first < row",
        "tests/envs/test_resume.py",
    ),
    Defect(
        "short lineages that are never seeded",
        VECTOR,
        "                again.restart(starting)",
        "                pass",
        "tests/envs/test_resume.py",
    ),
    Defect(
        "an environment that strayed goes on with its lineage",
        VECTOR,
        "steps = sys.maxsize if anew else",
        "steps =",
        "tests/envs/test_resume.py",
    ),
    Defect(
        "other observations pass for the same",
        VECTOR,
        "differs |= (seen != found).any(1)",
        "differs |= False",
        "tests/envs/test_resume.py",
    ),
    Defect(
        "windows that are cut one step too long",
        "dqn_cli/replay/writer.py",
        "age = (self._steps - 1 - self._columns) % self._n_step",
        "age = (self._steps - self._columns) % self._n_step",
        "tests/replay/test_writer.py",
    ),
    Defect(
        "a wait without end that no signal ends",
        SIGNALS,
        "self.waiting.interrupt()",
        "pass",
        "tests/training/test_signals.py",
    ),
    Defect(
        "two processes on one folder",
        "dqn_cli/training/run_lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "tests/training/test_run_lock.py",
    ),
    Defect(
        "weights that are no numbers are saved",
        "dqn_cli/training/sanity.py",
        "if value is not None and not math.isfinite(value):",
        "if False:",
        "tests/training/test_sanity.py",
    ),
)
