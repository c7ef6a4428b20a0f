"""What an audit says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: What is compared.
        guards: The mistake that it would show, in words.
        compared: How many cases were compared so far.
        failure: The first counter-example, or None.
    """

    name: str
    guards: str
    compared: int = 0
    failure: str | None = None

    def hold(self, holds: bool, counter_example: str, cases: int = 1) -> None:
        """Counts ``cases`` comparisons; the first that does not hold is kept."""
        self.compared += cases
        if not holds and self.failure is None:
            self.failure = counter_example

    @property
    def verdict(self) -> str:
        """``ok``, ``FAILED``, or ``not seen`` where nothing could be compared."""
        if self.failure is not None:
            return "FAILED"
        return "ok" if self.compared else "not seen"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of one audit.

    Attributes:
        environment: What was audited, for people.
        steps: Agent steps taken.
        episodes: Episodes that ended.
        checks: Every check, in the order of the path of the data.
        milliseconds: Time of one vector step of the environments, one append, one batch and one update.
    """

    environment: str
    steps: int
    episodes: int
    checks: tuple[Check, ...]
    milliseconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.failure is None for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, as ``dqn audit --json`` prints them."""
        return {
            "environment": self.environment,
            "steps": self.steps,
            "episodes": self.episodes,
            "passed": self.passed,
            "checks": [asdict(check) | {"verdict": check.verdict} for check in self.checks],
            "milliseconds": dict(self.milliseconds),
        }

    def text(self) -> str:
        """Returns a table for people; each failure stands below it with its counter-example."""
        width = max(len(check.name) for check in self.checks)
        lines = [f"{self.environment}: {self.steps:,} steps, {self.episodes:,} episodes", ""]
        lines += [f"  {c.verdict:8}  {c.name:{width}}  {c.compared:>9,}  {c.guards}" for c in self.checks]
        if self.milliseconds:
            times = ", ".join(f"{name} {value:.2f} ms" for name, value in self.milliseconds.items())
            lines += ["", f"  times: {times}"]
        failed = [check for check in self.checks if check.failure is not None]
        lines += ["", *(f"  {check.name}: {check.failure}" for check in failed)] if failed else []
        verdict = "every check holds" if not failed else f"{len(failed)} of {len(self.checks)} checks failed"
        return "\n".join([*lines, "", verdict])
