"""Training in portions, from a teacher, by averaged weights, and to a deadline."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, update_bn
from train_support import CONFIG, equal, make_net, run, toy_data, weights

from nas.base.errors import UserError
from nas.data import Augment, SearchData, Split
from nas.train import TrainConfig, train


def alike(size=8) -> SearchData:
    """One image again and again: no order of batches differs from another."""
    pixels = torch.arange(size * size, dtype=torch.uint8).reshape(1, 1, size, size).expand(32, -1, -1, -1)
    split = Split(pixels.contiguous(), torch.ones(32, dtype=torch.int64))
    return SearchData("alike", split, split, ("a", "b"), (0.4,), (0.25,), Augment(False, 0), "0" * 64)


@pytest.mark.parametrize(("precision", "optimizer"), [("fp32", "sgd"), ("bf16", "sgd"), ("fp32", "adamw")])
def test_portions_that_hand_the_optimizers_state_on_are_the_whole(precision, optimizer):
    config = replace(CONFIG, precision=precision, optimizer=optimizer)
    whole, parts, forgetful = (make_net(dropout=0.0, width=8) for _ in range(3))
    train(whole, alike(), steps=9, config=config, seed=0)
    first = train(parts, alike(), steps=4, total=9, config=config, seed=1)
    train(parts, alike(), steps=5, start=4, total=9, config=config, seed=2, state=first.state)
    assert equal(weights(whole), weights(parts))
    train(forgetful, alike(), steps=4, total=9, config=config, seed=1)
    train(forgetful, alike(), steps=5, start=4, total=9, config=config, seed=2)
    assert not equal(weights(whole), weights(forgetful))


@pytest.mark.parametrize(
    ("precision", "width", "optimizer"), [("fp32", 4, "sgd"), ("bf16", 24, "sgd"), ("fp32", 4, "adamw")]
)
@pytest.mark.parametrize("cuts", [(1,), (7, 8, 23)])
def test_a_run_that_pauses_ends_with_the_bits_of_one_that_does_not(precision, width, optimizer, cuts):
    """With dropout, batch norm, augmentation, a warm-up, and batches that end in the middle of an epoch."""
    config = replace(CONFIG, precision=precision, warmup_steps=3, optimizer=optimizer)
    data, steps = toy_data(images=90), 25
    whole, parts = make_net(width=width), make_net(width=width)
    report = train(whole, data, steps=steps, config=config, seed=4)
    paused, told = None, []
    for stop in (*cuts, None):
        torch.rand(3)  # the state of the global generator must not matter
        part = train(
            parts, data, steps=steps, config=config, seed=4, since=paused, until=stop,
            on_step=lambda step, of, loss: told.append((step, of)),
        )  # fmt: skip
        paused = part.paused
        fresh = make_net(width=width)  # as in another process: only the weights go on
        fresh.load_state_dict(weights(parts))
        parts = fresh
    assert equal(weights(whole), weights(parts))
    assert (part.loss, paused.losses) == (report.loss, report.paused.losses)
    for kept, held in zip(paused.state, report.state, strict=True):
        assert all(torch.equal(kept[name], value) for name, value in held.items())
    assert told == [(step, steps) for step in range(1, steps + 1)]


def test_a_part_that_is_none():
    paused = train(make_net(), toy_data(), steps=6, config=CONFIG, seed=0, until=4).paused
    for until in (0, 4):
        with pytest.raises(UserError, match=rf"\b4 to {until}\b.*\b6\b"):
            train(make_net(), toy_data(), steps=6, config=CONFIG, seed=0, since=paused, until=until)


def test_the_momentum_is_that_of_torch():
    net = make_net(dropout=0.0)
    reference = copy.deepcopy(net)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    config = TrainConfig(batch_size=32, lr=0.05, weight_decay=0.0, label_smoothing=0.0, precision="fp32")
    told = train(net, alike(), steps=1, config=config, seed=0).state[0]
    x = (alike().train.pixels.permute(0, 3, 1, 2).float() / 255 - 0.4) / 0.25
    reference.train()
    torch.nn.functional.cross_entropy(reference(x), alike().train.labels).backward()
    optimizer.step()
    for name, parameter in reference.named_parameters():
        assert torch.allclose(told[name], optimizer.state[parameter]["momentum_buffer"], atol=1e-5)


def test_a_teacher_is_learnt_from_and_left_as_it_was():
    teacher = make_net(dropout=0.0)
    train(teacher, toy_data(), steps=60, config=CONFIG, seed=0)
    before = weights(teacher)
    # Labels are worthless here: only the teacher tells the classes apart.
    data = toy_data()
    images = data.train.images
    blind = replace(data, train=Split(images, torch.randint(2, (96,), generator=torch.Generator())))
    x = (images.float() / 255 - 0.4) / 0.25

    def right(distill: float) -> float:
        pupil = make_net(seed=1, dropout=0.0)
        config = replace(CONFIG, distill=distill, precision="fp32")
        train(pupil, blind, steps=60, config=config, seed=0, teacher=teacher)
        return (pupil.eval()(x).argmax(1) == data.train.labels).float().mean().item()

    assert right(1.0) > 0.95
    assert right(0.0) < 0.8
    assert equal(weights(teacher), before)


def test_the_average_is_torchs_with_norms_brought_up_to_date() -> None:
    data = replace(toy_data(), augment=Augment(flip=False, crop=0))
    whole = replace(
        CONFIG, batch_size=96, precision="fp32"
    )  # every batch is the whole split, in another order
    net = make_net(dropout=0.0)
    steps: list[torch.nn.Module] = []
    report = train(
        net, data, steps=6, config=whole, seed=1, decay=0, average=4,
        on_step=lambda *_: steps.append(copy.deepcopy(net)),
    )  # fmt: skip
    oracle = AveragedModel(steps[2])
    for taken in steps[2:]:
        oracle.update_parameters(taken)
    x = (data.train.pixels.permute(0, 3, 1, 2).float() / 255 - 0.4) / 0.25
    update_bn([x], oracle)
    assert report.averaged is not None
    made = report.averaged.state_dict()
    for name, value in oracle.module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(made[name], value, rtol=1e-4, atol=1e-5)
    assert not equal(weights(net), {name: made[name] for name in weights(net)})


def test_averaging_changes_nothing_in_the_training() -> None:
    with_it, without = make_net(), make_net()
    one = train(with_it, toy_data(), steps=6, config=CONFIG, seed=2, decay=2, average=3)
    other = train(without, toy_data(), steps=6, config=CONFIG, seed=2, decay=2)
    assert equal(weights(with_it), weights(without))
    assert one.loss == other.loss
    assert other.averaged is None
    assert all(torch.equal(one.state[0][name], value) for name, value in other.state[0].items())


@pytest.mark.parametrize("average", [7, -1])
def test_what_can_not_be_averaged(average: int) -> None:
    with pytest.raises(UserError, match="averaged"):
        train(make_net(), toy_data(), steps=6, config=CONFIG, seed=0, average=average)


class Clocked:
    """Changes the length after given steps, as a clock would."""

    def __init__(self, *changes):
        self.changes = dict(changes)

    def __call__(self, step, steps):
        return self.changes.get(step, steps)


@pytest.mark.parametrize("decay", [None, 20])
def test_a_training_whose_length_the_clock_changed_is_repeated_bit_for_bit(decay):
    changes = ((20, 30), (24, 36))
    clocked, report = run(steps=40, decay=decay, lengthen=Clocked(*changes))
    assert (report.lengths, report.steps, report.ended) == (changes, 36, True)
    again, same = run(steps=40, decay=decay, lengths=changes)
    assert equal(clocked, again)
    assert same.loss == report.loss
    assert not equal(again, run(steps=40, decay=decay)[0])
    assert not equal(again, run(steps=36, decay=decay)[0])


@pytest.mark.parametrize("pause", [10, 20, 23, 29])
def test_a_changed_length_and_a_pause_go_together(pause):
    whole, told = run(steps=40, lengths=((20, 30),))
    net, config = make_net(), CONFIG
    first = train(net, toy_data(), steps=40, config=config, seed=0, until=pause, lengthen=Clocked((20, 30)))
    assert first.ended == (pause >= 30)
    assert first.lengths == (((20, 30),) if pause >= 20 else ())
    rest = train(
        net, toy_data(), steps=40, config=config, seed=0, since=first.paused, lengths=first.lengths,
        lengthen=Clocked((20, 30)),
    )  # fmt: skip
    assert equal(weights(net), whole)
    assert (rest.loss, rest.lengths) == (told.loss, told.lengths)


@pytest.mark.parametrize("pause", [15, 45, 70])
def test_a_training_that_the_clock_made_longer_is_repeated_in_parts_bit_for_bit(pause):
    clocked, report = run(steps=40, decay=20, lengthen=Clocked((10, 60), (50, 70)))
    assert (report.lengths, report.steps, report.ended) == (((10, 60), (50, 70)), 70, True)
    net = make_net()
    first = train(
        net, toy_data(), steps=40, config=CONFIG, seed=0, decay=20, until=pause,
        lengthen=Clocked((10, 60), (50, 70)),
    )  # fmt: skip
    assert first.ended == (pause == 70)
    if not first.ended:
        rest = train(
            net, toy_data(), steps=40, config=CONFIG, seed=0, decay=20, since=first.paused,
            lengths=first.lengths, lengthen=Clocked((10, 60), (50, 70)),
        )  # fmt: skip
        assert (rest.loss, rest.lengths) == (report.loss, report.lengths)
    assert equal(weights(net), clocked)


def test_a_training_may_be_told_to_end_at_once():
    _, report = run(steps=40, lengthen=Clocked((7, 7)))
    assert (report.steps, report.ended, report.lengths) == (7, True, ((7, 7),))


@pytest.mark.parametrize("lengths", [((0, 5),), ((5, 4),), ((5, 9), (9, 12)), ((5, 9), (4, 12))])
def test_lengths_that_no_clock_can_have_decided(lengths):
    with pytest.raises(UserError, match="40 steps"):
        run(steps=40, lengths=lengths)
