import math

import pytest
import torch
from torch import nn

from nas.base.errors import TrainingFailed
from nas.train.divergence import LossWatch, non_finite


def feed(watch, values):
    return [watch.add(torch.tensor(value)) for value in values]


def test_looking_each_step():
    watch = LossWatch(3, 1, "rest")
    assert feed(watch, [3.0, 2.0, 1.0]) == [3, 2, 1]
    assert watch.final == 1


def test_looking_now_and_then_sees_everything_by_the_end():
    watch = LossWatch(5, 2, "rest")
    newest = feed(watch, [5.0, 4.0, 3.0, 2.0, 1.0])
    assert math.isnan(newest[0])
    assert newest[1:] == [4, 4, 2, 1]
    assert watch.seen == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("every", [1, 2, 4, 50])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_loss_is_reported_with_its_own_step(every, bad):
    watch = LossWatch(6, every, "lower lr")
    with pytest.raises(TrainingFailed, match=r"at step 3 of 6 of training; lower lr"):
        feed(watch, [1.0, 1.0, bad, 1.0, 1.0, 1.0])


def test_final_is_the_mean_over_the_last_tenth():
    watch = LossWatch(20, 7, "rest")
    feed(watch, [float(i) for i in range(20)])
    assert watch.final == 18.5


def test_non_finite_names_the_tensors():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert non_finite(net) == frozenset()
    with torch.no_grad():
        net[0].bias[1] = math.inf
        net[1].running_var[0] = math.nan
    assert non_finite(net) == {"0.bias", "1.running_var"}
