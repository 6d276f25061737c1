"""The live page: report.html served from the ledger, on this machine only, and growing while the search runs.

    GET /             the page
        /news         its parts and charts, if anything has changed since ?since=VERSION
        /trial/KEY    the details of a trial

Nothing can be written. A page of another site that had its name point to this machine (DNS rebinding) is refused, since
its requests name another host.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from nas.base.errors import NasError, UserError
from nas.base.text import plural
from nas.inspect.current_driver import driver_of
from nas.ledger.scores import called, value_text
from nas.report.compare import compared
from nas.report.page import Page, page_of

HOST = "127.0.0.1"
SHARE = 0.008  # of one core's time goes to keeping the page up to date; 0.01 is promised, and pages grow
LEAST_WAIT, MOST_WAIT = 2.0, 60.0  # seconds between two questions for news
IMPORTING = 2  # pages, the first ones, that import what makes and sends them
STALE = 30.0  # seconds after which the page is made again even if the ledger's file is the same
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Snapshot:
    """The page at one moment. version: differs wherever the content may. wait: seconds until the next makes sense."""

    page: Page
    version: str
    wait: float

    @property
    def over(self) -> bool:
        """Whether the run is finished, so that nothing more will come."""
        return self.page.state.state == "finished"

    def news(self) -> dict[str, Any]:
        """What an open page shows from now on."""
        state = self.page.state
        best = f"best so far {value_text(state.select, state.best_value)} {called(state.select)}"
        said = f"{state.state}: {plural(state.complete, 'trial')} complete, {best}"
        title = f"{value_text(state.select, state.best_value, 1)} – {state.space} on {state.data}"
        return {"main": self.page.main(), "figures": self.page.figures, "said": said, "title": title}


@dataclass
class Live:
    """The runs that a server shows: the first in full, the others to compare it with. Safe to use from any thread."""

    runs: Sequence[Path]
    asked: float = field(default_factory=time.monotonic)  # when somebody last asked
    told_over: bool = False  # whether an open page has been told that the run is over
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: Snapshot | None = None
    _stamp: object = None
    _at: float = 0.0
    _read: int = 0
    _used: float = 0.0  # processor seconds of this process when the page was last made
    _news: dict[str, Any] | None = None

    @property
    def wait(self) -> float:
        """Seconds after which an open page asks again."""
        return LEAST_WAIT if self._made is None else self._made.wait

    def snapshot(self) -> Snapshot:
        """The present content; read again at most so often that it costs SHARE. Raises RunError, LedgerDamaged."""
        with self._lock:
            return self._snapshot()

    def news(self, since: str) -> dict[str, Any]:
        """The news for a page that has the version `since`."""
        with self._lock:
            now = self._snapshot()
            self.told_over = self.told_over or now.over
            facts = {"version": now.version, "wait": now.wait, "over": now.over}
            if now.version == since:
                return facts
            if self._news is None:
                self._news = now.news()
            return {**facts, **self._news}

    def _snapshot(self) -> Snapshot:
        self.asked = time.monotonic()
        made, age = self._made, self.asked - self._at
        if made is not None and age < made.wait:
            return made
        stamp = tuple(map(_stamp, self.runs))
        if made is not None and stamp == self._stamp and age < STALE:
            return made
        page = page_of(self.runs[0], [compared(run) for run in self.runs[1:]])
        used, self._read = time.process_time(), self._read + 1
        # What this page and the last answers took; at first that is mostly imports.
        cost = used - self._used if self._read > IMPORTING else 0.0
        wait = round(min(MOST_WAIT, max(LEAST_WAIT, cost / SHARE)), 1)
        self._made = Snapshot(page, f"{time.time_ns():x}", wait)
        self._stamp, self._at, self._news, self._used = stamp, time.monotonic(), None, used
        return self._made


def _stamp(run: Path) -> object:
    """What changes when a run does, as far as its folder shows it."""
    found: list[object] = []
    for name in ("ledger.db", "ledger.json", "config.json"):
        try:
            status = (run / name).stat()
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            found.append(None)
    if found[1] is not None:  # the trials are in a shared database
        found.append(time.monotonic())
    try:
        driver = driver_of(run)
    except UserError:
        driver = None
    return (*found, None if driver is None else driver.name)


class Server(ThreadingHTTPServer):
    """Serves one `Live` at http://127.0.0.1:PORT/. port: 0 takes any that is free.

    Raises UserError if the port can't be had.
    """

    daemon_threads = True

    def __init__(self, runs: Sequence[Path], port: int = 0) -> None:
        self.live = Live(runs)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(
                f"watch: port {port} can't be used ({error.strerror}); choose another with --port, or --port 0"
            ) from None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        return f"http://{HOST}:{self.port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is not an error."""


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "nas", ""
    timeout = 30.0

    @property
    def _site(self) -> Server:
        return cast(Server, self.server)

    def do_GET(self) -> None:
        """Answer with a page, or with part of one."""
        if self.headers.get("Host") not in (f"{HOST}:{self._site.port}", f"localhost:{self._site.port}"):
            return self._send(
                HTTPStatus.MISDIRECTED_REQUEST, "text/plain", "this is the page of another address\n"
            )
        asked = urlsplit(self.path)
        try:
            kind, text = self._answer(asked.path, parse_qs(asked.query))
        except UserError as error:
            return self._send(HTTPStatus.NOT_FOUND, "text/plain", f"{error}\n")
        except (NasError, OSError) as error:
            return self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n")
        return self._send(HTTPStatus.OK, kind, text)

    def do_HEAD(self) -> None:
        """As GET, without the content."""
        self.do_GET()

    def _answer(self, path: str, query: dict[str, list[str]]) -> tuple[str, str]:
        live = self._site.live
        if path == "/":
            made = live.snapshot()
            return "text/html", made.page.whole(made.version, made.wait)
        if path == "/news":
            return "application/json", json.dumps(live.news(query.get("since", [""])[0]))
        if path.startswith("/trial/"):
            return "text/html", live.snapshot().page.trial(unquote(path.removeprefix("/trial/")))
        raise UserError(f"{path} is not part of this page")

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


def serve(server: Server, until: Callable[[], bool] = lambda: False) -> None:
    """Serve until Ctrl-C, or until `until` says so, which is asked about twice a second."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()
    try:
        while not until():
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        server.shutdown()
        server.server_close()
