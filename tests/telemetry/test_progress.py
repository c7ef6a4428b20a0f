"""The plain and the silent display, and the choice among the three."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from dqn_cli.telemetry.live import LiveProgress
from dqn_cli.telemetry.progress import PlainProgress, SilentProgress, progress_display
from tests.telemetry.streams import Terminal, snapshot


def plain_steps(total: int, steps: range) -> list[str]:
    stream = io.StringIO()
    with PlainProgress(total, stream) as display:
        for step in steps:
            display.update(snapshot(step))
    return [line.split()[1].split("/")[0] for line in stream.getvalue().splitlines()]


def test_plain_lines_come_each_five_percent_and_at_the_end() -> None:
    # Vector steps of 8 never hit the marks exactly: the first step at or beyond a mark has the line.
    lines = plain_steps(1000, range(8, 1001, 8))
    assert lines == ["8", "56", "104", "152", *(f"{-(-mark // 8) * 8:,}" for mark in range(200, 1001, 50))]


def test_plain_lines_of_a_long_run_come_each_hundred_thousand_steps() -> None:
    assert plain_steps(50_000_000, range(40_000_000, 40_300_001, 20_000)) == [
        "40,000,000",
        "40,100,000",
        "40,200,000",
        "40,300,000",
    ]


def test_plain_shows_the_last_state_of_a_run_that_stops_early() -> None:
    assert plain_steps(1000, range(8, 75, 8)) == ["8", "56", "72"]


def test_plain_runs_shorter_than_twenty_steps() -> None:
    assert plain_steps(3, range(1, 4)) == ["1", "2", "3"]


def test_a_plain_line_has_every_fact_and_no_escapes() -> None:
    stream = io.StringIO()
    with PlainProgress(50_000, stream) as display:
        display.message("evaluation: [bold]475[/bold]")
        display.update(snapshot(2_500))
        display.update(snapshot(50_000, episodes=37, return_mean=None, loss=None, q_mean=None))
    assert stream.getvalue().splitlines() == [
        "evaluation: [bold]475[/bold]",
        "step 2,500/50,000 (5%)  return 312.4 (last 100)  episodes 214  epsilon 0.050  loss 0.0123  q 42.10"
        "  1,234 steps/s  0:00:38 left",
        "step 50,000/50,000 (100%)  return -  episodes 37  epsilon 0.050  loss -  q -  1,234 steps/s  done",
    ]


def test_the_window_of_the_return_is_the_true_number_of_episodes() -> None:
    stream = io.StringIO()
    PlainProgress(1000, stream).update(snapshot(1, episodes=37))
    assert "return 312.4 (last 37)" in stream.getvalue()


def test_a_pipe_that_is_full_for_a_moment_loses_that_line_only() -> None:
    class Slow(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return super().write(text)

    stream = Slow()
    display = PlainProgress(1000, stream)
    display.message("lost")
    stream.full = False
    display.message("seen")
    assert stream.getvalue() == "seen\n"


def test_a_closed_stream_does_not_stop_the_run() -> None:
    stream = io.StringIO()
    stream.close()
    with PlainProgress(1000, stream) as display:
        display.update(snapshot(1))


def test_the_display_fits_its_stream(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress_display(10, False, terminal), LiveProgress)
    assert isinstance(progress_display(10, True, terminal), SilentProgress)
    assert isinstance(progress_display(10, False, io.StringIO()), PlainProgress)
    for name in ("dumb", ""):
        monkeypatch.setenv("TERM", name)
        assert isinstance(progress_display(10, False, terminal), PlainProgress)


def test_the_default_is_stderr_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display(10, False) as display:
        display.message("hello")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display(10, True) as display:
        display.update(snapshot(10))
        display.message("hello")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_run_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="total_steps is 0"):
        progress_display(0, False)


def test_importing_progress_does_not_import_rich() -> None:
    program = "import sys, dqn_cli.telemetry.progress; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
