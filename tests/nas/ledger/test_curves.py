"""Learning curves: kept beside the results, read back by whoever looks, and no part of what was decided."""

from collections.abc import Callable
from pathlib import Path

import optuna

import morphs
from nas.ledger import Job, Ledger, Result, read, read_with_curves
from nas.run.curves import POINTS, Curves

Jobs, Results, Make = Callable[..., Job], Callable[..., Result], Callable[[int], morphs.Network]


def test_a_curve_is_read_back_and_is_what_optuna_calls_intermediate_values(run: Path, job: Jobs) -> None:
    with Ledger.create(run, {}) as ledger:
        number = ledger.ask(job())
        ledger.curve({number: [(1, 2.5), (10, 1.25)]})
        before = ledger.view().digest
        ledger.curve({number: [(20, 0.5)]})
        assert ledger.view().digest == before
        _, curves = read_with_curves(run)  # while the driver is at work
        assert curves == {job().key: ((1, 2.5), (10, 1.25), (20, 0.5))}
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{run / 'ledger.db'}")
    assert study.get_trials()[0].intermediate_values == {1: 2.5, 10: 1.25, 20: 0.5}


def test_a_second_attempt_replaces_the_first(run: Path, job: Jobs) -> None:
    with Ledger.create(run, {}) as ledger:
        number = ledger.ask(job())
        ledger.curve({number: [(1, 2.5), (10, 1.25), (20, 0.5)]})
    with Ledger.open(run) as ledger:  # it was killed, and continues from a pause after step 10
        ledger.curve({number: [(11, 1.0)]})
    assert read_with_curves(run)[1] == {job().key: ((1, 2.5), (10, 1.25), (11, 1.0))}


def test_a_run_without_curves_is_read(run: Path, job: Jobs) -> None:
    with Ledger.create(run, {}) as ledger:
        ledger.ask(job())
    assert read_with_curves(run) == (read(run), {})


def test_curves_are_thinned_and_hold_finite_numbers_only(run: Path, job: Jobs) -> None:
    with Ledger.create(run, {}) as ledger:
        number, steps = ledger.ask(job()), 5000
        curves = Curves(ledger)
        for step in range(1, steps + 1):
            curves.add(number, step, steps, float("nan") if step == steps // 2 else 1 / step)
            curves.write()
        curves.write(now=True)
        curves.write(now=True)  # nothing is left
    points = read_with_curves(run)[1][job().key]
    assert POINTS / 2 < len(points) <= POINTS + 1
    assert points[-1] == (steps, 1 / steps)
    assert all(loss == 1 / step for step, loss in points)
