"""What an audit says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dqn_cli.core.errors import one_line

_MOST_CHARACTERS = 1_000
"""Of a counter-example: an environment may have said it."""


@dataclass(slots=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: What is compared.
        guards: The mistake that it would show, in words.
        compared: How many cases were compared so far.
        failure: The first counter-example, on one line, or None.
        reason: Why nothing could be compared, where that is known.
    """

    name: str
    guards: str
    compared: int = 0
    failure: str | None = None
    reason: str = ""

    def hold(self, holds: bool, counter_example: str, cases: int = 1) -> None:
        """Counts ``cases`` comparisons; the first that does not hold is kept."""
        self.compared += cases
        if not holds and self.failure is None:
            self.failure = one_line(counter_example, _MOST_CHARACTERS)

    @property
    def verdict(self) -> str:
        """``ok``, ``FAILED``, or ``not seen`` where nothing could be compared."""
        if self.failure is not None:
            return "FAILED"
        return "ok" if self.compared else "not seen"


def merged(sessions: Iterable[Iterable[Check]]) -> tuple[Check, ...]:
    """Returns the checks of several sessions as one of each name, in the order of the first."""
    by_name: dict[str, Check] = {}
    for checks in sessions:
        for check in checks:
            one = by_name.setdefault(check.name, Check(check.name, check.guards))
            one.hold(check.failure is None, check.failure or "", check.compared)
            one.reason = one.reason or check.reason
    return tuple(by_name.values())


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of one audit.

    Attributes:
        environment: What was audited, for people.
        steps: Agent steps taken.
        episodes: Episodes that ended.
        wraps: How many times over the ring of frames was written; above 1 frames were overwritten.
        checks: Every check, in the order of the path of the data.
        milliseconds: Time of one vector step of the environments, one append, one batch and one update.
    """

    environment: str
    steps: int
    episodes: int
    wraps: float
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
            "wraps": self.wraps,
            "passed": self.passed,
            "checks": [asdict(check) | {"verdict": check.verdict} for check in self.checks],
            "milliseconds": dict(self.milliseconds),
        }

    def text(self) -> str:
        """Returns a table for people; below it stand each failure with its counter-example, and what was not seen."""
        width = max(len(check.name) for check in self.checks)
        counts = f"{self.steps:,} steps, {self.episodes:,} episodes"
        lines = [f"{self.environment}: {counts}, ring of frames written {self.wraps:.1f} times over", ""]
        lines += [f"  {c.verdict:8}  {c.name:{width}}  {c.compared:>9,}  {c.guards}" for c in self.checks]
        if self.milliseconds:
            times = ", ".join(f"{name} {value:.2f} ms" for name, value in self.milliseconds.items())
            lines += ["", f"  times: {times}"]
        unseen = [check for check in self.checks if check.verdict == "not seen"]
        reasons = [f"  {check.name} not seen: {check.reason}" for check in unseen if check.reason]
        lines += ["", *reasons] if reasons else []
        failed = [check for check in self.checks if check.failure is not None]
        lines += ["", *(f"  {check.name}: {check.failure}" for check in failed)] if failed else []
        if failed:
            verdict = f"{len(failed)} of {len(self.checks)} checks failed"
        else:
            verdict = "every check holds" if not unseen else f"every check holds, but for {len(unseen)} not seen"
        return "\n".join([*lines, "", verdict])
