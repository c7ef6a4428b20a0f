"""Facts of the machine: cores, memory, processor features."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from pathlib import Path


def cpu_flags() -> set[str]:
    """Returns the names of the processor's features; empty where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of mallopt, see malloc.h
_BLOCK_BYTES = 32 * 2**20  # the most that every glibc accepts


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, in blocks of up to 32 MiB, for its next allocation.

    glibc gives large blocks back to the system and asks for them again: the activations and gradients of an update
    of the NatureCNN cost thousands of page faults each time. Larger blocks, such as a replay, still come
    from the system one by one, zeroed when they are touched. Does nothing where the C library has no such switch.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Where the first is refused the others would do harm: they end glibc's own adaptation.
    if mallopt is not None and mallopt(_MMAP_THRESHOLD, _BLOCK_BYTES):
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, _BLOCK_BYTES)


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> int | None:
    """Returns the bytes that this process can still take: system memory, cgroup and process limits; None if unknown."""
    limits = [value for value in (_system_memory(), _cgroup_memory(), _process_limit()) if value is not None]
    return min(limits, default=None)


def _system_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _cgroup_memory(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Returns the room left in the tightest cgroup above this process (version 2, else version 1)."""
    rooms = []
    for folder in _cgroup_folders(root, membership):
        for limit_name, usage_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            try:
                limit = (folder / limit_name).read_text().strip()
                usage = int((folder / usage_name).read_text())
            except (OSError, ValueError):
                continue
            if limit != "max":
                rooms.append(max(0, int(limit) - usage + _reclaimable(folder)))
    return min(rooms, default=None)


def _reclaimable(folder: Path) -> int:
    """Returns the bytes of page cache that a cgroup counts as used and the kernel drops when memory is asked for."""
    try:
        lines = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
        amounts = {name: int(value) for name, value in lines}
    except (OSError, ValueError):
        return 0
    return amounts.get("total_inactive_file", amounts.get("inactive_file", 0))  # version 1 sums up under "total"


def _cgroup_folders(root: Path, membership: Path) -> list[Path]:
    folders = [root, root / "memory"]
    try:
        entries = membership.read_text().splitlines()
    except OSError:
        return folders
    for entry in entries:
        _, controllers, path = entry.split(":", 2)
        if controllers in ("", "memory"):
            base = root / "memory" if controllers else root
            own = base / path.lstrip("/")
            folders += [folder for folder in (own, *own.parents) if base in folder.parents]
    return folders


def _process_limit() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        used = 0
    return max(0, soft - used)


def describe_machine() -> dict[str, str | int]:
    """Returns what a reader of a measurement needs to know: processor, cores, Python."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": names[0] if names else model, "cores": available_cores(), "python": platform.python_version()}
