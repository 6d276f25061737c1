import math

import pytest
import torch
from torch import nn

from nas.base.errors import TrainingFailed, UserError
from nas.data import Augment, SearchData, Split
from nas.train.evaluate import evaluate


def toy_data(images=37):
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 2, 6, 6), generator=source, dtype=torch.uint8)
    split = Split(pixels, torch.randint(3, (images,), generator=source))
    return SearchData(
        "toy", split, split, ("a", "b", "c"), (0.5, 0.4), (0.3, 0.2), Augment(flip=True, crop=2), "0" * 64
    )


def make_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)
        )


@pytest.mark.parametrize("batch_size", [1, 10, 37, 500])
def test_scores_are_those_of_the_whole_split_at_once(batch_size):
    data, net = toy_data(), make_net()
    scores = evaluate(net, data.val, data, batch_size=batch_size)
    net.eval()
    mean, std = (torch.tensor(v).reshape(1, 2, 1, 1) for v in (data.mean, data.std))
    out = net((data.val.images / 255 - mean) / std)
    assert scores.accuracy == pytest.approx((out.argmax(1) == data.val.labels).float().mean().item())
    assert scores.loss == pytest.approx(nn.functional.cross_entropy(out, data.val.labels).item(), rel=1e-5)


def test_the_network_is_left_as_it_was():
    data, net = toy_data(), make_net()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    evaluate(net, data.val, data)
    assert [m.training for m in net] == [True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(value.is_contiguous() for value in net.state_dict().values())
    assert torch.equal(state, torch.get_rng_state())


def test_repeated_scores_are_equal_and_bf16_is_close():
    data, net = toy_data(), make_net()
    exact = evaluate(net, data.val, data)
    assert exact == evaluate(net, data.val, data)
    assert evaluate(net, data.val, data, precision="bf16").loss == pytest.approx(exact.loss, rel=0.02)
    assert evaluate(net.double(), data.val, data).loss == pytest.approx(exact.loss, rel=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_not_finite_fail_the_child(value):
    data, net = toy_data(), make_net()
    with torch.no_grad():
        net[4].bias[0] = value
    with pytest.raises(TrainingFailed, match="not finite"):
        evaluate(net, data.val, data)


def test_other_classes_are_refused():
    data = toy_data()
    with pytest.raises(UserError, match="give it 3 outputs"):
        evaluate(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)), data.val, data)
