"""Ctrl-C at any moment stops a run, also where Python drops exceptions."""

import signal
import sys
import time
import weakref

import pytest

from nas.api.interrupts import interrupts


class Thing:
    pass


def press(_: object) -> None:
    signal.raise_signal(signal.SIGINT)


def drop_an_interrupt() -> None:
    thing = Thing()
    held = weakref.ref(thing, press)
    del thing  # which calls `press`, whose exception is dropped
    assert held() is None
    time.sleep(10)


def test_the_first_stops_and_the_second_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with interrupts() as pressed:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert pressed.count == 2
    assert "stopping" in capsys.readouterr().err


def test_one_that_python_drops_is_raised_again(capsys: pytest.CaptureFixture[str]) -> None:
    hook = sys.unraisablehook
    with interrupts() as pressed:
        with pytest.raises(KeyboardInterrupt):
            drop_an_interrupt()
        assert pressed.count == 1
    assert capsys.readouterr().err == ""
    assert sys.unraisablehook is hook


def test_another_exception_that_python_drops_goes_where_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    def fail(_: object) -> None:
        raise LookupError

    with interrupts():
        thing = Thing()
        held = weakref.ref(thing, fail)
        del thing
    assert held() is None
    assert seen == [LookupError]
