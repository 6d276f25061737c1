from pathlib import Path

import pytest
from cli_support import DEEPEN, Hand, config, failed, final_job, job, seed_job, told, view

from nas.progress.state import RunProgress, describe

RUN = Path("runs/x")


def opened(clock: Hand, **changes: object) -> RunProgress:
    progress = RunProgress(clock)
    progress.open(RUN, config(**changes), view(), resumed=False)
    return progress


def test_steps_and_ends_make_the_share_of_a_generation() -> None:
    progress = opened(Hand())
    jobs = [job(1, slot) for slot in range(4)]
    progress.start(1, jobs)
    assert (progress.ended, progress.part) == (0, 0.0)
    progress.step("1.0", 50, 0.5)
    progress.tell(failed(jobs[1], "NaN"))
    progress.step("7.7", 50, 0.5)  # a straggler of another generation changes nothing
    assert (progress.ended, progress.part) == (1, 1.5 / 4)


def test_the_best_is_the_last_generations_winner_and_the_final_network_at_the_end() -> None:
    progress = opened(Hand())
    for of, accuracy in ((seed_job(), 0.8), (job(1, 1), 0.7)):
        progress.start(of.generation, [of])
        progress.tell(told(of, accuracy))
        progress.end(told(of, accuracy))
    assert progress.best is not None
    assert progress.best.key == "1.1"
    progress.start(2, [final_job(2)])
    progress.tell(failed(final_job(2), "NaN"))
    assert progress.best.key == "1.1"
    progress.tell(told(final_job(2), 0.75))
    assert progress.best.key == "2.0"


def test_time_left_is_the_budget_less_all_sittings() -> None:
    clock = Hand()
    progress = RunProgress(clock)
    progress.open(RUN, config(budget=600, generations=None), view(notes={"wall": 100.0}), resumed=True)
    clock.now += 50
    assert progress.left() == pytest.approx(450)
    assert progress.share() == pytest.approx(150 / 600)
    clock.now += 1000
    assert progress.left() == 0.0
    assert progress.share() == 1.0


def test_time_left_is_estimated_from_the_generations_done() -> None:
    clock = Hand()
    progress = opened(clock, generations=3, final_share=0.2)
    assert progress.left() is None
    progress.start(0, [seed_job()])
    assert progress.left() is None
    clock.now += 10
    progress.tell(told(seed_job()))
    # Four generations with the seed's, and a fifth of all for the final training: five units of 10 s.
    assert progress.left() == pytest.approx(40)
    progress.start(4, [final_job(4)])
    clock.now += 35
    progress.step("4.0", 50, 0.1)
    assert progress.left() == pytest.approx(35)  # as long as the first half of its steps took


def test_a_resumed_run_estimates_from_its_own_sitting() -> None:
    clock = Hand()
    progress = RunProgress(clock)
    progress.open(RUN, config(generations=3, final_share=0), view(notes={"wall": 500.0}), resumed=True)
    progress.start(2, [job(2, 0)])
    clock.now += 10
    progress.tell(told(job(2, 0)))
    assert progress.left() == pytest.approx(10)  # generation 3


def test_a_budget_and_generations_give_the_sooner_end() -> None:
    clock = Hand()
    progress = opened(clock, generations=3, final_share=0, budget=25.0)
    progress.start(0, [seed_job()])
    clock.now += 10
    progress.tell(told(seed_job()))
    assert progress.left() == pytest.approx(15)


def test_jobs_in_a_few_words() -> None:
    assert describe(seed_job()) == "the seed network"
    assert describe(job(1, 0, kind="parent", moves="")) == "parent, unchanged"
    assert describe(final_job(3)) == "final training"
    chain = f"{DEEPEN}; widen(node=c1, to=16, how=zero)"
    assert describe(job(moves=chain)) == "deepen(node=r1, kernel=[3, 3]); widen(node=c1, to=16, how=zero)"
    assert describe(job(moves="of_a_later_version(x=1)")) == "of_a_later_version(x=1)"
