"""Facts of the machine, from files that look like those of the kernel."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from dqn_cli.core import machine
from dqn_cli.core.machine import (
    _cgroup_memory,
    _process_limit,
    available_cores,
    available_memory,
    keep_freed_memory,
)
from dqn_cli.hardware import Hardware

MIB = 2**20
UNLIMITED_V1 = 9223372036854771712


def v2(folder: Path, limit: object, usage: object, stat: dict[str, int] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    if stat is not None:
        (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))


def v1(folder: Path, limit: object, usage: object, stat: dict[str, int] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{usage}\n")
    if stat is not None:
        (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))


@pytest.fixture
def membership(tmp_path):
    """Writes the file that says which cgroups a process is in."""
    path = tmp_path / "membership"

    def write(*lines: str):
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


class TestCgroupVersion2:
    def test_the_room_is_the_limit_less_the_usage(self, tmp_path, membership):
        v2(tmp_path / "cg", 800 * MIB, 300 * MIB)
        assert _cgroup_memory(tmp_path / "cg", membership("0::/")) == 500 * MIB

    def test_the_tightest_of_all_levels_wins(self, tmp_path, membership):
        root = tmp_path / "cg"
        v2(root, "max", 900 * MIB)
        v2(root / "user.slice", 500 * MIB, 450 * MIB)
        v2(root / "user.slice" / "job", 400 * MIB, 100 * MIB)
        assert _cgroup_memory(root, membership("0::/user.slice/job")) == 50 * MIB
        v2(root / "user.slice" / "job", 110 * MIB, 100 * MIB)
        assert _cgroup_memory(root, membership("0::/user.slice/job")) == 10 * MIB

    def test_cgroups_of_others_do_not_count(self, tmp_path, membership):
        root = tmp_path / "cg"
        v2(root / "mine", 400 * MIB, 100 * MIB)
        v2(root / "other", 2 * MIB, 1 * MIB)
        v2(tmp_path, 1 * MIB, 0)  # above the root of the hierarchy
        assert _cgroup_memory(root, membership("0::/mine")) == 300 * MIB

    def test_no_limit(self, tmp_path, membership):
        v2(tmp_path / "cg" / "mine", "max", 100 * MIB)
        assert _cgroup_memory(tmp_path / "cg", membership("0::/mine")) is None

    def test_page_cache_that_can_be_dropped_is_room(self, tmp_path, membership):
        v2(tmp_path / "cg", 800 * MIB, 700 * MIB, {"anon": 1, "inactive_file": 250 * MIB, "active_file": 9 * MIB})
        assert _cgroup_memory(tmp_path / "cg", membership("0::/")) == 350 * MIB

    def test_never_negative(self, tmp_path, membership):
        v2(tmp_path / "cg", 100 * MIB, 101 * MIB)
        assert _cgroup_memory(tmp_path / "cg", membership("0::/")) == 0


class TestCgroupVersion1:
    def test_only_the_memory_controller_counts(self, tmp_path, membership):
        root = tmp_path / "cg"
        v1(root / "memory", UNLIMITED_V1, 900 * MIB)
        v1(root / "memory" / "box" / "a", 600 * MIB, 400 * MIB)
        v1(root / "memory" / "cpu-box", 2 * MIB, 1 * MIB)
        lines = ("12:cpu,cpuacct:/cpu-box", "5:memory:/box/a", "1:name=systemd:/cpu-box")
        assert _cgroup_memory(root, membership(*lines)) == 200 * MIB

    def test_inside_a_container_the_path_is_the_host_s(self, tmp_path, membership):
        root = tmp_path / "cg"
        v1(root / "memory", 512 * MIB, 112 * MIB)
        assert _cgroup_memory(root, membership("5:memory:/docker/0123abc")) == 400 * MIB

    def test_page_cache_of_the_whole_subtree(self, tmp_path, membership):
        stat = {"inactive_file": 3 * MIB, "total_inactive_file": 200 * MIB}
        v1(tmp_path / "cg" / "memory", 512 * MIB, 412 * MIB, stat)
        assert _cgroup_memory(tmp_path / "cg", membership("5:memory:/")) == 300 * MIB


class TestUnreadable:
    def test_nothing_there(self, tmp_path):
        assert _cgroup_memory(tmp_path / "nothing", tmp_path / "nowhere") is None

    @pytest.mark.parametrize("content", ["", "many", "1 2"])
    def test_nonsense(self, tmp_path, membership, content):
        v2(tmp_path / "cg", 100, content)
        assert _cgroup_memory(tmp_path / "cg", membership("0::/")) is None
        v2(tmp_path / "cg", 100, 40)
        (tmp_path / "cg" / "memory.stat").write_text(f"inactive_file {content} x\n")
        assert _cgroup_memory(tmp_path / "cg", membership("0::/")) == 60


class TestAvailable:
    @pytest.mark.parametrize(
        ("system", "cgroup", "process", "expected"),
        [(9, 5, 7, 5), (3, 5, 7, 3), (9, 5, 1, 1), (9, None, None, 9), (None, None, None, None), (9, 0, None, 0)],
    )
    def test_memory_is_the_tightest_limit(self, monkeypatch, system, cgroup, process, expected):
        monkeypatch.setattr(machine, "_system_memory", lambda: system)
        monkeypatch.setattr(machine, "_cgroup_memory", lambda: cgroup)
        monkeypatch.setattr(machine, "_process_limit", lambda: process)
        assert available_memory() == expected

    def test_memory_of_this_machine(self):
        available = available_memory()
        assert available is not None
        assert 0 < available <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def test_the_address_space_limit_of_the_process(self, monkeypatch):
        monkeypatch.setattr(resource, "getrlimit", lambda _: (2**60, 2**61))
        room = _process_limit()
        assert room is not None
        assert 0 < 2**60 - room < 2**50  # what this process has mapped already
        monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert _process_limit() is None

    @pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no processor affinity")
    def test_cores_are_those_that_the_process_may_use(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6})
        assert available_cores() == 3


class TestKeepFreedMemory:
    @staticmethod
    def faults_of_a_second_allocation(size: int) -> int:
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            np.ones(size, np.uint8)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    def test_a_run_does_it(self, monkeypatch):
        called = []
        monkeypatch.setattr("dqn_cli.hardware.keep_freed_memory", lambda: called.append(True))
        Hardware(torch.device("cpu"), 1, "float32", "contiguous").apply()
        assert called == [True]

    def test_where_large_blocks_are_refused_nothing_else_is_changed(self, monkeypatch):
        class OldLibrary:
            calls: ClassVar[list[int]] = []

            def mallopt(self, switch: int, _: int) -> int:
                self.calls.append(switch)
                return 0

        monkeypatch.setattr("dqn_cli.core.machine.ctypes.CDLL", lambda name: OldLibrary())
        keep_freed_memory()
        assert OldLibrary.calls == [-3]

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed blocks back")
    def test_a_block_that_was_freed_is_used_again(self):
        keep_freed_memory()
        pages = 16 * MIB // resource.getpagesize()
        assert self.faults_of_a_second_allocation(16 * MIB) < pages / 100

    def test_a_replay_stays_on_pages_of_its_own(self):
        keep_freed_memory()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        ring = np.zeros(256 * MIB, np.uint8)
        ring[0] = 1
        assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 100

    def test_other_c_libraries_are_left_alone(self, monkeypatch):
        monkeypatch.setattr("dqn_cli.core.machine.ctypes.CDLL", lambda name: object())
        keep_freed_memory()
