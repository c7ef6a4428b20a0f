"""TensorBoard events, read back by TensorBoard's own accumulator."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dqn_cli.core.errors import RunError
from dqn_cli.telemetry.tensorboard import TensorBoardLog


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_scalars_come_back_with_their_steps_before_flush(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path / "new" / "folder") as log:
        log.scalars(4, {"train/loss": 0.5, "train/epsilon": 1.0})
        log.scalars(2**40, {"train/loss": -0.25})
        assert curve(tmp_path / "new" / "folder", "train/loss") == [(4, 0.5), (2**40, -0.25)]
        assert curve(tmp_path / "new" / "folder", "train/epsilon") == [(4, 1.0)]


def test_values_that_are_not_finite_or_beyond_float32_are_kept_as_such(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path) as log:
        log.scalars(1, {"nan": math.nan, "inf": math.inf, "huge": -1e300})
    events = read(tmp_path)
    assert math.isnan(events.Scalars("nan")[0].value)
    assert events.Scalars("inf")[0].value == math.inf
    assert events.Scalars("huge")[0].value == -math.inf


def test_no_values_write_no_event(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path) as log:
        size = log.path.stat().st_size
        log.scalars(1, {})
        assert log.path.stat().st_size == size


def test_text_is_given_to_the_text_plugin(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path) as log:
        log.text("config", "# Pong\n\n| é | b |\n|-|-|")
    events = read(tmp_path)
    (event,) = events.Tensors("config")
    assert event.tensor_proto.string_val[0].decode() == "# Pong\n\n| é | b |\n|-|-|"
    assert events.SummaryMetadata("config").plugin_data.plugin_name == "text"


def test_a_resumed_run_replaces_what_lies_beyond_its_checkpoint(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path) as log:
        for step in (1, 2, 3, 4):
            log.scalars(step, {"train/loss": float(step)})
    with TensorBoardLog(tmp_path, resume_step=2) as log:
        assert curve(tmp_path, "train/loss") == [(1, 1.0), (2, 2.0)]
        log.scalars(3, {"train/loss": -3.0})
    assert curve(tmp_path, "train/loss") == [(1, 1.0), (2, 2.0), (3, -3.0)]


def test_a_name_is_never_used_twice(tmp_path: Path) -> None:
    """A TensorBoard that is running remembers how far it has read a file of that name."""
    with TensorBoardLog(tmp_path) as log:
        log.scalars(1, {"loss": 1.0})
        mark = log.path.name, log.offset
    with TensorBoardLog(tmp_path, 1, mark) as second:
        second.scalars(2, {"loss": 2.0})
    with TensorBoardLog(tmp_path, 1, mark) as third:
        third.scalars(2, {"loss": 3.0})
    assert len({log.path, second.path, third.path}) == 3
    assert not second.path.exists()
    assert curve(tmp_path, "loss") == [(1, 1.0), (2, 3.0)]


def test_files_are_read_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    for number in range(1, 13):  # past nine: names sort as text
        with TensorBoardLog(tmp_path) as log:
            log.scalars(number, {"x": float(number)})
    (tmp_path / "events.out.tfevents.1700000000.host.7.0.copy").write_bytes(b"")
    assert [step for step, _ in curve(tmp_path, "x")] == list(range(1, 13))


def test_a_torn_last_event_does_not_hide_the_others(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path) as log:
        log.scalars(1, {"x": 1.0})
        log.scalars(2, {"x": 2.0})
    log.path.write_bytes(log.path.read_bytes()[:-3])
    with TensorBoardLog(tmp_path, resume_step=1) as log:
        log.scalars(2, {"x": -2.0})
    assert curve(tmp_path, "x") == [(1, 1.0), (2, -2.0)]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Cannot write TensorBoard events to '.*file/events'"):
        TensorBoardLog(tmp_path / "file" / "events")


def test_close_may_be_called_twice_and_ends_writing(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path)
    log.flush()
    log.close()
    log.close()
    with pytest.raises(ValueError, match=r"tfevents.* is closed"):
        log.scalars(1, {"x": 1.0})


def test_writing_imports_neither_tensorflow_nor_torch_and_warns_of_nothing(tmp_path: Path) -> None:
    # A TensorFlow that is installed: importing it would cost seconds.
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit('tensorflow was imported')")
    program = f"""
        import pathlib, sys
        sys.path.insert(0, {str(tmp_path)!r})
        from dqn_cli.telemetry.tensorboard import TensorBoardLog
        with TensorBoardLog(pathlib.Path({str(tmp_path / "events")!r})) as log:
            log.scalars(1, {{"x": 1.0}})
            log.text("t", "text")
        assert "torch" not in sys.modules, "torch was imported"
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
