import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_support import EVIL, FACTS, example_view, standing_of, with_running, write_run

from nas.base.errors import RunError
from nas.inspect.rows import front_rows
from nas.ledger import LedgerView
from nas.ledger.described import Settings
from nas.policies.front import Front, front_of_run
from nas.report import write_report
from nas.report.charts import figures
from nas.report.page import fact_tables, render
from nas.report.tables import drift_rows, move_rows, trial_rows
from nas.report.tree import tree_svg

WHOLE = example_view()


def page(view: LedgerView, state: str = "finished") -> str:
    """The page without plotly's own source."""
    html = render(view, FACTS, standing_of(view, state))
    return re.sub(r"<script>/\*\*.*?</script>", "", html, flags=re.DOTALL)


def test_every_trial_move_reason_and_setting_is_there() -> None:
    html = page(WHOLE)
    for record in WHOLE.trials:
        assert f">{record.key}" in html
    for expected in (
        "loss is NaN at step 17",
        "96.31 %",
        "read once",
        FACTS["command"],
        "train.batch_size",
        "2.10.0",
    ):
        assert expected in html


def test_what_a_run_says_is_never_markup() -> None:
    html = page(WHOLE, "running")
    assert EVIL not in html
    assert "<script>alert" not in html
    assert "exit code 1: &lt;script&gt;alert" in html
    assert "<b>best</b>" not in html
    assert "on <host>" not in html


def test_the_page_asks_for_nothing_from_outside() -> None:
    html = page(WHOLE)
    asked = re.findall(r"""(?:src|href|action)\s*=\s*["']?[^\s"'>]{0,40}|@import|url\(""", html)
    assert all(re.search(r"""=["']?(#|data:)""", name) for name in asked), asked
    assert set(re.findall(r"https?://[^\s\"'<)]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in html


@pytest.mark.parametrize(
    ("view", "state", "expected"),
    [
        (with_running(WHOLE), "running", "not read before the final training ends"),
        (with_running(WHOLE), "stopped", "nas resume runs/digits-digits-001"),
        (example_view(0, final=False), "stopped", "the seed network itself"),
        (LedgerView(()), "running", "No trial is complete yet"),
    ],
)
def test_runs_that_are_not_finished(view: LedgerView, state: str, expected: str) -> None:
    assert expected in page(view, state)


def test_hundreds_of_trials_stay_light() -> None:
    view = example_view(40, 8)
    assert len(view.trials) == 362
    assert len(render(view, FACTS, standing_of(view, "finished")).encode()) < 8e6


def test_the_tree_has_an_edge_to_every_child_and_one_strong_line() -> None:
    tree = ElementTree.fromstring(tree_svg(trial_rows(WHOLE)))
    paths = [item.attrib["class"] for item in tree.iter() if item.tag.endswith("path")]
    assert len(paths) == len(WHOLE.trials) - 1
    assert sum("line" in names.split() for names in paths) == 7  # six generations and the final training
    assert sum("failed" in names.split() for names in paths) == 3
    texts = [item.text or "" for item in tree.iter() if item.tag.endswith("text")]
    assert sum(text == "unchanged" for text in texts) == 6
    assert sum(text.startswith("★") for text in texts) == 1
    tips = {item.text for item in tree.iter() if item.tag.endswith("title")}
    assert {
        row.steps[0] for row in trial_rows(WHOLE) if len(row.steps) == 2 and row.state != "failed"
    } <= tips


def test_charts_show_every_complete_trial_once() -> None:
    rows = trial_rows(WHOLE)
    charts = figures(rows, move_rows(rows), drift_rows(rows))
    assert set(charts) == {"time", "params", "gain", "drift"}
    for name in ("time", "params"):
        points = [x for trace in charts[name]["data"] if trace["mode"] == "markers" for x in trace["x"]]
        assert len(points) == len(WHOLE.complete)
    assert figures((), (), ()) == {}


@pytest.mark.parametrize("objective", ["params", "macs"])
def test_the_front_of_a_search_for_two_ends_is_shown(objective: str) -> None:
    view = example_view()
    front = front_of_run(view, Settings(policy="pareto", objective=objective))
    assert front is not None
    assert 1 < len(front.points) < len(view.complete)
    html = render(view, FACTS, replace(standing_of(view, "finished"), front=front))
    (others, stair) = json.loads(re.findall(r'id="figures"[^>]*>(.*?)</script>', html)[0])["front"]["data"]
    assert stair["x"] == [point.cost for point in front.points] == sorted(stair["x"])
    searched = [record for record in view.complete if record.job.kind != "final"]
    assert len(others["x"]) + len(stair["x"]) == len(searched)
    for point in front.points:
        assert f"<td>{point.trial}</td>" in html
    assert "the front</h2>" not in page(view)
    said = [line.split()[0] for _, line in front_rows(front)]
    assert said == [point.trial for point in front.points]


def test_the_front_of_a_latency_is_shown_alone() -> None:
    """The latencies of the others are not kept."""
    view = example_view()
    front = front_of_run(view, Settings(policy="pareto", objective="macs"))
    assert front is not None
    timed = Front("latency", tuple(replace(point, cost=0.001 * point.cost) for point in front.points))
    html = render(view, FACTS, replace(standing_of(view, "finished"), front=timed))
    (stair,) = json.loads(re.findall(r'id="figures"[^>]*>(.*?)</script>', html)[0])["front"]["data"]
    assert stair["x"] == [1000 * point.cost for point in timed.points]


def test_facts_are_flattened() -> None:
    assert fact_tables({"config": {"a": {"b": 1}, "c": None, "d": [1, 2], "e": {}}, "other": 1}) == {
        "config": [("a.b", "1"), ("c", "–"), ("d", "1, 2"), ("e", "–")]
    }


def test_a_run_on_disk_gets_its_report(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, example_view(2, 3))
    path = write_report(run)
    assert path == run / "report.html"
    html = path.read_text(encoding="utf-8")
    assert "96.31 %" in html
    assert sorted(entry.name for entry in run.iterdir() if entry.name.startswith(".")) == []
    assert write_report(run).read_text(encoding="utf-8") == html


def test_no_run_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_too_large_to_draw_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger may hold a graph of a hundred thousand nodes, whose drawing would take minutes."""
    view = example_view()
    monkeypatch.setattr("nas.report.details.MAX_DRAWN", 2)
    page = render(view, FACTS, standing_of(view, "finished"))
    assert "nodes, too many to draw" in page
