"""Signals that end a run."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from dqn_cli.core.interruption import Interrupted, Waiting
from dqn_cli.training import signals as signals_module
from dqn_cli.training.signals import StopRequest, listening

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(autouse=True)
def _handlers():
    """Begins with handlers of our own, whatever whoever started the tests ignores, and puts back the former ones."""
    former = {number: signal.signal(number, signal.default_int_handler) for number in ALL}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ALL)
def test_a_signal_is_remembered_and_told(number):
    told: list[object] = []
    with listening() as request:
        request.listen(lambda: told.append(request.signal))
        assert (request.signal, request.exit_code, told) == (None, 0, [])
        signal.raise_signal(number)
        assert (request.signal, told) == (number, [number])
    assert request.exit_code == CODES[number]


def test_handlers_are_put_back():
    for failure in (None, ValueError()):
        before = [signal.getsignal(number) for number in ALL]
        try:
            with listening():
                assert all(signal.getsignal(number) is not old for number, old in zip(ALL, before, strict=True))
                if failure is not None:
                    raise failure
        except ValueError:
            pass
        assert [signal.getsignal(number) for number in ALL] == before


def test_a_second_interrupt_ends_at_once():
    with listening() as request:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert request.exit_code == 130


def test_an_interrupt_after_another_signal_ends_at_once():
    with listening():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_decides_the_exit_code(second):
    told: list[object] = []
    with listening() as request:
        request.listen(lambda: told.append(None))
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(second)
    assert (request.exit_code, len(told)) == (130, 1)


def test_a_listener_that_comes_late_is_told():
    """A signal may arrive while the run is still being put together."""
    told: list[object] = []
    request = StopRequest()
    request.handle(signal.SIGTERM, None)
    request.listen(lambda: told.append(None))
    assert len(told) == 1


@pytest.mark.parametrize("number", ALL)
def test_what_was_ignored_stays_ignored(number):
    """Under ``nohup``, and in the background of a script, the run goes on."""
    signal.signal(number, signal.SIG_IGN)
    with listening() as request:
        signal.raise_signal(number)
        assert request.signal is None
    assert signal.getsignal(number) == signal.SIG_IGN


def test_in_another_thread_nothing_is_caught():
    found = []

    def work() -> None:
        with listening() as request:
            found.append((request.signal, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, signal.default_int_handler)]


def test_sigusr1_tells_the_savers_and_stops_nothing():
    told: list[str] = []
    with listening() as request:
        request.listen(lambda: told.append("stop"), lambda: told.append("save"))
        for _ in range(2):
            signal.raise_signal(signal.SIGUSR1)
        assert (request.signal, told) == (None, ["save", "save"])


def test_a_wait_is_ended_after_the_grace_and_nothing_else_is(monkeypatch):
    monkeypatch.setattr(signals_module, "GRACE_SECONDS", 0.05)
    with listening() as request:
        request.listen(lambda: None)
        with request.waiting:
            pass
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.1)  # no wait: what is saved here must not be disturbed
        with pytest.raises(Interrupted), request.waiting:
            time.sleep(60)
        with request.waiting:
            time.sleep(0.1)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_nobody_listens_to_is_ended_at_once():
    """A run that is being put together has nothing to save."""
    with listening() as request, pytest.raises(Interrupted), request.waiting:  # noqa: PT012
        begun = time.monotonic()
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)
    assert time.monotonic() - begun < signals_module.GRACE_SECONDS


def test_a_wait_that_is_interrupted_while_it_ends_is_the_last():
    """The handler runs between any two instructions: also before the end of a wait is counted."""
    waiting = Waiting()
    waiting.__enter__()
    try:
        waiting.interrupt()  # as a handler would within __exit__, before its first instruction
    except Interrupted as end:
        end.take()
    waiting.interrupt()  # what is saved now is not disturbed


def test_who_swallows_an_interruption_gets_another_one(monkeypatch):
    monkeypatch.setattr(signals_module, "GRACE_SECONDS", 0.05)
    monkeypatch.setattr(signals_module, "_AGAIN_SECONDS", 0.05)
    swallowed = 0
    with listening() as request, pytest.raises(Interrupted), request.waiting:  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        try:
            time.sleep(60)
        except BaseException:  # as some environments do
            swallowed += 1
        time.sleep(60)
    assert swallowed == 1
