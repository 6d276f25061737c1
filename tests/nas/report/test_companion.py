"""The page's server beside a search: it says where it is, answers, and ends when its driver does."""

import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

from cli_support import config
from report_support import example_view, write_run

from nas.ledger import LedgerView
from nas.report.companion import Companion
from nas.run.events import Silent


class Hearing(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def on_notice(self, text: str) -> None:
        self.said.append(text)


def answer(url: str, seconds: float) -> str:
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as page:
                return page.read().decode()
        except (URLError, ConnectionError):  # it is not up yet
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_the_server_lives_as_long_as_its_driver(tmp_path: Path) -> None:
    write_run(tmp_path / "run", example_view(1, 2, final=False))
    view = Hearing()
    companion = Companion(view)
    companion.on_run_start(tmp_path / "run", config(), LedgerView(()), False)
    process = companion._server
    assert process is not None
    (said,) = view.said
    assert "Family tree" in answer(said.split()[-1], 120)
    assert process.poll() is None
    companion.close()
    companion.close()
    assert process.wait(120) == 0


def test_a_finished_run_needs_none(tmp_path: Path) -> None:
    view = Hearing()
    companion = Companion(view)
    companion.on_run_start(tmp_path / "run", config(), example_view(1, 2), True)
    companion.close()
    assert view.said == []
    assert companion._server is None
