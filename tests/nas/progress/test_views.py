import io
import os
import pty
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cli_support import Hand, config, failed, final_job, job, seed_job, told, view
from rich.console import Console

from nas.progress.choose_view import view_for
from nas.progress.state import RunProgress
from nas.progress.views import HEARTBEAT, ROWS, BarsView, PlainView, Terminal, draw
from nas.run.events import Callback, Outcome, Silent
from nas.train.evaluate import Scores

RUN = Path("runs/x")
LONG = "; ".join(["widen(node=a_rather_long_name, to=4096, how=zero)"] * 8)


def play(watcher: Callback, clock: Hand) -> None:
    """A short search, told to `watcher`."""
    seed, jobs = seed_job(), [job(1, 0, kind="parent", moves=""), job(1, 1, moves=LONG), job(1, 2)]
    watcher.on_run_start(RUN, config(), view(), False)
    watcher.on_generation_start(0, [seed])
    watcher.on_trial_end(told(seed, 0.8))
    watcher.on_generation_end(0, told(seed, 0.8))
    clock.now += 10
    watcher.on_generation_start(1, jobs)
    watcher.on_step("1.1", 50, 100, 0.5)
    watcher.on_trial_end(told(jobs[0], 0.85))
    watcher.on_trial_end(failed(jobs[1], "training: loss is NaN at step 3;\nlower the rate"))
    watcher.on_trial_end(told(jobs[2], 0.9))
    watcher.on_generation_end(1, told(jobs[2], 0.9))
    watcher.on_generation_start(2, [final_job(2)])
    best = told(final_job(2), 0.91, scores={"val_accuracy": 0.91, "test_accuracy": 0.9})
    watcher.on_trial_end(best)
    watcher.on_generation_end(2, best)
    watcher.on_run_end(
        Outcome(RUN, view(best), best, Scores({"accuracy": 0.9}, 0.3), 10.0, 0.1, "generations")
    )


def bars(console: Console, clock: Hand) -> BarsView:
    progress = RunProgress(clock)
    return BarsView(Terminal(console, progress), progress)


def plain(clock: Hand) -> tuple[PlainView, io.StringIO]:
    out = io.StringIO()
    return PlainView(out, RunProgress(clock)), out


def test_plain_lines_tell_the_story_without_control_codes() -> None:
    clock = Hand()
    watcher, out = plain(clock)
    play(watcher, clock)
    text = out.getvalue()
    assert all(line.isprintable() for line in text.splitlines())
    lines = [line.strip().split("  ", 1)[1] for line in text.splitlines()]
    assert lines[0] == "digits on digits: 3 generations, 2 children each, seed 0, in runs/x"
    assert "generation 0: best 0.0, the seed network: val 80.00 %, 1,234 params" in lines
    assert "  2/3  1.1" in text
    assert "failed: training: loss is NaN at step 3; lower the rate" in text
    assert "generation 1: best 1.2, widen(node=c, to=6): val 90.00 % (+10.00), 1,234 params" in lines
    assert lines[-1] == "  1/1  2.0  final training  val 91.00 %  test 90.00 %  1,234 params  12s"


def test_plain_lines_say_now_and_then_that_a_long_training_goes_on() -> None:
    clock = Hand()
    watcher, out = plain(clock)
    watcher.on_run_start(RUN, config(), view(), False)
    watcher.on_generation_start(0, [seed_job()])
    before = len(out.getvalue().splitlines())
    for step in range(1, 5 * int(HEARTBEAT)):
        clock.now += 0.5
        watcher.on_step("0.0", step, 1000, 0.5)
    said = out.getvalue().splitlines()[before:]
    assert len(said) == 2
    assert "0.0 at step 60 of 1000, loss 0.500" in said[0]


def test_a_reader_that_goes_away_does_not_stop_the_search() -> None:
    clock = Hand()
    reading, writing = os.pipe()
    out = os.fdopen(writing, "w", buffering=1)
    watcher = PlainView(out, RunProgress(clock))
    os.close(reading)
    play(watcher, clock)
    with pytest.raises(BrokenPipeError):
        out.close()


