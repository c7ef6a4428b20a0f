"""The live display, on a real (pseudo-)terminal where the terminal matters."""

from __future__ import annotations

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import textwrap
from fcntl import ioctl
from pathlib import Path

import pytest
from rich.cells import cell_len

from dqn_cli.telemetry.live import LiveProgress
from dqn_cli.telemetry.progress import PlainProgress
from tests.telemetry.streams import Clock, Gone, Terminal, snapshot

ERASE_LINE = "\x1b[2K"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def visible(written: str) -> str:
    """What is seen of a first frame: the text without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).replace("\r", "")


def test_live_draws_nothing_before_the_first_update(terminal: Terminal) -> None:
    with LiveProgress(1000, terminal):
        pass
    assert terminal.getvalue() == ""


def test_live_redraws_at_most_four_times_a_second_and_ends_with_the_last_state(terminal: Terminal) -> None:
    clock = Clock()
    with LiveProgress(1000, terminal, clock) as display:
        for step in range(1, 101):
            display.update(snapshot(step))
            clock.now += 0.0625
        drawn = [step for step in range(1, 101) if f" {step}/1,000" in terminal.getvalue()]
    assert drawn == list(range(1, 101, 4))
    assert " 100/1,000" in terminal.getvalue()


def test_live_stays_stopped(terminal: Terminal) -> None:
    clock = Clock()
    display = LiveProgress(1000, terminal, clock)
    with display:
        display.update(snapshot(1))
    display.stop()
    before = terminal.getvalue()
    clock.now += 60.0
    display.update(snapshot(900))
    assert terminal.getvalue() == before
    assert before.count(HIDE) == 1
    assert before.rindex(SHOW) > before.rindex(HIDE)


def test_live_messages_are_taken_literally(terminal: Terminal) -> None:
    with LiveProgress(1000, terminal) as display:
        display.message("best [bold]so far[/bold] :smile:")
    assert terminal.getvalue() == "best [bold]so far[/bold] :smile:\n"


@pytest.mark.parametrize("width", [20, 30, 50, 60, 80, 120, 200])
@pytest.mark.parametrize("total", [50_000, 50_000_000])
def test_live_shows_every_fact_unbroken_at_any_width(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, width: int, total: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    display = LiveProgress(total, terminal, Clock())
    display.update(snapshot(total // 2))
    text = visible(terminal.getvalue())
    lines = text.splitlines()
    assert max(cell_len(line) for line in lines) <= width
    assert len(lines) <= 10
    expected = ["episodes 214", "epsilon 0.050", "loss 0.0123", "q 42.10", "1,234 steps/s", "left"]
    if width >= 30:
        expected += ["return 312.4 (last 100)", f"50%  {total // 2:,}/{total:,}"]
    for fact in expected:
        assert sum(fact in line for line in lines) == 1, fact
    assert ("━" in text) == (width >= 60 or (width == 50 and total == 50_000))
    display.stop()


def test_a_terminal_that_goes_away_does_not_stop_the_run(terminal: Terminal) -> None:
    for good in range(12):
        stream, clock = Gone(good), Clock()
        with LiveProgress(1000, stream, clock) as live, PlainProgress(1000, Gone(good)) as plain:
            for step in range(100, 600, 100):
                clock.now += 1
                for display in (live, plain):
                    display.update(snapshot(step))
                    display.message("evaluation")


PROGRAM = """
    import sys, time
    from dqn_cli.telemetry.progress import Snapshot, progress_display
    with progress_display(1000, quiet=False) as display:
        display.update(Snapshot(1, 0, None, 1.0, None, None, 0.0))
        display.message("an evaluation")
        print("a library warns", file=sys.stderr)
        print("data")
        sys.stdout.flush()
        {then}
"""


def on_terminal(then: str, *, interrupt: bool = False) -> tuple[int, str, str]:
    """Runs PROGRAM with stderr on a terminal of 60 columns and stdout in a pipe."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM).format(then=then)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**environment, "TERM": "xterm-256color"},
        cwd=Path(__file__).parents[2],
    )
    os.close(follower)
    assert process.stdout is not None
    out = process.stdout.readline().decode()  # the display is up
    if interrupt:
        process.send_signal(signal.SIGINT)
    written = b""
    while True:
        try:
            block = os.read(leader, 4096)
        except OSError:  # Linux says end of file of a terminal this way
            break
        if not block:
            break
        written += block
    os.close(leader)
    out += process.stdout.read().decode()
    process.stdout.close()
    return process.wait(), out, written.decode()


def test_stdout_is_left_to_data_and_stderr_of_others_stays_above_the_display() -> None:
    code, out, err = on_terminal("pass")
    assert (code, out) == (0, "data\n")
    assert "an evaluation\r\n" in err
    above, _, below = err.partition("a library warns\r\n")
    assert above.endswith(ERASE_LINE)  # it takes the place of the display, which is drawn again below
    assert "1/1,000" in below.split(ERASE_LINE)[0]


@pytest.mark.parametrize("then", ["time.sleep(60)", "raise SystemExit(7)"])
def test_the_cursor_comes_back_after_ctrl_c_and_after_an_error(then: str) -> None:
    code, _, err = on_terminal(then, interrupt="sleep" in then)
    assert code in (-signal.SIGINT, 7)
    assert HIDE in err
    assert err.rindex(SHOW) > err.rindex(HIDE)
    # The traceback begins on a line of its own, below the display.
    if code != 7:
        assert "\nTraceback" in err[err.rindex("0%") :].replace(SHOW, "")
