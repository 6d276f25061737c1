"""A training that must end in time, on a machine whose speed changes: the clock is the test's own."""

from collections.abc import Callable

import pytest

from nas.train.deadline import Deadline


def trained(
    seconds: float, steps: int, pace: Callable[[float], float], after: float = 0.0, most: int | None = None
) -> tuple[float, int, list[int]]:
    """Seconds until the last step, the steps taken, and all lengths on the way. pace: seconds a step, by the time.

    most: steps, at most; None: those that are planned.
    """
    now, done, lengths = 0.0, 0, [steps]
    deadline = Deadline(seconds, after, 0.1, most or steps, lambda: now)
    while done < lengths[-1]:
        now, done = now + pace(now), done + 1
        if (length := deadline(done, lengths[-1])) != lengths[-1]:
            lengths.append(length)
    return now, done, lengths


def test_a_steady_machine_keeps_what_was_planned() -> None:
    assert trained(100.0, 900, lambda _: 0.1) == (pytest.approx(90.0), 900, [900])


@pytest.mark.parametrize("slower", [1.5, 3.0, 10.0, 50.0])
@pytest.mark.parametrize("begins", [0.0, 30.0, 80.0])
def test_a_machine_that_becomes_busy_ends_in_time(slower: float, begins: float) -> None:
    now, done, lengths = trained(100.0, 950, lambda at: 0.1 * (slower if at >= begins else 1.0))
    assert 90.0 < now <= 100.0 + 0.1 * slower
    assert done < 950
    assert lengths == sorted(lengths, reverse=True)


def test_what_follows_becomes_slower_as_well() -> None:
    now, _, _ = trained(100.0, 850, lambda at: 0.5 if at >= 30.0 else 0.1, after=10.0)
    assert 40.0 < now < 60.0  # it takes five times 10 seconds


def test_a_machine_that_becomes_free_again_takes_up_to_what_was_planned() -> None:
    now, done, lengths = trained(100.0, 600, lambda at: 0.5 if 10.0 <= at < 30.0 else 0.1)
    assert done == 600
    assert min(lengths) < 400
    assert now < 100.0


@pytest.mark.parametrize("faster", [2.0, 5.0, 50.0])
def test_a_machine_that_is_free_again_after_the_plan_was_made_takes_what_fits(faster: float) -> None:
    now, done, _ = trained(100.0, 900, lambda at: 0.1 if at < 5.0 else 0.1 / faster, most=10**6)
    assert 95.0 < now <= 100.0
    assert done > 0.9 * 950 * faster


def test_no_more_steps_than_the_most_are_taken() -> None:
    assert trained(100.0, 900, lambda _: 0.01, most=1000)[1] == 1000


def test_a_short_disturbance_does_not_end_it() -> None:
    now, done, lengths = trained(20.0, 150, lambda at: 2.0 if 1.0 <= at < 3.0 else 0.1, after=3.0)
    assert min(lengths) > 50
    assert done > 120
    assert now <= 17.1


def test_no_time_at_all_ends_it_at_once() -> None:
    assert trained(0.0, 10_000, lambda _: 0.1) == (0.1, 1, [10_000, 1])
