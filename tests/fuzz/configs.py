"""Mutates configs of the presets, and sees what the command line makes of them.

    python -m tests.fuzz.configs --cases 10000

Bytes of a file, values anywhere inside of it, or an override: each is refused in readable lines, or it is a config,
which is written and read again as the same options, and whose plan is made or refused in one line.
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dqn_cli.cli.options import presets_folder
from dqn_cli.config.load import list_presets, load_config
from dqn_cli.config.write import dump_config
from dqn_cli.core.errors import DqnError, UsageError
from dqn_cli.plan import make_plan
from dqn_cli.schema import RunOptions
from tests.fuzz.files import WrongError, mutated_bytes

LIMIT_SECONDS = 60
MOST_CHARACTERS = 1_000
"""Of a line that a person shall read."""

STRANGER = "dqn_fuzz_stranger"
"""A module that nothing may import while a config is read."""

PIECES = (
    "&a ", "*a", "<<: ", "? ", ": ", "- ", "\n", "  ", "\t", "[", "]", "{", "}", "'", '"', "\\x", "%", "|", ">", "---",
    "...", "!!int ", "1e999", "0x" + "f" * 300, "null", "kind", "\0", "\x85", "é", "#", "9" * 4_000, "[" * 200,
    f"!!python/object/apply:os.system ['touch {STRANGER}']", f"!!python/name:{STRANGER}.run ",
)  # fmt: skip

HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 7, 0.5, 1e-300, 1e308, 10**30, -(10**30), 10**4_000, float("nan"), float("inf"), "",
    "auto", "x" * 5_000, "../../x", "\x1b[31mred", "a\nb", "\u202e", f"{STRANGER}:Env-v0", [], [[]], [1] * 1_000,
    [None], {}, {"kind": "mlp"}, {"kind": "double"}, {"kind": "prioritized"}, {"kind": "x" * 5_000}, {"kind": [1]},
    {"a": 1}, {"x" * 5_000: 1}, {"a.b": {"c": []}},
)  # fmt: skip

_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "os.fork")
_watched: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _FORBIDDEN or (event == "import" and arguments[0] == STRANGER):
        _watched.append(f"{event} {arguments}"[:200])


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Returns the path of every key and index of nested mappings and lists."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutate(content: dict[str, Any], rng: random.Random) -> None:
    """Changes, deletes, moves or adds a value anywhere."""
    *way, key = rng.choice(list(places(content)))
    around: Any = content
    for step in way:
        around = around[step]
    match rng.randrange(8):
        case 0:
            del around[key]
        case 1 if isinstance(around, dict):
            around[rng.choice(["x", "kind", "extends", str(key)[:-1], 7, None])] = around[key]
        case 2 | 3 | 4 if isinstance(around[key], int | float) and around[key]:
            around[key] = around[key] * rng.choice([-1, 0, 0.5, 3, 1e-9, 10**9])
        case _:
            around[key] = copy.deepcopy(rng.choice(HOSTILE))


def mutated_case(presets: list[str], folder: Path, rng: random.Random) -> tuple[str, list[str]]:
    """Returns what to call the config, and overrides."""
    preset = rng.choice(presets)
    kind = rng.randrange(3)
    whole = load_config(preset, [], RunOptions, presets_folder())
    if kind == 0:
        data = (presets_folder() / f"{preset}.yaml").read_bytes()
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.6:
                at = rng.randrange(len(data) + 1)
                data = data[:at] + rng.choice(PIECES).encode() + data[at:]
            else:
                data = mutated_bytes(data, rng)
    else:
        content = yaml.safe_load(dump_config(whole.options))
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            if kind == 2:
                break
            mutate(content, rng)
        data = yaml.dump(content).encode()
    if kind == 2:
        path = ".".join(str(key) for key in rng.choice(list(places(whole.options.model_dump()))))
        value = rng.choice([*PIECES, *(yaml.dump(value, default_flow_style=True).strip() for value in HOSTILE)])
        return preset, [f"{path}={value}"]
    file = folder / "case.yaml"
    file.write_bytes(data)
    return str(file), []


def run_case(presets: list[str], folder: Path, rng: random.Random) -> str:
    """Returns what became of one mutated config."""
    name, overrides = mutated_case(presets, folder, rng)
    _watched.clear()
    try:
        loaded = load_config(name, overrides, RunOptions, presets_folder())
    except UsageError as failure:
        readable(failure)
        return "refused"
    finally:
        if _watched or (folder / STRANGER).exists():
            raise WrongError(f"to read it ran something: {_watched}")
    again = folder / "again.yaml"
    again.write_text(dump_config(loaded.options))
    if load_config(str(again), [], RunOptions, presets_folder()).options != loaded.options:
        raise WrongError("written and read again, it is another config")
    if STRANGER in again.read_text():  # a plan makes the environment, whose module is the config's to name
        return "names a module"
    try:
        plan = make_plan(loaded.options)
    except DqnError as failure:
        readable(failure)
        return "no plan"
    readable(UsageError(plan.text(folder).replace("\n", "; ")))
    return "planned"


def readable(failure: DqnError) -> None:
    """Raises `WrongError` unless a failure is told as it should be."""
    text = str(failure)
    first, *others = text.split("\n")
    wrong = [line for line in (first, *others) if len(line) > MOST_CHARACTERS or not line.isprintable()]
    if wrong or "Traceback" in text or (others and "problem" not in first):
        raise WrongError(f"not readable, {len(text)} characters: {text[:300]!r} ... {text[-200:]!r}")


def run_cases(cases: int, seed: int, folder: Path) -> Counter[str]:
    """Runs cases under a watchdog, which ends the process with its stack where one hangs."""
    presets, counts = list_presets(presets_folder()), Counter[str]()
    sys.addaudithook(_watch)
    (folder / f"{STRANGER}.py").write_text("raise SystemExit('a stranger was imported')\n")
    before = Path.cwd()
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    try:
        for number in range(cases):
            faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
            try:
                counts[run_case(presets, folder, random.Random(f"{seed} {number}"))] += 1
            except BaseException as failure:
                raise WrongError(f"seed {seed}, case {number}: {failure!r}") from failure
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.chdir(before)
        sys.path.remove(str(folder))
    return counts


def main() -> None:
    """Runs many cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        print(dict(run_cases(options.cases, options.seed, Path(folder))))


if __name__ == "__main__":
    main()
