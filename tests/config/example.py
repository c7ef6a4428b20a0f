"""A schema in the style of the real one: kinds with defaults, unions, nested sections, validators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from dqn_cli.core.options import Count, Counts, Fraction, Options, PositiveCount, PositiveFloat


def kind_or(default: str) -> Discriminator:
    def kind(value: Any) -> Any:
        return value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default)

    return Discriminator(kind)


class Gymnasium(Options):
    """Any environment.

    Attributes:
        id: Id of the environment,
            as registered.
        num_envs: Environments side by side.
    """

    kind: Literal["gymnasium"] = "gymnasium"
    id: str
    num_envs: PositiveCount = 4
    kwargs: dict[str, Any] = Field(default_factory=dict)


class Atari(Options):
    kind: Literal["atari"] = "atari"
    game: str
    num_envs: PositiveCount = 8
    sticky: Fraction = 0.25


class Mlp(Options):
    kind: Literal["mlp"] = "mlp"
    hidden: Counts = (256, 256)


class Cnn(Options):
    kind: Literal["cnn"] = "cnn"
    channels: Counts = (32, 64)


class Network(Options):
    torso: Annotated[Annotated[Mlp, Tag("mlp")] | Annotated[Cnn, Tag("cnn")], kind_or("mlp")] = Mlp()


class Adam(Options):
    kind: Literal["adam"] = "adam"
    lr: PositiveFloat = 5.0e-4
    eps: PositiveFloat = 1.0e-8


class Rmsprop(Options):
    kind: Literal["rmsprop"] = "rmsprop"
    lr: PositiveFloat = 2.5e-4
    decay: Fraction = 0.95
    centered: bool = True


class Crop(Options):
    kind: Literal["crop"]
    pad: Count = 4


class Shift(Options):
    kind: Literal["shift"]
    pixels: Count = 4


class Learning(Options):
    batch_size: PositiveCount = Field(default=64, description="Transitions in a batch.")
    gamma: Fraction = 0.99
    loss: Literal["auto", "huber", "squared"] = "auto"
    max_grad_norm: PositiveFloat | None = 10.0
    optimizer: Annotated[Annotated[Adam, Tag("adam")] | Annotated[Rmsprop, Tag("rmsprop")], kind_or("adam")] = Adam()
    augmentation: Annotated[tuple[Annotated[Crop | Shift, Field(discriminator="kind")], ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check(self) -> Learning:
        if self.loss == "squared" and self.max_grad_norm is None:
            raise ValueError("loss 'squared' needs max_grad_norm, or it diverges")
        return self


class Stop(Options):
    return_mean: float
    window: PositiveCount = 100


class Example(Options):
    """A whole experiment."""

    seed: Count = 0
    threads: PositiveCount | Literal["auto"] = "auto"
    storage: Literal["auto", "dense"] | Cnn = "auto"
    total_steps: PositiveCount = 50_000
    env: Annotated[Annotated[Gymnasium, Tag("gymnasium")] | Annotated[Atari, Tag("atari")], kind_or("gymnasium")]
    view: Literal["auto"] | Annotated[Annotated[Mlp, Tag("mlp")] | Annotated[Cnn, Tag("cnn")], kind_or("mlp")] = "auto"
    sizes: Counts | Literal["auto"] = "auto"
    only: Annotated[Annotated[Mlp, Tag("mlp")], kind_or("mlp")] | None = None
    network: Network = Network()
    learning: Learning = Learning()
    stop: Stop | None = None

    @model_validator(mode="after")
    def _check(self) -> Example:
        if self.seed == 13:
            raise ValueError("seed 13 is unlucky")
        return self
