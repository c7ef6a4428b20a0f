"""What a benchmark says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dqn_cli.hardware import Hardware


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a training, timed by itself.

    Attributes:
        name: ``update``, ``sampling``, ``acting`` or ``stepping``.
        of: What one time is for.
        milliseconds: Median.
        fast: 10th percentile.
        slow: 90th percentile.
    """

    name: str
    of: str
    milliseconds: float
    fast: float
    slow: float


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """How fast a config trains, and where the time goes.

    Attributes:
        environment: What it trains on.
        num_envs: Environments that step together.
        hardware: What it computes on.
        gradients: How updates find them.
        notices: What a person should know: that the recorded way was given up, and why.
        steps_per_second: Agent steps of the whole loop, after the warm-up.
        updates_per_second: Gradient steps of it.
        share_outside_updates: Share of its time that was not spent in updates; None on a GPU.
        parts: Each part by itself.
        operations: Floating point operations of the matrix products in an update.
        limit_milliseconds: What these products take alone: an update of this network can hardly be faster.
        machine: Processor, cores, Python.
    """

    environment: str
    num_envs: int
    hardware: Hardware
    gradients: str
    notices: tuple[str, ...]
    steps_per_second: float
    updates_per_second: float
    share_outside_updates: float | None
    parts: tuple[Part, ...]
    operations: int
    limit_milliseconds: float
    machine: Mapping[str, str | int]

    @property
    def share_of_limit(self) -> float:
        """How near an update comes to the hardware's limit."""
        (update,) = (part for part in self.parts if part.name == "update")
        return self.limit_milliseconds / update.milliseconds

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, as ``dqn bench --json`` prints them."""
        values = asdict(self) | {"machine": dict(self.machine), "share_of_limit": self.share_of_limit}
        del values["hardware"]
        return values | self.hardware.as_dict()

    def text(self) -> str:
        """Returns tables for people."""
        whole = f"{self.steps_per_second:,.0f} agent steps/s, {self.updates_per_second:,.1f} updates/s"
        if self.share_outside_updates is not None:
            whole += f"; {self.share_outside_updates:.0%} of the time outside of updates"
        lines = [
            ("environment", f"{self.environment}, {self.num_envs} at once"),
            ("machine", f"{self.machine['cpu']}, {self.machine['cores']} cores"),
            ("device", f"{self.hardware.text()}, gradients {self.gradients}"),
            *(("note", notice) for notice in self.notices),
            ("whole loop", whole),
            *(
                (p.name, f"{p.milliseconds:.3g} ms ({p.fast:.3g} to {p.slow:.3g}) for {p.of}")
                for p in self.parts
            ),
            ("limit", f"{self.limit_milliseconds:.3g} ms for the matrix products of an update alone, "
             f"{self.operations / 1e9:.3g} GFLOP: {self.share_of_limit:.0%} of it reached"),
        ]  # fmt: skip
        return "\n".join(f"{label:>12}  {text}" for label, text in lines)
