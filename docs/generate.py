"""Writes the generated parts of README.md: the help of every command and the table of presets.

``python docs/generate.py`` rewrites what stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``;
with ``--check`` it changes nothing and fails where the page is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "dqn"
WIDTH = 100
END = "<!-- end -->"
_START = re.compile(r"^<!-- generated: (?P<name>[\w-]+) -->$", re.MULTILINE)

Command = Any
"""A command or a group as ``get_command`` returns it: Typer gives its base class no public name."""


class GenerateError(Exception):
    """The page cannot be generated; the message says where and what to do."""


def command_pages(command: Command, name: str, parent: typer.Context | None = None) -> Iterator[tuple[str, str]]:
    """Yields ``(command path, help)`` for a command and all its visible subcommands, in help order.

    Args:
        command: The command, or group of commands.
        name: What the user types for it.
        parent: Context of the group that holds it.

    Raises:
        GenerateError: The command renders its own help (rich markup) and leaves no plain text.
    """
    # The width is set here and not taken from the terminal, so that everyone generates the same page.
    settings = {**command.context_settings, "terminal_width": WIDTH, "color": False}
    context = typer.Context(command, info_name=name, parent=parent, **settings)
    if getattr(command, "rich_markup_mode", None) is not None:
        raise GenerateError(
            f"command '{context.command_path}': help is drawn by rich; build it with rich_markup_mode=None"
        )
    yield context.command_path, command.get_help(context)
    for child_name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from command_pages(child, child_name, context)


def help_section(app: typer.Typer, program: str = PROGRAM) -> str:
    """Returns Markdown with the ``--help`` of every command of ``app``."""
    pages = command_pages(get_command(app), program)
    return "\n\n".join(f"### `{path}`\n\n```text\n{_plain(text)}\n```" for path, text in pages)


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def presets_section(configs: Path) -> str:
    """Returns a Markdown table of the presets: name, and the first comment line of the file.

    Raises:
        GenerateError: A file does not begin with a comment.
    """
    rows = ["| preset | what it is |", "|---|---|"]
    files = sorted(configs.rglob("*.yaml"), key=lambda file: file.relative_to(configs).as_posix())
    for file in files:
        name = file.relative_to(configs).with_suffix("").as_posix()
        first_line = next(iter(file.read_text(encoding="utf-8").splitlines()), "")
        description = first_line.removeprefix("#").strip()
        if not first_line.startswith("#") or not description:
            raise GenerateError(
                f"{file}: the first line is {first_line!r}; make it a comment that says what the preset is"
            )
        rows.append(f"| `{name}` | {description.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def fill(page: str, sections: Mapping[str, str]) -> str:
    """Returns ``page`` with each section between its markers.

    Raises:
        GenerateError: A section has no markers or has them twice; a marker is unknown or never closed.
    """
    found = [match["name"] for match in _START.finditer(page)]
    for name in sections:
        if found.count(name) != 1:
            raise GenerateError(f"marker '<!-- generated: {name} -->' occurs {found.count(name)} times; it must once")
    filled, position = [], 0
    for match in _START.finditer(page):
        name = match["name"]
        if name not in sections:
            raise GenerateError(f"marker '<!-- generated: {name} -->' is unknown; use one of {sorted(sections)}")
        end = page.find(f"\n{END}", match.end())
        following = _START.search(page, match.end())
        if end == -1 or (following is not None and following.start() < end):
            raise GenerateError(f"marker '<!-- generated: {name} -->' is never closed; add a line '{END}'")
        filled += [page[position : match.end()], f"\n\n{sections[name]}\n"]
        position = end
    return "".join([*filled, page[position:]])


def first_difference(current: str, expected: str) -> str:
    """Returns, in one line, the first line of ``current`` that is not as in ``expected``."""
    lines = zip_longest(current.splitlines(), expected.splitlines(), fillvalue="")
    for number, (have, want) in enumerate(lines, start=1):
        if have != want:
            return f"line {number} is '{have}', should be '{want}'"
    return "line ends or the end of the file differ"


def program_app() -> typer.Typer:
    """Returns the application of ``dqn``; imported here, so that another one is documented without it."""
    from dqn_cli.cli.main import app

    return app


def main(arguments: Sequence[str] | None = None, app: typer.Typer | None = None) -> int:
    """Runs the script and returns its exit code.

    Args:
        arguments: Command line; ``sys.argv`` where None.
        app: The application to document; that of ``dqn`` where None.
    """
    parser = argparse.ArgumentParser(description="Write the generated parts of README.md.")
    parser.add_argument("--check", action="store_true", help="change nothing, fail if the page is out of date")
    parser.add_argument("--page", type=Path, default=ROOT / "README.md", help="page with the markers")
    parser.add_argument("--configs", type=Path, default=ROOT / "configs", help="folder of the presets")
    options = parser.parse_args(arguments)
    current = options.page.read_text(encoding="utf-8")
    try:
        sections = {
            "help": help_section(program_app() if app is None else app),
            "presets": presets_section(options.configs),
        }
        expected = fill(current, sections)
    except GenerateError as error:
        print(f"{options.page}: {error}", file=sys.stderr)
        return 1
    if current == expected:
        return 0
    if options.check:
        difference = first_difference(current, expected)
        print(f"{options.page}: out of date, {difference}; run 'make fmt'", file=sys.stderr)
        return 1
    options.page.write_text(expected, encoding="utf-8")
    print(f"{options.page}: written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
