"""What Tune is asked to do: a worker in each place, jobs for those that are up, an end where none comes up."""

import copy
import pickle
from typing import Any

import pytest
from ray.tune.search import Searcher

from nas.execute.ray.messages import STARTUP, JobRequest, Order
from nas.execute.ray.tune import STARTS, Feed, Mailbox, NoWorker, Place
from nas.ledger import Job

ORDER = Order("{}", "", "", (), None, None, ())


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def submitted(mailbox: Mailbox, *numbers: int) -> None:
    for number in numbers:
        job = Job("child", 1, number, "0.0", "", 0, 1, "")
        mailbox.waiting.put(JobRequest(number, ORDER, job, {}))


def suggested(feed: Feed, trial: str) -> tuple[int, int] | None:
    """The place and the number of the request that a trial is given."""
    given: Any = feed.suggest(trial)
    return None if given is None else (given["place"], given["request"].number)


def test_workers_start_before_the_jobs_which_go_to_those_that_are_up(mailbox: Mailbox) -> None:
    feed = Feed(mailbox, ORDER, 2)
    submitted(mailbox, 7, 8)
    assert [suggested(feed, trial) for trial in "abc"] == [(0, STARTUP), (1, STARTUP), None]
    feed.on_trial_complete("b")
    assert suggested(feed, "c") == (1, 7)
    assert suggested(feed, "d") is None  # for the second job its worker is still starting
    feed.on_trial_complete("c")
    assert suggested(feed, "d") == (1, 8)


def test_a_worker_that_died_is_started_again(mailbox: Mailbox) -> None:
    feed = Feed(mailbox, ORDER, 1)
    submitted(mailbox, *range(2 * STARTS))
    for number in range(2 * STARTS):
        assert suggested(feed, "start") == (0, STARTUP)
        feed.on_trial_complete("start")
        assert suggested(feed, "job") == (0, number)
        feed.on_trial_complete("job", error=True)
    assert mailbox.news.empty()


def test_a_place_where_no_worker_comes_up_is_given_up_and_the_last_one_is_told(mailbox: Mailbox) -> None:
    feed = Feed(mailbox, ORDER, 2)
    submitted(mailbox, 7)
    assert suggested(feed, "good") == (0, STARTUP)
    for attempt in range(STARTS):
        assert suggested(feed, f"bad {attempt}") == (1, STARTUP)
        feed.on_trial_complete(f"bad {attempt}", error=True)
    assert suggested(feed, "more") is None
    assert mailbox.news.empty()  # the other may still come up
    mailbox.cause = "no such module"
    for attempt in range(STARTS):
        feed.on_trial_complete(f"good {attempt}" if attempt else "good", error=True)
        if attempt < STARTS - 1:
            assert suggested(feed, f"good {attempt + 1}") == (0, STARTUP)
    assert mailbox.news.get_nowait() == NoWorker("no such module")
    assert suggested(feed, "more") is None


def test_nothing_is_suggested_any_more_once_the_desk_is_closed(mailbox: Mailbox) -> None:
    feed = Feed(mailbox, ORDER, 1)
    assert suggested(feed, "start") == (0, STARTUP)
    feed.on_trial_complete("start")
    mailbox.close()
    assert feed.suggest("job") == Searcher.FINISHED


def test_places_ask_for_the_same_and_are_not_the_same() -> None:
    here, there = (Place(number, {"CPU": 1.0, "GPU": 0.5}) for number in (0, 1))
    assert here.bundles == there.bundles == [{"CPU": 1.0, "GPU": 0.5}]
    assert here != there
    assert len({here, there, Place(0, {"CPU": 1.0, "GPU": 0.5})}) == 2
    for again in (copy.deepcopy(here), pickle.loads(pickle.dumps(here))):
        assert again == here
        assert hash(again) == hash(here)
