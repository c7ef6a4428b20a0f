"""Small audits."""

from __future__ import annotations

from typing import Any

from dqn_cli.experiments.audit.audit import audit
from dqn_cli.experiments.audit.report import AuditReport
from dqn_cli.schema import RunOptions
from tests.envs.hostile import env_id


def audited(
    name: str = "None",
    n_step: int = 3,
    num_envs: int = 3,
    steps: int = 400,
    sampler: dict[str, Any] | None = None,
    reward_clip: float | None = None,
    batch_size: int = 8,
    **env: Any,
) -> AuditReport:
    """Audits a hostile environment, or with ``id=`` another one."""
    options = {
        "device": "cpu",
        "env": {"id": env_id(name), "num_envs": num_envs} | env,
        "network": {"torso": {"hidden": [4]}},
        "replay": {"n_step": n_step, "reward_clip": reward_clip, "sampler": sampler or {"kind": "uniform"}},
        "learning": {"batch_size": batch_size},
    }
    return audit(RunOptions.model_validate(options), steps)


def breakout(steps: int, num_envs: int = 3, **env: Any) -> AuditReport:
    """Audits a small Breakout."""
    options = {
        "device": "cpu",
        "env": {"kind": "atari", "game": "Breakout", "num_envs": num_envs, "screen": 42} | env,
        "network": {"torso": {"kind": "mlp", "hidden": [4]}},
        "replay": {"n_step": 3, "reward_clip": 1.0},
    }
    return audit(RunOptions.model_validate(options), steps)


def failed(report: AuditReport) -> dict[str, str]:
    """Returns the counter-example of each check that failed."""
    return {check.name: check.failure for check in report.checks if check.failure is not None}


def verdicts(report: AuditReport) -> dict[str, str]:
    """Returns the verdict of each check."""
    return {check.name: check.verdict for check in report.checks}