def test_a_resumed_run_says_so() -> None:
    watcher, out = plain(Hand())
    watcher.on_run_start(RUN, config(budget=90, generations=None), view(told(seed_job())), True)
    assert "resumed after 1 trial, 1:30 of wall time, 2 children each" in out.getvalue()


def test_the_watcher_fits_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(view_for(True, io.StringIO()), Silent)
    assert isinstance(view_for(False, io.StringIO()), PlainView)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(view_for(False, io.StringIO()), PlainView)
    monkeypatch.setenv("TERM", "xterm")
    for term, kind in (("xterm", BarsView), ("dumb", PlainView)):
        monkeypatch.setenv("TERM", term)
        ours, theirs = pty.openpty()
        with open(theirs, "w") as terminal:
            assert isinstance(view_for(False, terminal), kind)
        os.close(ours)


def picture(progress: RunProgress, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(draw(progress, width))
    return capture.get().splitlines()


@pytest.fixture
def busy() -> RunProgress:
    """A generation with one competitor told, one failed, one in training and many waiting."""
    clock = Hand()
    progress = RunProgress(clock)
    progress.open(RUN, config(), view(told(seed_job(), 0.8)), True)
    jobs = [job(1, slot, moves=LONG) for slot in range(20)]
    progress.start(1, jobs)
    clock.now += 60
    progress.tell(told(jobs[0], 0.9))
    progress.tell(failed(jobs[1], "NaN"))
    progress.step("1.17", 50, 0.5)
    return progress


@pytest.mark.parametrize("width", [30, 60, 80, 110, 200])
def test_the_picture_keeps_to_the_width_and_height(busy: RunProgress, width: int) -> None:
    lines = picture(busy, width)
    assert all(len(line) <= width for line in lines)
    assert len(lines) == ROWS + 3


def test_the_picture_shows_what_is_in_hand(busy: RunProgress) -> None:
    text = "\n".join(picture(busy, 110))
    assert "generation 1 of 3" in text
    assert "2 of 20 trained" in text
    assert "step 50/100  loss 0.500" in text
    assert "best so far  val 80.00 %, 1,234 parameters, 0.0 the seed network" in text
    assert "left" in text


def test_the_picture_before_anything_happened() -> None:
    assert picture(RunProgress(Hand()), 80) == ["starting …"]
    progress = RunProgress(Hand())
    progress.open(RUN, config(), view(), False)
    progress.start(0, [seed_job()])
    text = "\n".join(picture(progress, 80))
    assert "seed network" in text
    assert "best so far  none yet" in text


@pytest.fixture
def terminal() -> Iterator[tuple[Console, list[bytes]]]:
    """A console on a real pseudo terminal, and what arrived at its other side."""
    ours, theirs = pty.openpty()
    seen: list[bytes] = []

    def listen() -> None:
        try:
            while chunk := os.read(ours, 65536):
                seen.append(chunk)
        except OSError:  # the other side was closed
            pass

    listener = threading.Thread(target=listen)
    listener.start()
    with open(theirs, "w") as file:
        yield (
            Console(file=file, force_terminal=True, width=100, color_system="standard", highlight=False),
            seen,
        )
    listener.join()
    os.close(ours)


def test_a_terminal_that_was_closed_does_not_stop_the_search() -> None:
    ours, theirs = pty.openpty()
    os.close(ours)
    clock, ended = Hand(), False
    with suppress(OSError), open(theirs, "w") as file:  # closing the file fails as well
        watcher = bars(Console(file=file, force_terminal=True, width=100), clock)
        play(watcher, clock)
        watcher.close()
        ended = True
    assert ended


def test_the_live_view_leaves_the_lines_that_last(terminal: tuple[Console, list[bytes]]) -> None:
    console, seen = terminal
    clock = Hand()
    watcher = bars(console, clock)
    play(watcher, clock)
    watcher.close()
    console.file.flush()
    while b"\x1b[?25h" not in b"".join(seen):  # the cursor is back; the test's timeout ends this otherwise
        os.sched_yield()
    text = b"".join(seen).decode()
    assert "generation 1: best 1.2, widen(node=c, to=6): val 90.00 % (+10.00), 1,234 params" in text
    assert "failed: training: loss is NaN at step 3; lower the rate" in re.sub(r"(\x1b\[\d*m|\s)+", " ", text)
