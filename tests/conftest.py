"""What holds for every test: one thread, no results outside a temporary folder, plain signals, no GPU without one."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # no test depends on how busy the machine is
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_no_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    torch.set_num_threads(1)
    # Under nohup or a job scheduler signals may come in ignored, and a run leaves what is ignored alone.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DQN_RUNS_DIR", str(tmp_path_factory.mktemp("runs")))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    absent = pytest.mark.skip(reason="needs a CUDA GPU, and torch finds none here")
    for item in items:
        if item.get_closest_marker("cuda") is not None:
            item.add_marker(absent)
