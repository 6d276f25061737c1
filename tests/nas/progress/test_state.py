from pathlib import Path

import pytest
from cli_support import DEEPEN, Hand, config, failed, final_job, job, seed_job, told, view

from nas.progress.state import RunProgress, describe, value_of
from nas.progress.views import verdict

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
    # Three generations of three trials; a fifth of the lineage's steps, at 0.1 s, is final; 7 s to evaluate and end.
    assert progress.left() == pytest.approx(3 * 3 * 10 + 100 * 0.1 + 7)
    progress.start(4, [final_job(4)])
    clock.now += 35
    progress.step("4.0", 50, 0.1)
    assert progress.left() == pytest.approx(35, abs=1)  # as long as the first half of its steps took
    for step in (60, 70, 80):
        clock.now += 2
        progress.step("4.0", step, 0.1)
    assert progress.left() == pytest.approx(
        20 * 0.2 + 1
    )  # its first steps, and what came before them, took longer


def test_the_longest_training_of_few_examples_ends_a_budget() -> None:
    """A trial of 100 steps is five epochs, and thirty are the most; the final training gets what is left of them."""
    clock = Hand()
    progress = opened(
        clock, generations=1, children=1, budget=1000.0, most_epochs=30.0, epochs=5.0, final_share=0.5
    )
    train_seed(progress, clock)
    progress.start(1, [job(1, 0)])
    clock.now += 10
    progress.tell(told(job(1, 0)))
    progress.end(told(job(1, 0)))
    left = progress.left()
    assert left is not None
    assert left == pytest.approx(400 * 0.1 + 7)


def train_seed(progress: RunProgress, clock: Hand) -> None:
    """The seed network takes ten seconds."""
    progress.start(0, [seed_job()])
    clock.now += 10
    progress.tell(told(seed_job()))
    progress.end(told(seed_job()))


def test_a_resumed_run_estimates_from_its_own_sitting() -> None:
    clock = Hand()
    progress = RunProgress(clock)
    progress.open(RUN, config(generations=3, final_share=0), view(notes={"wall": 500.0}), resumed=True)
    progress.start(2, [job(2, 0)])
    clock.now += 10
    progress.tell(told(job(2, 0)))
    assert progress.left() == pytest.approx(2 * 10 + 3 * 10 + 7)  # the rest of generation 2, and generation 3


def test_time_left_shrinks_until_it_is_far_too_low() -> None:
    clock = Hand()
    progress = opened(clock, generations=3, final_share=0)
    train_seed(progress, clock)
    before = progress.left()
    assert before is not None
    progress.start(1, [job(1, slot) for slot in range(3)])
    for slot in range(3):
        clock.now += 10.5  # a little slower than the seed network
        progress.tell(told(job(1, slot)))
        after = progress.left()
        assert after is not None
        assert after <= before
        before = after
    progress.end(told(job(1, 0)))
    progress.start(2, [job(2, slot) for slot in range(3)])
    clock.now += 60  # and now much slower
    progress.tell(told(job(2, 0)))
    last = progress.left()
    assert last is not None
    assert last > before


def test_trials_at_once_share_the_time() -> None:
    clock = Hand()
    progress = opened(clock, generations=2, final_share=0, workers=3)
    train_seed(progress, clock)
    jobs = [job(1, slot) for slot in range(3)]
    progress.start(1, jobs)
    clock.now += 12
    for each in jobs:
        progress.tell(told(each))
    assert progress.left() == pytest.approx(12 + 7)  # generation 2 takes as long


def test_a_network_that_grows_takes_longer() -> None:
    """Each generation doubles it, as far as is known: so trials take 1.5 ** 0.75 times as long each, at most."""
    clock = Hand()
    progress = opened(clock, generations=3, final_share=0)
    train_seed(progress, clock)
    jobs = [job(1, slot) for slot in range(3)]
    progress.start(1, jobs)
    for each in jobs:
        clock.now += 10
        progress.tell(told(each, macs=2 * 5678))
    progress.end(told(jobs[0], macs=2 * 5678))
    rate = 1.5**0.75
    assert progress.left() == pytest.approx(3 * 10 * (rate + rate**2) + 7)
    progress.start(2, [job(2, slot) for slot in range(3)])  # it has twice the cost of the one before
    assert progress.left() == pytest.approx(
        min(3 * 10 * (rate + rate**2), 3 * 10 * 2**0.75 * (1 + 1.5**0.75)) + 7, rel=0.2
    )


def test_a_cost_gives_the_time_left_too() -> None:
    """The seed network's trial took 10 s and cost 3 * 100 * 128 * 5678 multiply-adds; four times that is left
    for the search, five times for the final training."""
    clock = Hand()
    each = 3 * 100 * 128 * 5678
    progress = opened(clock, generations=None, cost=10.0 * each, final_share=0.5, train={"batch_size": 128})
    progress.start(0, [seed_job()])
    clock.now += 10
    progress.tell(told(seed_job()))
    assert progress.left() == pytest.approx(9 * 10 + 7)


def test_what_selects_is_shown_and_named() -> None:
    best = told(seed_job(), 0.9)
    assert value_of(best, "accuracy", full=True) == "90.00 %"
    assert value_of(best, "loss") == "loss 0.3"
    assert value_of(best, "loss", full=True) == "loss 0.3 (90.00 %)"
    worse = told(job(1, 0), scores={"val_accuracy": 0.95, "val_loss": 0.4})
    assert "+0.1; the best is" in verdict(1, best, worse, "loss")  # by accuracy it would be better
    assert ";" not in verdict(1, best, worse, "accuracy").rpartition("val ")[2]


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
