"""The JSON lines log: whole lines, valid JSON, cut back to a checkpoint, honest about a full disk."""

from __future__ import annotations

import json
import math
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dqn_cli.core.errors import RunError, UsageError
from dqn_cli.telemetry.append_file import AppendFile
from dqn_cli.telemetry.jsonl import JsonlLog, read_jsonl

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=6)


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    records: list[dict[str, Any]] = [
        {"step": 1, "loss": 0.5, "name": "é\n\u2028", "best": True},
        {"step": 2, "loss": None, "q": [1.5]},
    ]
    with JsonlLog(path) as log:
        for record in records:
            log.write(record)
    assert list(read_jsonl(path)) == records
    assert path.read_bytes().count(b"\n") == 2


@given(records=RECORDS, cut=st.integers(min_value=0))
def test_reader_sees_exactly_the_whole_lines_wherever_the_file_is_torn(tmp_path_factory, records, cut) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    ends = [0]
    with JsonlLog(path) as log:
        for record in records:
            log.write(record)
            ends.append(log.offset)
    data = path.read_bytes()
    assert ends[-1] == len(data)
    cut %= len(data) + 1
    path.write_bytes(data[:cut])
    whole = sum(end <= cut for end in ends) - 1
    assert list(read_jsonl(path)) == records[:whole]
    # A log opened on the torn file goes on after the last whole line.
    with JsonlLog(path) as log:
        assert log.offset == ends[whole]
        log.write({"after": "crash"})
    assert list(read_jsonl(path)) == [*records[:whole], {"after": "crash"}]


def test_a_torn_tail_longer_than_one_read_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n' + b"x" * 200_000)
    with JsonlLog(path) as log:
        assert log.offset == 12
    assert path.read_bytes() == b'{"step": 1}\n'


def test_every_line_is_readable_by_others_at_once_without_flush(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JsonlLog(path) as log:
        log.write({"step": 1})
        assert list(read_jsonl(path)) == [{"step": 1}]


def test_a_killed_process_loses_no_written_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    program = f"""
        import os, pathlib, signal
        from dqn_cli.telemetry.jsonl import JsonlLog
        log = JsonlLog(pathlib.Path({str(path)!r}))
        for step in range(50):
            log.write({{"step": step}})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [record["step"] for record in read_jsonl(path)] == list(range(50))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), torch.tensor(math.inf)])
def test_numbers_that_are_not_finite_are_null_at_any_depth(tmp_path: Path, value) -> None:
    path = tmp_path / "log.jsonl"
    with JsonlLog(path) as log:
        log.write({"loss": value, "deep": {"list": [value, 1.0]}})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record == {"loss": None, "deep": {"list": [None, 1.0]}}


@pytest.mark.parametrize(
    ("value", "expected", "kind"),
    [
        (np.float32(0.5), 0.5, float),
        (np.float64(0.1), 0.1, float),
        (np.int64(2**40), 2**40, int),
        (np.uint8(255), 255, int),
        (np.bool_(True), True, bool),
        (np.array(3), 3, int),
        (torch.tensor(0.25), 0.25, float),
        (torch.tensor(7), 7, int),
        (torch.tensor(False), False, bool),
        (True, True, bool),
        ((1, 2), [1, 2], list),
    ],
)
def test_scalars_of_numpy_and_torch_become_json_numbers(tmp_path: Path, value, expected, kind) -> None:
    path = tmp_path / "log.jsonl"
    with JsonlLog(path) as log:
        log.write({"x": value})
    (record,) = read_jsonl(path)
    assert record["x"] == expected
    assert type(record["x"]) is kind


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"a": Path("x")}, r"record\['a'\] is a PosixPath"),
        ({"a": {"b": [0, np.zeros(2)]}}, r"record\['a'\]\['b'\]\[1\] is a ndarray"),
        ({"a": torch.zeros(1)}, r"record\['a'\] is a Tensor"),
        ({3: 1}, "record has the key 3"),
    ],
)
def test_what_has_no_json_form_is_refused_by_place_and_leaves_no_trace(tmp_path: Path, record, place) -> None:
    path = tmp_path / "log.jsonl"
    with JsonlLog(path) as log:
        with pytest.raises(TypeError, match=place):
            log.write(record)
        assert log.offset == 0
    assert path.read_bytes() == b""


def test_truncate_goes_back_to_a_checkpoint_and_the_rest_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JsonlLog(path) as log:
        log.write({"step": 1})
        offset = log.offset
        log.write({"step": 2, "run": "first"})
        log.flush()
    with JsonlLog(path) as resumed:
        resumed.truncate(offset)
        assert resumed.offset == offset
        resumed.write({"step": 2, "run": "second"})
        assert resumed.offset == path.stat().st_size
    assert list(read_jsonl(path)) == [{"step": 1}, {"step": 2, "run": "second"}]


@pytest.mark.parametrize("offset", [-1, 3, 11, 13, 1_000])
def test_truncate_refuses_an_offset_where_no_line_ends_and_keeps_the_file(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "log.jsonl"
    with JsonlLog(path) as log:
        log.write({"step": 1})
        with pytest.raises(RunError, match=rf"log\.jsonl' back to {offset} bytes"):
            log.truncate(offset)
    assert list(read_jsonl(path)) == [{"step": 1}]


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """A disk that is full once a file has ``limit`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_names_the_file_and_leaves_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with JsonlLog(path) as log:
        log.write({"step": 1})
        offset = log.offset
        with file_size_limit(offset + 5), pytest.raises(RunError, match=r"Cannot write '.*log\.jsonl'"):
            log.write({"step": 2})  # five of its bytes still fit
        assert log.offset == offset == path.stat().st_size
        log.write({"step": 3})
    assert list(read_jsonl(path)) == [{"step": 1}, {"step": 3}]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_no_space_left_is_said_in_words() -> None:
    with AppendFile(Path("/dev/full")) as file, pytest.raises(RunError, match="No space left on device"):
        file.write(b"x")


def test_a_log_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Cannot open '.*missing/log\.jsonl': No such file"):
        JsonlLog(tmp_path / "missing" / "log.jsonl")


def test_a_closed_log_takes_nothing_more(tmp_path: Path) -> None:
    log = JsonlLog(tmp_path / "log.jsonl")
    log.close()
    log.close()
    with pytest.raises(ValueError, match=r"log\.jsonl' is closed"):
        log.write({"step": 1})
    with pytest.raises(ValueError, match=r"log\.jsonl' is closed"):
        log.flush()
    with pytest.raises(ValueError, match=r"log\.jsonl' is closed"):
        log.truncate(0)


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": \n{"step": 3}\n')
    records = read_jsonl(path)
    assert next(records) == {"step": 1}
    with pytest.raises(UsageError, match=r"log\.jsonl' line 2 is not JSON"):
        next(records)


@pytest.mark.parametrize("line", [b"[1, 2]\n", b"\xff\xfe\n"])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n" + line)
    with pytest.raises(UsageError, match="line 2 is not"):
        list(read_jsonl(path))


def test_a_missing_log_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read '.*none\.jsonl': No such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))
