import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nas.base.errors import UserError
from nas.train import TrainConfig, learning_rate, steps_for
from nas.train.schedule import position


def test_cosine_by_hand():
    config = TrainConfig(lr=1.0, lr_min=0.0)
    assert [learning_rate(i, 4, config) for i in range(4)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )


def test_warm_up_leads_linearly_to_the_top():
    config = TrainConfig(lr=0.3, lr_min=0.1, warmup_steps=2)
    rates = [learning_rate(i, 100, config) for i in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


@given(
    total=st.integers(1, 300),
    warmup=st.integers(0, 400),
    lr=st.floats(1e-4, 10),
    share=st.floats(0, 1),
)
@example(total=1, warmup=0, lr=0.9, share=0.328125)
def test_rates_stay_between_their_ends_and_fall_after_the_warm_up(total, warmup, lr, share):
    config = TrainConfig(lr=lr, lr_min=lr * share, warmup_steps=warmup)
    rates = [learning_rate(i, total, config) for i in range(total)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(lr)
    assert top == min(warmup, total // 2)
    assert all(0 < rate <= lr for rate in rates)
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates[top:]) >= lr * share * (1 - 1e-12)


def test_equal_cost_is_the_design_formula():
    # 3 x 1e6 x 45,000 x 2 multiply-adds, of which a step takes 3 x 2e6 x 100.
    assert steps_for(10**6, 2 * 10**6, 45_000, 2, 100) == 450
    assert steps_for(10**6, 10**6, 45_000, 2, 100) == 900
    assert steps_for(10**6, 10**6, 1_000, 0.5, 100) == 5


def test_steps_are_rounded_to_the_nearest_whole_batch_and_never_none():
    assert steps_for(3, 2, 10, 1, 4) == round(15 / 4)
    assert steps_for(1, 10**12, 10, 0.001, 128) == 1


@given(
    incumbent=st.integers(1, 10**11),
    own=st.integers(1, 10**11),
    images=st.integers(1, 10**7),
    epochs=st.floats(1e-3, 1e3),
    batch=st.integers(1, 4096),
)
def test_costs_differ_by_at_most_half_a_batch(incumbent, own, images, epochs, batch):
    steps = steps_for(incumbent, own, images, epochs, batch)
    allotment, per_step = 3 * incumbent * images * epochs, 3 * own * batch
    assert steps == 1 or abs(steps * per_step - allotment) <= 0.5 * per_step * (1 + 1e-9) + 1e-9 * allotment


@pytest.mark.parametrize("bad", [{"epochs": 0.0}, {"epochs": math.nan}, {"macs_self": 0}, {"images": 0}])
def test_an_allotment_of_nothing_is_refused(bad):
    given_ = {"macs_incumbent": 1, "macs_self": 1, "images": 1, "epochs": 1.0, "batch_size": 1} | bad
    with pytest.raises(UserError, match=next(iter(bad))):
        steps_for(**given_)


def test_a_lineage_by_hand():
    config = TrainConfig(lr=1.0, lr_min=0.2, warmup_steps=1)
    assert [learning_rate(i, 6, config, decay=3) for i in range(6)] == pytest.approx(
        [0.5, 1, 1, 0.8, 0.6, 0.4]
    )
    assert [learning_rate(i, 4, config, decay=0) for i in range(4)] == pytest.approx([0.5, 1, 1, 1])


@given(total=st.integers(1, 200), warmup=st.integers(0, 300), share=st.floats(0, 1), cut=st.floats(0, 1))
def test_stretches_of_a_lineage_have_the_rates_of_the_whole(total, warmup, share, cut):
    """A trial does not know how long the search will be, and its rates are those of the whole schedule."""
    config = TrainConfig(lr=0.3, warmup_steps=warmup)
    decay = round(share * total)
    whole = [learning_rate(i, total, config, decay) for i in range(total)]
    end = round(cut * (total - decay))
    assert [learning_rate(i, end, config, 0) for i in range(end)] == whole[:end]
    assert all(0 < rate <= 0.3 for rate in whole)
    assert whole[max(warmup, total - decay) :] == sorted(whole[max(warmup, total - decay) :], reverse=True)


def test_a_schedule_whose_length_changes_on_the_way_has_no_jump_and_ends_where_it_would_have_ended():
    assert [position(step, 100) for step in (0, 1, 99)] == [0, 1, 99]
    assert [position(step, 100, ((60, 80),)) for step in (59, 60, 61, 79)] == [59, 60, 62, 98]
    twice = [position(step, 100, ((60, 80), (70, 90))) for step in (60, 69, 70, 71, 89)]
    assert twice == [60, 78, 80, 81, 99]


@given(
    changes=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 200)), max_size=4),
    config=st.sampled_from([(None, 0), (30, 10), (0, 3)]),
)
def test_rates_stay_within_those_of_the_planned_schedule(changes, config):
    decay, warmup = config
    steps, done, lengths = 200, 0, []
    for more, left in changes:
        done += more
        if lengths and done >= lengths[-1][1]:
            break
        lengths.append((done, done + left))
    end = lengths[-1][1] if lengths else steps
    at = [position(step, steps, lengths) for step in range(end)]
    assert at == sorted(at)
    assert all(0 <= place < steps for place in at)
    settings = TrainConfig(lr=1.0, lr_min=0.01, warmup_steps=warmup)
    planned = [learning_rate(step, steps, settings, decay) for step in range(steps)]
    changed = [learning_rate(place, steps, settings, decay) for place in at]
    assert settings.lr_min <= min(changed) <= max(changed) <= max(planned) + 1e-9
