"""Manifests: what belongs to a checkpoint, and whether it is still what was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dqn_cli.core.errors import RunError, UsageError
from dqn_cli.core.files import fingerprint
from dqn_cli.training.generations import (
    Generation,
    _seal,
    check_whole,
    delete_generation,
    free_name,
    generation_folder,
    kept_generations,
    newest_whole,
    read_manifest,
    write_manifest,
)

SEGMENT = "000000000001-000000000009.segment"


def make(run: Path, step: int, text: str = "weights") -> Generation:
    folder = generation_folder(run, step)
    folder.mkdir(parents=True, exist_ok=True)
    name = free_name(folder)
    (folder / name).write_text(text)
    (run / "replay").mkdir(exist_ok=True)
    (run / "replay" / SEGMENT).write_text("frames")
    segments = {SEGMENT: fingerprint(run / "replay" / SEGMENT)}
    generation = Generation(folder, step, name, fingerprint(folder / name), segments)
    write_manifest(generation)
    return generation


def test_there_and_back(tmp_path):
    generation = make(tmp_path, 1_200)
    assert generation.folder == tmp_path / "checkpoints" / "000001200"
    assert read_manifest(generation.folder) == generation
    check_whole(generation)
    assert newest_whole(tmp_path, pytest.fail) == generation


def test_no_generation(tmp_path):
    assert newest_whole(tmp_path, pytest.fail) is None
    generation_folder(tmp_path, 5).mkdir(parents=True)  # killed before its manifest was there
    (tmp_path / "checkpoints" / "notes").mkdir()
    assert newest_whole(tmp_path, pytest.fail) is None


def test_the_newest_by_number_of_steps(tmp_path):
    for step in (999_999_999, 1_000_000_000, 5):
        make(tmp_path, step)
    newest = newest_whole(tmp_path, pytest.fail)
    assert newest is not None
    assert newest.step == 1_000_000_000


def test_a_step_that_is_saved_again(tmp_path):
    """What was there stays whole until the manifest names the other file, and goes then."""
    first = make(tmp_path, 10, "one")
    assert free_name(first.folder) == "checkpoint-2.pt"
    second = make(tmp_path, 10, "two")
    assert second.path.read_text() == "two"
    assert {path.name for path in second.folder.iterdir()} == {"manifest.json", "checkpoint-2.pt"}
    third = make(tmp_path, 10, "three")
    assert third.path.name == "checkpoint.pt"
    assert newest_whole(tmp_path, pytest.fail) == third


def test_a_manifest_that_cannot_be_written(tmp_path, monkeypatch):
    first = make(tmp_path, 10, "one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(RunError, match="No space left"):
            make(tmp_path, 10, "two")
    assert newest_whole(tmp_path, pytest.fail) == first
    assert first.path.read_text() == "one"


@pytest.mark.parametrize("what", ["checkpoint", "segment", "manifest"])
def test_damage_is_named_and_passed_over(tmp_path, what):
    older = make(tmp_path, 10)
    newer = make(tmp_path, 20, "other weights")
    path = {"checkpoint": newer.path, "manifest": newer.folder / "manifest.json"}.get(what)
    if path is None:  # the older one has segments of its own
        shutil.copy(tmp_path / "replay" / SEGMENT, tmp_path / "replay" / SEGMENT.replace("9", "8"))
        own = {SEGMENT.replace("9", "8"): fingerprint(tmp_path / "replay" / SEGMENT)}
        older = Generation(older.folder, 10, older.checkpoint, older.written, own)
        write_manifest(Generation(older.folder, 10, older.checkpoint, older.written, own))
        path = tmp_path / "replay" / SEGMENT
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 4]) + content[-2:])
    told: list[str] = []
    assert newest_whole(tmp_path, told.append) == older
    assert str(path) in told[0]
    assert told[1:] == ["the checkpoint before is used: step 10"]


def test_when_nothing_is_left(tmp_path):
    generation = make(tmp_path, 10)
    generation.path.unlink()
    with pytest.raises(UsageError, match=r"no whole checkpoint left; the newest: .*checkpoint\.pt cannot be read"):
        newest_whole(tmp_path, lambda _: None)


def test_what_a_later_version_wrote_is_not_passed_over(tmp_path):
    make(tmp_path, 10)
    newer = make(tmp_path, 20)
    content = json.loads((newer.folder / "manifest.json").read_text()) | {"schema": 7}
    del content["seal"]
    (newer.folder / "manifest.json").write_text(json.dumps(content | {"seal": _seal(content)}))
    with pytest.raises(UsageError, match="schema 7, this version of dqn reads 1: use the version that wrote it"):
        newest_whole(tmp_path, pytest.fail)


@pytest.mark.parametrize(
    "change",
    [
        {"step": 11},
        {"step": "10"},
        {"checkpoint": {"name": "../../../etc/passwd", "size": 1, "sha256": "0"}},
        {"checkpoint": None},
        {"segments": {"../checkpoint.pt": {"size": 1, "sha256": "0"}}},
        {"segments": {SEGMENT: {"size": "many", "sha256": "0"}}},
        {"segments": [SEGMENT]},
        {"format": "another"},
    ],
)
def test_a_manifest_that_says_something_else(tmp_path, change):
    """With a right seal: names lead nowhere but to the run's own files."""
    generation = make(tmp_path, 10)
    path = generation.folder / "manifest.json"
    content = {key: value for key, value in json.loads(path.read_text()).items() if key != "seal"} | change
    path.write_text(json.dumps(content | {"seal": _seal(content)}))
    with pytest.raises(UsageError, match="is damaged"):
        read_manifest(generation.folder)


def test_who_goes_on_deletes_what_came_later(tmp_path):
    older, newest, later = (make(tmp_path, step) for step in (10, 20, 30))
    half = generation_folder(tmp_path, 40)
    half.mkdir()
    (half / "checkpoint.pt").touch()
    (tmp_path / "checkpoints" / "notes").mkdir()
    (tmp_path / "checkpoints" / "notes.txt").touch()
    assert kept_generations(tmp_path, newest) == [older, newest]
    assert not later.folder.exists()
    assert not half.exists()
    assert older.path.exists()
    assert newest.path.exists()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        *(generation.folder.name for generation in (older, newest)),
        "notes",
        "notes.txt",
    }


def test_a_generation_that_somebody_else_has_deleted(tmp_path):
    folder = make(tmp_path, 10).folder
    shutil.rmtree(folder)
    delete_generation(folder)


def test_a_manifest_that_was_changed_under_its_seal(tmp_path):
    folder = make(tmp_path, 10).folder
    text = (folder / "manifest.json").read_text()
    size = '"size": 7'
    assert size in text
    (folder / "manifest.json").write_text(text.replace(size, '"size": 8'))
    with pytest.raises(UsageError, match="is not what its seal was made for"):
        read_manifest(folder)
