"""Callbacks: any of the methods, one mechanism."""

from typing import Any

import pytest
from cli_support import seed_job, told

from nas.base.errors import UserError
from nas.run.events import EVENTS, Callback, Callbacks, Silent


def test_the_events_are_the_methods_of_a_callback() -> None:
    assert len(EVENTS) == 7
    for name in EVENTS:
        assert getattr(Callbacks([]), name)
        assert getattr(Callback, name)


def test_each_hears_what_it_has_a_method_for_in_the_order_given() -> None:
    heard: list[Any] = []

    class One:
        def on_trial_end(self, record: Any) -> None:
            heard.append(("one", record.key))

    class Other:
        def on_trial_end(self, record: Any) -> None:
            heard.append(("other", record.key))

        def on_step(self, *facts: Any) -> None:
            heard.append(facts)

    all_ = Callbacks([One(), Silent(), Other()])
    all_.on_trial_end(told(seed_job(), 0.5))
    all_.on_step("0.0", 1, 2, 0.5)
    assert heard == [("one", "0.0"), ("other", "0.0"), ("0.0", 1, 2, 0.5)]


def test_an_object_that_would_hear_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="object"):
        Callbacks([object()])
