"""Mutates the files of a run, and sees what a resume makes of them.

    python -m tests.fuzz.files --cases 10000

Two kinds of mutation: bytes of a checkpoint, manifest or segment beside an untouched manifest, which must be noticed;
and values inside of them with fingerprints and seal made anew, which must be refused in one line or do no harm.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dqn_cli.core.errors import DqnError, UsageError
from dqn_cli.core.files import fingerprint
from dqn_cli.keeper import RunKeeper
from dqn_cli.resume import resume
from dqn_cli.run import train
from dqn_cli.training.generations import _seal, newest_whole
from tests.small_runs import SMALL, small_plan

LIMIT_SECONDS = 60
SIZES = ("checkpoint={every_steps: 200, keep: 1}", "total_steps=400", "replay.sampler={kind: prioritized}")


class WrongError(Exception):
    """A mutated file was accepted, or made something else than one line."""


def make_run(folder: Path) -> Path:
    """Trains a small run and returns its folder, half-way: its last generation is that of its last but one save."""
    run = folder / "run"
    train(small_plan(*SMALL, *SIZES, "checkpoint.keep=9"), "cartpole", run, quiet=True)
    for generation in (run / "checkpoints").iterdir():
        if generation.name != "000000200":
            shutil.rmtree(generation)
    needed = newest_whole(run, print)
    assert needed is not None
    for path in (run / "replay").iterdir():
        if path.name not in needed.segments:
            path.unlink()
    return run


def copy_of(run: Path, place: Path) -> Path:
    """Returns a copy of a run in which each file may be replaced."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run, place)
    return place


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Returns other bytes."""
    place, length = rng.randrange(max(1, len(data))), rng.randint(1, 64)
    match rng.randrange(7):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :] if data else b"x"
        case 2:
            return data + rng.randbytes(length)
        case 3:
            return data[:place] + rng.randbytes(length) + data[place:]
        case 4:
            return data[:place] + data[place + length :]
        case 5:
            return data[:place] + bytes(length) + data[place + length :]
        case _:
            other = rng.randrange(max(1, len(data)))
            return data[:place] + data[other : other + length] + data[place + length :]


HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, float("nan"), "", "x" * 10_000, "../../x", [], {}, [[]], {"a": 1},
    torch.zeros(0), torch.zeros(3), torch.full((2, 2), float("nan")), torch.zeros(1).expand(10**6),
    torch.ones(4, dtype=torch.int64),
)  # fmt: skip


def mutate_value(content: Any, rng: random.Random) -> None:
    """Changes one value somewhere inside of nested dicts and lists, in place."""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            return
        key = rng.choice(keys)
        inner = content[key]
        if isinstance(inner, dict | list) and len(inner) and rng.random() < 0.85:
            content = inner
            continue
        if isinstance(inner, torch.Tensor) and rng.random() < 0.5:
            with contextlib.suppress(RuntimeError):  # it was mutated already, and is sparse
                content[key] = rng.choice(
                    [
                        inner.reshape(-1, *inner.shape[1:])[:0],
                        inner.double(),
                        -inner.float(),
                        inner.flatten(),
                        inner.to_sparse(),
                    ]
                )
        elif isinstance(content, dict) and rng.random() < 0.3:
            del content[key]
        else:
            content[key] = rng.choice(HOSTILE)
        return


def files_of(run: Path) -> list[Path]:
    """Returns the files of the generation."""
    (generation,) = (run / "checkpoints").iterdir()
    return [*sorted(generation.iterdir()), *sorted((run / "replay").iterdir())]


def _content(manifest: bytes) -> str | None:
    """Returns what a manifest says, in one form whatever its spaces are; None where it is no JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.dumps(json.loads(manifest), sort_keys=True)
    return None


def bytes_case(run: Path, place: Path, rng: random.Random) -> str:
    """Mutates bytes; the generation must not be taken for whole."""
    copy = copy_of(run, place)
    path = rng.choice(files_of(copy))
    before = path.read_bytes()
    after = mutated_bytes(before, rng)
    if after == before:
        return "equal"
    if path.name == "manifest.json" and _content(after) == _content(before):
        return "says the same"  # other spaces between its words
    path.write_bytes(after)
    try:
        found = newest_whole(copy, lambda _: None)
    except UsageError as failure:
        one_line(failure)
        return "refused"
    raise WrongError(f"{path.name} was changed, and {found} accepted")


def values_case(run: Path, place: Path, rng: random.Random) -> str:
    """Mutates values, and makes fingerprints and seal fit."""
    copy = copy_of(run, place)
    (generation,) = (copy / "checkpoints").iterdir()
    manifest_path = generation / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    del manifest["seal"]
    files = files_of(copy)
    path = rng.choice(files)
    if path == manifest_path:
        mutate_value(manifest, random.Random(rng.random()))
    else:
        content = torch.load(path, weights_only=True)
        for _ in range(rng.randint(1, 3)):
            mutate_value(content, rng)
        torch.save(content, path)
        written = fingerprint(path)
        entry = manifest["checkpoint"] if path.parent == generation else manifest["segments"][path.name]
        entry |= {"size": written.size, "sha256": written.sha256}
    try:
        manifest_path.write_text(json.dumps(manifest | {"seal": _seal(manifest)}))
    except (TypeError, ValueError, OverflowError):  # a tensor: no JSON says that
        return "equal"
    try:
        outcome = resume(copy, lambda _: None, quiet=True)
    except DqnError as failure:
        one_line(failure)
        return "refused"
    return f"accepted: {outcome.reason}"[:9]


def one_line(failure: DqnError) -> None:
    """Raises `WrongError` unless a failure is told as it should be."""
    problems = str(failure).split("\n")
    if "Traceback" in str(failure) or (len(problems) > 1 and "problem" not in problems[0]):
        raise WrongError(f"not one line: {failure}")


def run_cases(kind: Callable[[Path, Path, random.Random], str], cases: int, seed: int, folder: Path) -> Counter[str]:
    """Runs cases under a watchdog, which ends the process with its stack where one hangs."""
    run, counts = make_run(folder), Counter[str]()
    follow = RunKeeper.follow
    RunKeeper.follow = lambda _: "fuzz"  # type: ignore[method-assign, assignment]
    try:
        for number in range(cases):
            faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
            try:
                counts[kind(run, folder / "case", random.Random(f"{seed} {number}"))] += 1
            except Exception as failure:
                raise WrongError(f"{kind.__name__}, seed {seed}, case {number}: {failure!r}") from failure
    finally:
        faulthandler.cancel_dump_traceback_later()
        RunKeeper.follow = follow  # type: ignore[method-assign]
    return counts


def main() -> None:
    """Runs many cases of both kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for kind in (bytes_case, values_case):
        with tempfile.TemporaryDirectory() as folder:
            print(kind.__name__, dict(run_cases(kind, options.cases, options.seed, Path(folder))), flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
