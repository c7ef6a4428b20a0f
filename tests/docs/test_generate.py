"""The script that writes the generated parts of README.md, on a toy application and a toy page."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import typer

PAGE = """# Toy

<!-- generated: presets -->
stale table
<!-- end -->

Prose between the blocks.

<!-- generated: help -->
stale help
<!-- end -->

The last line.
"""


def load_script() -> ModuleType:
    path = Path(__file__).parents[2] / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_script()


def toy_app(markup=None) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=markup, add_completion=False)
    config = typer.Typer(rich_markup_mode=markup, help="Look at configs.")
    app.add_typer(config, name="config")

    @app.command()
    def train(seed: int = typer.Option(0, help="Seed of the run. " + "Many words follow here. " * 8)) -> None:
        """Train an agent.

        \b
        An example line that ends in blanks:   \n
        dqn train cartpole
        """

    @app.command(hidden=True)
    def secret() -> None:
        """Not for the page."""

    @config.command("list")
    def list_presets() -> None:
        """List the presets."""

    return app


@pytest.fixture
def site(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(PAGE)
    configs = tmp_path / "configs"
    (configs / "atari").mkdir(parents=True)
    (configs / "cartpole.yaml").write_text("# CartPole with DQN | a minute\n# more\nseed: 0\n")
    (configs / "atari" / "rainbow.yaml").write_text("# Rainbow on Atari\nseed: 0\n")
    return page, ["--page", str(page), "--configs", str(configs)]


def block(page: Path, name: str) -> str:
    return page.read_text().split(f"<!-- generated: {name} -->\n")[1].split("<!-- end -->")[0]


def test_help_of_every_visible_command_is_written_under_its_full_path(site):
    page, arguments = site
    assert generate.main(arguments, toy_app()) == 0
    text = block(page, "help")
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert headings == ["### `dqn`", "### `dqn train`", "### `dqn config`", "### `dqn config list`"]
    assert "Usage: dqn config list [OPTIONS]" in text
    assert "secret" not in text
    assert "stale" not in page.read_text()


def test_an_application_of_one_command_has_one_page(site):
    page, arguments = site
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command()
    def only() -> None:
        """Do the one thing."""

    assert generate.main(arguments, app) == 0
    assert block(page, "help").count("### `dqn`") == 1
    assert "Do the one thing." in block(page, "help")


@pytest.mark.parametrize("columns", ["40", "200"])
def test_help_has_the_same_width_in_every_terminal_and_no_colour(site, monkeypatch, columns):
    page, arguments = site
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert generate.main(arguments, toy_app()) == 0
    text = block(page, "help")
    assert 90 < max(len(line) for line in text.splitlines()) <= 100
    assert "\x1b" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_presets_are_named_by_path_and_described_by_their_first_comment(site):
    page, arguments = site
    assert generate.main(arguments, toy_app()) == 0
    assert block(page, "presets").strip().splitlines() == [
        "| preset | what it is |",
        "|---|---|",
        "| `atari/rainbow` | Rainbow on Atari |",
        "| `cartpole` | CartPole with DQN \\| a minute |",
    ]


def test_what_stands_outside_the_markers_stays(site):
    page, arguments = site
    assert generate.main(arguments, toy_app()) == 0
    text = page.read_text()
    assert text.startswith("# Toy\n\n<!-- generated: presets -->\n")
    assert "<!-- end -->\n\nProse between the blocks.\n\n<!-- generated: help -->\n" in text
    assert text.endswith("<!-- end -->\n\nThe last line.\n")


def test_check_passes_on_a_fresh_page_and_changes_nothing(site, capsys):
    page, arguments = site
    assert generate.main(arguments, toy_app()) == 0
    written = page.read_text()
    capsys.readouterr()
    assert generate.main(["--check", *arguments], toy_app()) == 0
    assert page.read_text() == written
    assert capsys.readouterr() == ("", "")


def test_check_fails_with_one_line_on_a_stale_page_and_does_not_write(site, capsys):
    page, arguments = site
    assert generate.main(["--check", *arguments], toy_app()) == 1
    assert page.read_text() == PAGE
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "line 4 is 'stale table', should be ''; run 'make fmt'" in message


def test_check_names_the_line_that_a_new_option_changed(site, capsys):
    page, arguments = site
    assert generate.main(arguments, toy_app()) == 0
    page.write_text(page.read_text().replace("Train an agent.", "Train a model.", 1))
    number = next(n for n, line in enumerate(page.read_text().splitlines(), 1) if "Train a model." in line)
    assert generate.main(["--check", *arguments], toy_app()) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"line {number} is '  train   Train a model.', should be '  train   Train an agent.'" in message


@pytest.mark.parametrize(
    ("page_text", "message"),
    [
        (PAGE.replace("<!-- generated: help -->\n", ""), "'<!-- generated: help -->' occurs 0 times"),
        (PAGE + "<!-- generated: help -->\n<!-- end -->\n", "'<!-- generated: help -->' occurs 2 times"),
        (PAGE + "<!-- generated: hepl -->\n<!-- end -->\n", "'<!-- generated: hepl -->' is unknown"),
        (
            PAGE.replace("stale table\n<!-- end -->", "stale table"),
            "'<!-- generated: presets -->' is never closed",
        ),
        (PAGE[: PAGE.rindex("<!-- end -->")], "'<!-- generated: help -->' is never closed"),
    ],
)
def test_wrong_markers_are_named_and_the_page_stays(site, capsys, page_text, message):
    page, arguments = site
    page.write_text(page_text)
    assert generate.main(arguments, toy_app()) == 1
    assert message in capsys.readouterr().err
    assert page.read_text() == page_text


@pytest.mark.parametrize("text", ["seed: 0\n", "", "#\nseed: 0\n"])
def test_a_preset_without_a_first_comment_is_named(site, capsys, text):
    page, arguments = site
    (page.parent / "configs" / "bare.yaml").write_text(text)
    assert generate.main(arguments, toy_app()) == 1
    assert "bare.yaml: the first line is" in capsys.readouterr().err


def test_an_application_that_draws_its_help_with_rich_is_refused(site, capsys):
    page, arguments = site
    assert generate.main(arguments, toy_app(markup="rich")) == 1
    assert "rich_markup_mode=None" in capsys.readouterr().err
    assert page.read_text() == PAGE
