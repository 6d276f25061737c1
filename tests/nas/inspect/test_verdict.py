"""What a finished search is compared with, and what is said of it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from engine_support import Inline, tiny

from nas.inspect.rows import status_rows
from nas.inspect.status import run_status
from nas.inspect.verdict import beside, ending, remarks
from nas.ledger import LedgerView
from nas.ledger.described import Settings
from nas.report import write_report
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import search


@pytest.fixture(scope="module")
def ungrown(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return search(tiny(generations=0), tmp_path_factory.mktemp("ungrown") / "run", Silent(), "", Inline)


def scored(
    view: LedgerView, scores: Mapping[str, float], grown: bool = False, wall: float = 100.0
) -> LedgerView:
    """`view` with other scores of the final network and of baselines; it has another architecture if it is `grown`."""
    records = list(view.trials)
    assert records[-1].job.final
    result = records[-1].result
    assert result is not None
    simple = {name: value for name, value in scores.items() if not name.startswith("test")}
    own = {name: value for name, value in scores.items() if name.startswith("test")}
    changed = replace(result, scores={**result.scores, **own}, baselines={**result.baselines, **simple})
    records[-1] = replace(records[-1], result=replace(changed, fingerprint="0" * 64) if grown else changed)
    return LedgerView(tuple(records), replace(view.notes, wall=wall))


def test_the_final_network_stands_beside_baselines_and_the_seed_network(ungrown: Outcome) -> None:
    final = ungrown.view.final
    assert final is not None
    assert final.result is not None
    text = beside(ungrown.view, Settings())
    assert text is not None
    for value in (final.result.baselines["linear_test"], final.result.baselines["simple_test"]):
        assert f"{100 * value:.2f}" in text
    assert ungrown.test is not None
    assert set(ungrown.test.values) == {"accuracy"}
    assert beside(LedgerView(ungrown.view.trials[:-1]), Settings()) is None
    assert "the seed network" in text
    assert "seed network" not in str(beside(ungrown.view, Settings(start="0" * 64)))


def test_status_and_report_say_that_nothing_grew(ungrown: Outcome) -> None:
    status = run_status(ungrown.run)
    assert any("nothing grew" in text for text in status.remarks)
    assert set(status.remarks) <= {text for _, text in status_rows(status)}
    page = write_report(ungrown.run).read_text()
    assert "nothing grew" in page
    assert "a linear model" in page


def test_a_baseline_that_wins_is_named(ungrown: Outcome) -> None:
    def said(**scores: float) -> str:
        return " ".join(remarks(scored(ungrown.view, scores, grown=True), Settings()))

    assert said(test_accuracy=0.9, linear_test=0.8, simple_test=0.1) == ""
    assert "a linear model is better" in said(test_accuracy=0.7, linear_test=0.8, simple_test=0.1)
    assert "a linear model is as good" in said(test_accuracy=0.8, linear_test=0.8, simple_test=0.1)
    assert "the commonest answer is better" in said(test_accuracy=0.1, linear_test=0.05, simple_test=0.2)


def test_a_budget_that_was_not_used_has_its_reason(ungrown: Outcome) -> None:
    def said(wall: float, **settings: float) -> str:
        view = scored(ungrown.view, {"test_accuracy": 0.99}, grown=True, wall=wall)
        return " ".join(remarks(view, Settings(**settings)))  # type: ignore[arg-type]

    assert said(95.0, budget=100.0) == ""
    assert said(50.0) == ""
    assert "--most-epochs" in said(50.0, budget=100.0, most_epochs=300.0)
    assert "--generations" in said(50.0, budget=100.0)
    view = scored(ungrown.view, {"test_accuracy": 0.99}, grown=True, wall=50.0)
    final = view.trials[-1]
    assert final.result is not None
    shortened = replace(final, result=replace(final.result, lengths=((1, final.job.steps - 1),)))
    by_clock = LedgerView((*view.trials[:-1], shortened), view.notes)
    [text] = remarks(by_clock, Settings(budget=100.0, most_epochs=300.0))
    assert "--most-epochs" not in text  # the clock ended it, not the examples
    assert remarks(LedgerView(ungrown.view.trials[:-1]), Settings(budget=1e6)) == ()


def test_a_longer_budget_is_not_advised_where_it_would_not_be_used(ungrown: Outcome) -> None:
    short = scored(ungrown.view, {"test_accuracy": 0.7, "linear_test": 0.8}, wall=50.0)
    assert "longer --budget" in " ".join(remarks(short, Settings()))
    assert "longer --budget" not in " ".join(remarks(short, Settings(budget=100.0, most_epochs=300.0)))


def test_no_move_after_the_last_generation_ended_nothing(ungrown: Outcome) -> None:
    last = max(record.job.generation for record in ungrown.view.searched)
    done = ending(ungrown.view, Settings(generations=last), "exhausted")
    assert done == ending(ungrown.view, Settings(), "generations")
    assert done != ending(ungrown.view, Settings(generations=last + 1), "exhausted")


def test_limits_that_ended_the_search_are_named(ungrown: Outcome) -> None:
    view = scored(ungrown.view, {"test_accuracy": 0.99}, grown=True)
    ended = LedgerView(view.trials, replace(view.notes, stopped="exhausted"))
    settings = Settings(limits={"macs": 400_000})
    assert "--limit macs=N" in " ".join(remarks(ended, settings))
    assert remarks(view, settings) == ()


def test_old_runs_without_baselines_have_none(ungrown: Outcome) -> None:
    final = ungrown.view.trials[-1]
    assert final.result is not None
    record = replace(final, result=replace(final.result, baselines={}))
    view = LedgerView((*ungrown.view.trials[:-1], record), ungrown.view.notes)
    assert "linear" not in str(beside(view, Settings()))
    assert not any("linear" in text for text in remarks(view, Settings()))
