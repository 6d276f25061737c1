"""The live page's server: what it answers, whom it refuses, and how an open page gets the news."""

import http.client
import json
import threading
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from report_support import FACTS, example_view, write_run

import morphs
from morphs import graph_from_json
from nas.base.errors import RunError, UserError
from nas.ledger import Job, Ledger, LedgerView
from nas.report import serve
from nas.report.serve import Server

KEY = "1.1"


@contextmanager
def served(*runs: Path) -> Generator[Server]:
    server = Server(runs)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", example_view(2, 3))
    return tmp_path / "run"


def get(server: Server, path: str) -> str:
    with urllib.request.urlopen(server.url + path, timeout=60) as answer:
        return answer.read().decode()


def status(server: Server, method: str, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_page_its_news_and_a_trial(run: Path) -> None:
    with served(run) as server:
        page = get(server, "")
        assert 'data-live="' in page
        assert "connect-src" in page
        assert 'id="packed"' not in page  # a trial is fetched when it is clicked
        news = json.loads(get(server, "news?since="))
        assert news["over"]
        assert "Family tree" in news["main"]
        assert "time" in news["figures"]
        assert set(json.loads(get(server, f"news?since={news['version']}"))) == {"version", "wait", "over"}
        assert f"Trial {KEY}" in get(server, f"trial/{KEY}")


def test_it_refuses_other_hosts_and_every_write(run: Path) -> None:
    with served(run) as server:
        for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1", "127.0.0.1:1"):
            assert status(server, "GET", "/", Host=host) == 421, host
            assert status(server, "GET", "/news", Host=host) == 421, host
        assert status(server, "GET", "/news", Host=f"localhost:{server.port}") == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert status(server, method, "/") == 501
        for path in ("/../config.json", "/trial/../../config.json", "/trial/9.9", "/favicon.ico", "//x"):
            assert status(server, "GET", path) == 404, path
        assert server.server_address[0] == "127.0.0.1"


def test_serving_changes_nothing_in_the_run(run: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}

    before = content()
    with served(run) as server:
        get(server, "")
        get(server, "news?since=")
    assert content() == before


def test_news_come_as_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LEAST_WAIT", 0.0)
    monkeypatch.setattr(serve, "SHARE", 1e9)
    view = example_view(1, 2, final=False)
    run = tmp_path / "run"
    with Ledger.create(run, FACTS) as ledger, served(run) as server:
        versions: list[str] = []
        for record in view.trials:
            number = ledger.ask(record.job)
            ledger.curve({number: [(1, 2.0), (50, 1.0)]})
            running = json.loads(get(server, "news?since="))
            assert f"progress of trial {record.key}" in running["main"]
            assert "In training now" in running["main"]
            assert record.result is not None
            network = morphs.init(graph_from_json(record.job.graph), record.job.seed)
            ledger.tell(number, replace(record.result, weights=ledger.store.put(network)))
            ended = json.loads(get(server, "news?since="))
            assert f"progress of trial {record.key}" not in ended["main"]
            assert not ended["over"]
            versions += [running["version"], ended["version"]]
            traces = ended["figures"]["curves"]["data"]
            assert record.key in {key for trace in traces for key in trace["customdata"]}
        assert len(set(versions)) == len(versions)


def test_what_it_costs_sets_how_often_it_is_asked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LEAST_WAIT", 0.0)
    monkeypatch.setattr(serve, "STALE", 0.0)
    with served(run) as server:
        waits = [server.live.snapshot() for _ in range(3)][-1].wait
        assert waits > 0
        assert server.live.snapshot() is server.live.snapshot()  # not read again meanwhile


def test_runs_are_compared(run: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "other", example_view(3, 2, seed=5))
    with served(run, tmp_path / "other") as server:
        news = json.loads(get(server, "news?since="))
        assert "Comparison of runs" in news["main"]
        lines = news["figures"]["compare"]["data"]
        assert [line["name"] for line in lines] == [str(run), str(tmp_path / "other")]
        for line in lines:
            assert line["y"] == sorted(line["y"])  # the best so far never falls


def test_a_run_that_is_gone_is_an_answer(run: Path) -> None:
    with served(run) as server:
        server.live.snapshot()
        with pytest.raises(UserError):
            Server([run], server.port)
    with served(run.with_name("none")) as server:
        with pytest.raises(RunError):
            server.live.snapshot()
        assert status(server, "GET", "/") in (404, 503)


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    write_run(tmp_path / "run", LedgerView(()))
    with served(tmp_path / "run") as server:
        assert "No trial is complete yet" in get(server, "")


def test_a_job_without_a_result_can_be_shown(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Ledger.create(run, FACTS) as ledger, served(run) as server:
        ledger.ask(Job("seed", 0, 0, None, "", 1, 100, example_view(0).trials[0].job.graph))
        assert "Trial 0.0" in get(server, "trial/0.0")
