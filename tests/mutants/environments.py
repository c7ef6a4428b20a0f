"""Defects between an environment and the loop: what is refused, what is told, what is saved."""

from __future__ import annotations

from tests.mutants.defect import Defect

GUARD, VECTOR = "dqn_cli/envs/guard.py", "dqn_cli/envs/vector.py"
GYMNASIUM, STEPPERS = "dqn_cli/envs/gymnasium.py", "dqn_cli/envs/steppers.py"

ENVIRONMENT_DEFECTS = (
    Defect(
        "observations wrapped into their dtype",
        GUARD,
        'if cast.dtype.kind != "f" and not np.array_equal(cast, value):',
        "if False:",
        "tests/envs/test_guard.py",
    ),
    Defect(
        "infos of Gymnasium pass",
        GUARD,
        "reward, terminated, truncated, {}",
        "reward, terminated, truncated, _",
        "tests/envs/test_guard.py",
    ),
    Defect(
        "a value without a code becomes zeros",
        "dqn_cli/envs/spaces.py",
        "space.start + space.n - 1",
        "space.start + space.n",
        "tests/envs/test_guard.py",
    ),
    Defect(
        "NaN of an observation passes",
        GYMNASIUM,
        "not np.isfinite(frames).all()",
        "False",
        "tests/envs/test_gymnasium.py",
    ),
    Defect(
        "observations overwritten by the next step",
        STEPPERS,
        "observation = np.empty_like(self._last)",
        "observation = self._last",
        "tests/envs/test_gymnasium.py",
    ),
    Defect(
        "a partial reset that resets all",
        STEPPERS,
        '{"reset_mask": np.array(mask)}',
        "{}",
        "tests/envs/test_gymnasium.py",
    ),
    Defect(
        "a reward that overflows in replay",
        VECTOR,
        "fits = np.abs(step.reward) <= _LARGEST_REWARD",
        "fits = np.isfinite(step.reward)",
        "tests/envs/test_vector.py",
    ),
    Defect(
        "a failed run is not saved",
        "dqn_cli/keeper.py",
        "if failure.whole:",
        "if False:",
        "tests/cli/test_broken_environments.py",
    ),
    Defect(
        "a failed episode that nothing plays again",
        "dqn_cli/run.py",
        "if isinstance(failure, BrokenEnvironmentError) and failure.episode is not None:",
        "if False:",
        "tests/cli/test_broken_environments.py",
    ),
    Defect(
        "actions chosen anew after a failed step",
        "dqn_cli/training/loop.py",
        "if self._pending is None:",
        "if True:",
        "tests/training/test_loop.py",
    ),
)
