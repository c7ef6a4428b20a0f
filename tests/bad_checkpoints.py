"""Files that are no checkpoints of ours, each with what must be said of it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Writer = Callable[[Path, Path], None]
"""Writes a bad file to the first path; the second is a good checkpoint."""


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self._victim = victim

    def __reduce__(self) -> Any:
        return (open, (str(self._victim), "w"))


def victim(bad: Path) -> Path:
    """Returns the file that exists if a hostile one was run."""
    return bad.with_name("hacked")


def changed(**changes: Any) -> Writer:
    """Returns what writes the good checkpoint with other contents; None takes a key away."""

    def write(bad: Path, good: Path) -> None:
        content = torch.load(good, weights_only=True) | changes
        torch.save({key: value for key, value in content.items() if value is not None}, bad)

    return write


def _text(bad: Path, good: Path) -> None:
    bad.write_text("hello\n")


def _empty(bad: Path, good: Path) -> None:
    bad.touch()


def _png(bad: Path, good: Path) -> None:
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def _zip(bad: Path, good: Path) -> None:
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("hello.txt", "hello")


def _truncated(bad: Path, good: Path) -> None:
    bad.write_bytes(good.read_bytes()[:-1000])


def _half(bad: Path, good: Path) -> None:
    data = good.read_bytes()
    bad.write_bytes(data[: len(data) // 2])


def _flipped_bit(bad: Path, good: Path) -> None:
    data = bytearray(good.read_bytes())
    weights = torch.load(good, weights_only=True)["weights"]
    raw = next(iter(weights.values())).numpy().tobytes()
    data[data.index(raw)] ^= 1
    bad.write_bytes(data)


def _state_dict(bad: Path, good: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), bad)


def _tensor(bad: Path, good: Path) -> None:
    torch.save(torch.zeros(3), bad)


def _module(bad: Path, good: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), bad)


def _hostile(bad: Path, good: Path) -> None:
    torch.save({"format": "dqn_cli checkpoint", "schema": 1, "weights": Hostile(victim(bad))}, bad)


def _hostile_pickle(bad: Path, good: Path) -> None:
    bad.write_bytes(pickle.dumps(Hostile(victim(bad))))


def _hostile_old_format(bad: Path, good: Path) -> None:
    torch.save(Hostile(victim(bad)), bad, _use_new_zipfile_serialization=False)


_ONE_WEIGHT = {"torso.layers.0.weight": torch.zeros(1)}

BAD: dict[str, tuple[Writer, str]] = {
    "text": (_text, "truncated or not a checkpoint"),
    "empty": (_empty, "truncated or not a checkpoint"),
    "png": (_png, "truncated or not a checkpoint"),
    "zip": (_zip, "not a checkpoint of dqn"),
    "truncated": (_truncated, "truncated or not a checkpoint"),
    "half": (_half, "truncated or not a checkpoint"),
    "flipped bit": (_flipped_bit, "damaged"),
    "state dict": (_state_dict, "written by another program"),
    "tensor": (_tensor, "written by another program"),
    "module": (_module, "nothing of it was run"),
    "hostile": (_hostile, "nothing of it was run"),
    "hostile pickle": (_hostile_pickle, "not a checkpoint of dqn"),
    "hostile old format": (_hostile_old_format, "not a checkpoint of dqn"),
    "packed": (lambda bad, good: _packed(bad, good), "its content is packed"),
    "a config of a billion values": (lambda bad, good: _bomb(bad, good), "'config'"),
    "a config of great depth": (lambda bad, good: _deep(bad, good), "'config'"),
    "a config with a long text": (changed(config={"env": {"id": "x" * 1_000_000}}), "'config'"),
    "a config of tensors": (changed(config={"seed": torch.zeros(2)}), "'config'"),
    "newer": (changed(schema=99), "schema 99, this version of dqn reads up to 3; use dqn_cli 0.1.0 or later"),
    "newer, of nobody": (changed(schema=99, versions=[1]), "use the version that wrote it"),
    "odd versions": (changed(versions={"torch": 2}), "'versions'"),
    "odd schema": (changed(schema=torch.zeros(40, 40)), "'schema'"),
    "odd format": (changed(format=torch.zeros(40, 40)), "written by another program"),
    "no config": (changed(config=None), "'config'"),
    "odd config": (changed(config=[1, 2]), "'config'"),
    "config of numbers": (changed(config={1: 2}), "'config'"),
    "no step": (changed(step=None), "'step'"),
    "odd step": (changed(step="many"), "'step'"),
    "negative step": (changed(step=-1), "'step'"),
    "odd name": (changed(name=7), "'name'"),
    "no weights": (changed(weights=None), "'weights'"),
    "odd weights": (changed(weights={"a": "b"}), "'weights'"),
    "odd training": (changed(training=[1]), "'training'"),
}
"""What cannot be read."""

MISFITS: dict[str, tuple[Writer, str]] = {
    "wrong config": (changed(config={"total_stepz": 3}), "'total_stepz'"),
    "no such environment": (changed(config={"env": {"id": "CartPole-v7"}}), "CartPole-v7"),
    "fewer weights": (changed(weights={}), "missing in the file"),
    "other weights": (changed(weights=_ONE_WEIGHT), "[1] in the file"),
    "more weights": (lambda bad, good: _more_weights(bad, good), "absent in the network"),
    "complex weights": (lambda bad, good: _cast_weights(bad, good, dtype=torch.complex64), "complex64"),
    "weights without values": (lambda bad, good: _cast_weights(bad, good, device="meta"), "without values"),
    "sparse weights": (lambda bad, good: _sparse_weights(bad, good), "without values"),
    "weights that share their memory": (lambda bad, good: _shared_weights(bad, good), "share memory"),
    "nested weights": (lambda bad, good: _nested_weights(bad, good), "without values"),
    "more layers than anyone has": (changed(config={"network": {"torso": {"hidden": [1] * 3_000}}}), "at most 100"),
    "a layer of any width": (changed(config={"network": {"torso": {"hidden": [10**12]}}}), "1000000"),
    "words for a terminal": (changed(config={"env": {"id": "\x1b[31mred\nline"}}), "printable"),
    "a recorder of videos": (changed(config={"env": {"wrappers": ["RecordVideo"]}}), "add --trust"),
    "a window": (changed(config={"env": {"kwargs": {"render_mode": "human"}}}), "add --trust"),
    "one value for all weights": (lambda bad, good: _repeated_weights(bad, good), "without values"),
    "a network larger than any machine": (lambda bad, good: _enormous(bad, good), "without values"),
    "weights that are no numbers": (lambda bad, good: _poisoned_weights(bad, good), "had diverged"),
    "a module to import": (changed(config={"env": {"id": "dqn_trap:Trap-v0"}}), "add --trust"),
    "a wrapper to import": (changed(config={"env": {"wrappers": ["dqn_trap:Trap"]}}), "add --trust"),
}
"""What can be read and is wrong."""


def _more_weights(bad: Path, good: Path) -> None:
    weights = torch.load(good, weights_only=True)["weights"]
    changed(weights=weights | {"another": torch.zeros(1)})(bad, good)


def _cast_weights(bad: Path, good: Path, **cast: Any) -> None:
    weights = torch.load(good, weights_only=True)["weights"]
    changed(weights={name: tensor.to(**cast) for name, tensor in weights.items()})(bad, good)


def _packed(bad: Path, good: Path) -> None:
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))


def _bomb(bad: Path, good: Path) -> None:
    values: Any = [1] * 10
    for _ in range(12):
        values = [values] * 10
    changed(config={"env": {"kwargs": {"a": values}}})(bad, good)


def _deep(bad: Path, good: Path) -> None:
    values: Any = 1
    for _ in range(200):
        values = [values]
    changed(config={"env": {"kwargs": {"a": values}}})(bad, good)


def _shared_weights(bad: Path, good: Path) -> None:
    weights = torch.load(good, weights_only=True)["weights"]
    memory = torch.zeros(max(tensor.numel() for tensor in weights.values()))
    shared = {name: memory[: tensor.numel()].view(tensor.shape) for name, tensor in weights.items()}
    changed(weights=shared)(bad, good)


def _nested_weights(bad: Path, good: Path) -> None:
    weights = torch.load(good, weights_only=True)["weights"]
    name = next(iter(weights))
    changed(weights=weights | {name: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)})(
        bad, good
    )


def _repeated_weights(bad: Path, good: Path) -> None:
    weights = torch.load(good, weights_only=True)["weights"]
    changed(weights={name: torch.zeros(1).expand(tensor.shape) for name, tensor in weights.items()})(bad, good)


def _enormous(bad: Path, good: Path) -> None:
    """Describes 10^12 weights in a file of some kilobytes."""
    content = torch.load(good, weights_only=True)
    config = content["config"] | {"network": {"torso": {"kind": "mlp", "hidden": [1_000_000, 1_000_000]}}}
    shapes = {
        "torso.layers.0.weight": (1_000_000, 4),
        "torso.layers.0.bias": (1_000_000,),
        "torso.layers.2.weight": (1_000_000, 1_000_000),
        "torso.layers.2.bias": (1_000_000,),
        "head.streams.out.weight": (2, 1_000_000),
        "head.streams.out.bias": (2,),
    }
    weights = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    changed(config=config, weights=weights)(bad, good)


def _poisoned_weights(bad: Path, good: Path) -> None:
    weights = torch.load(good, weights_only=True)["weights"]
    next(iter(weights.values())).view(-1)[3] = float("nan")
    changed(weights=weights)(bad, good)


def _sparse_weights(bad: Path, good: Path) -> None:
    weights = torch.load(good, weights_only=True)["weights"]
    changed(weights={name: tensor.to_sparse() for name, tensor in weights.items()})(bad, good)
