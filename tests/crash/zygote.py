"""Starts commands of ``dqn`` in a moment, by forking a process that has imported everything, and ends them.

Reads one job a line from stdin, as JSON: ``arguments`` of the command, ``log`` for what it prints, and how it is to
end: ``kill_after`` seconds by SIGKILL, ``kill_at`` the n-th operation on the file system by SIGKILL, ``full_at`` the
n-th operation on, each of which fails as on a full disk. Answers with the exit code (negative: the signal) and the
number of operations that there were, as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import sys
import time
from typing import Any

OPERATIONS = ("fsync", "replace", "link", "unlink", "mkdir", "rmdir", "write", "ftruncate")
WRITING = ("fsync", "mkdir", "write")


def count_operations(job: dict[str, Any], report: int) -> None:
    """Wraps the operations on the file system, so that the n-th of them can be the last."""
    counter = [0]

    def wrapped(name: str) -> Any:
        original = getattr(os, name)

        def operation(*arguments: Any, **options: Any) -> Any:
            if name == "write" and not stat.S_ISREG(os.fstat(arguments[0]).st_mode):
                return original(*arguments, **options)  # a pipe to a worker process, or the terminal
            counter[0] += 1
            os.pwrite(report, str(counter[0]).encode(), 0)
            if counter[0] == job.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            if name in WRITING and counter[0] >= job.get("full_at", sys.maxsize):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*arguments, **options)

        return operation

    for name in OPERATIONS:
        setattr(os, name, wrapped(name))


def run_job(job: dict[str, Any], report: int) -> None:
    """Runs one command in this process, which ends with it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdin.close()
    count_operations(job, report)
    from dqn_cli.cli.main import main

    main(job["arguments"])


def end_of(child: int, job: dict[str, Any]) -> int:
    """Waits for a child, kills it when its time has come, and returns its exit code."""
    deadline = time.monotonic() + job.get("kill_after", 300.0)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline += 60.0
        time.sleep(0.002)


def main() -> None:
    """Imports everything, then forks for each job."""
    import torch  # noqa: F401

    import dqn_cli.cli.main
    import dqn_cli.resume
    import dqn_cli.run  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        report = os.memfd_create("operations")
        child = os.fork()
        if child == 0:
            try:
                run_job(job, report)
            except SystemExit as end:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else 1)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(99)
            os._exit(98)
        code = end_of(child, job)
        operations = int(os.pread(report, 20, 0) or b"0")
        os.close(report)
        print(json.dumps({"code": code, "operations": operations}), flush=True)


if __name__ == "__main__":
    main()
