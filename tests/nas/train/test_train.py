import copy
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

import nas
from nas.base.errors import TrainingFailed, UserError
from nas.data import Augment, SearchData, Split
from nas.train import TrainConfig, train
from nas.train.optimizer import make_optimizer
from nas.train.precision import SMALL, forward_macs

CONFIG = TrainConfig(batch_size=16, lr=0.05)


def toy_data(images=96, size=8, seed=0):
    """Two classes, told apart by the brighter half of the image."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 2
    pixels = torch.randint(0, 128, (images, 1, size, size), generator=source)
    pixels[:, :, : size // 2] += 100 * labels[:, None, None, None]
    pixels[:, :, size // 2 :] += 100 * (1 - labels)[:, None, None, None]
    split = Split(pixels.to(torch.uint8), labels)
    return SearchData("toy", split, split, ("a", "b"), (0.4,), (0.25,), Augment(flip=True, crop=1), "0" * 64)


def make_net(seed=0, width=4, dropout=0.2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Dropout(dropout), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(64 * width, 2),
        )  # fmt: skip


def weights(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(seed=0, steps=6, config=CONFIG, width=4, **more):
    net = make_net(width=width)
    report = train(net, toy_data(), steps=steps, config=config, seed=seed, **more)
    return weights(net), report


def test_it_learns():
    net = make_net(dropout=0.0)
    report = train(net, toy_data(), steps=60, config=replace(CONFIG, label_smoothing=0.0), seed=0)
    assert report.loss < 0.2
    assert (report.steps, report.images) == (60, 960)
    assert report.seconds > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("width", [4, 24])
def test_same_seed_same_bits_with_dropout_and_augmentation(precision, width):
    config = replace(CONFIG, precision=precision)
    first, one = run(config=config, width=width)
    torch.rand(7)  # the state of the global generator must not matter
    second, two = run(config=config, width=width)
    assert equal(first, second)
    assert one.loss == two.loss
    assert one.precision == precision
    assert not equal(first, run(seed=1, config=config, width=width)[0])


def test_the_widths_above_are_on_both_sides_of_the_rule():
    counts = [forward_macs(make_net(width=width), (1, 8, 8), 2) for width in (4, 24)]
    assert counts[0] < SMALL < counts[1]


def digest():
    """SHA-256 of the weights after a short run."""
    data = b"".join(value.numpy().tobytes() for value in run(width=24)[0].values())
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_same_bits_in_another_process():
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]; import torch; torch.set_num_threads(1)\n"
        "import test_train; print(test_train.digest())"
    )
    paths = [str(Path(__file__).parent), str(Path(nas.__file__).parents[1])]
    told = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == digest()


def test_no_global_generator_moves():
    before = torch.get_rng_state()
    run()
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_is_seeded_by_the_run():
    net = make_net(dropout=0.5)
    other = make_net(dropout=0.5)
    still = replace(toy_data(), augment=Augment(flip=False, crop=0))
    train(net, still, steps=1, config=CONFIG, seed=1)
    train(other, still, steps=1, config=CONFIG, seed=2)
    assert not equal(weights(net), weights(other))


def test_weights_come_back_contiguous_and_in_place():
    net = make_net(width=24)
    weight = net[0].weight
    train(net, toy_data(), steps=1, config=CONFIG, seed=0)
    assert net[0].weight is weight
    assert all(value.is_contiguous() for value in net.state_dict().values())
    assert all(m.training for m in net.modules())


def test_it_is_sgd_with_nesterov_and_selective_decay_as_torch_defines_them():
    """One step on the whole set, in which the order does not matter: compare with torch's plain loop."""
    data = replace(toy_data(), augment=Augment(flip=False, crop=0))
    config = TrainConfig(
        batch_size=96, lr=0.1, momentum=0.9, weight_decay=0.01, label_smoothing=0.1, precision="fp32"
    )
    ours, plain = make_net(dropout=0.0).double(), make_net(dropout=0.0).double()
    train(ours, data, steps=3, config=config, seed=0, total=6)
    decayed = [p for p in plain.parameters() if p.ndim > 1]
    spared = [p for p in plain.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 0.01}, {"params": spared}], lr=0.1, momentum=0.9, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    x = (data.train.images.double() / 255 - 0.4) / 0.25
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(x), data.train.labels, label_smoothing=0.1).backward()
        optimizer.step()
        schedule.step()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_step_is_that_of_torchs_fused_optimizer_bit_for_bit(name):
    ours, plain = make_net(), make_net()
    optimizer = make_optimizer(ours, replace(CONFIG, optimizer=name))
    groups = [
        {"params": [p for p in plain.parameters() if p.ndim >= 2], "weight_decay": CONFIG.weight_decay},
        {"params": [p for p in plain.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    oracle = (
        torch.optim.SGD(groups, lr=0.1, momentum=CONFIG.momentum, nesterov=True, fused=True)
        if name == "sgd"
        else torch.optim.AdamW(groups, lr=0.1, betas=(CONFIG.momentum, 0.999), fused=True)
    )
    x = torch.randn(16, *toy_data().input_shape, generator=torch.Generator().manual_seed(0))
    for rate in (0.1, 0.05, 0.2):
        for module in (ours, plain):
            module.eval()(x).square().sum().backward()
        optimizer.step(rate)
        for group in oracle.param_groups:
            group["lr"] = rate
        oracle.step()
        oracle.zero_grad()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_training_does_not_import_torchs_compiler(name):
    code = """
import sys
from nas.data import load_search_data
from nas.train import TrainConfig, train
import torch
data = load_search_data("digits", None, 0)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
train(net, data, steps=1, config=TrainConfig(optimizer=NAME), seed=0)
assert "torch._dynamo" not in sys.modules, "3 s and 150 MB for each worker"
"""
    subprocess.run([sys.executable, "-c", code.replace("NAME", repr(name))], check=True)


def test_norms_biases_and_scalars_are_not_decayed():
    optimizer = make_optimizer(make_net(), CONFIG)
    decays = {p.ndim: group.weight_decay for group in optimizer.groups for p in group.parameters}
    assert decays == {4: CONFIG.weight_decay, 2: CONFIG.weight_decay, 1: 0.0}


class Bounded(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.ones(()))
        self.calls = 0

    def forward(self, x):
        return x * (1 - 3 * self.a)

    def project_(self):
        self.calls += 1
        with torch.no_grad():
            self.a.clamp_(0, 1)


def test_bounded_parameters_are_projected_after_each_step():
    net = nn.Sequential(make_net(), Bounded())
    train(net, toy_data(), steps=8, config=replace(CONFIG, lr=0.5, clip_norm=1.0), seed=0)
    assert net[1].calls == 8
    assert 0 <= float(net[1].a.detach()) <= 1


def test_a_frozen_parameter_stays():
    net = make_net()
    net[0].weight.requires_grad_(False)
    before = net[0].weight.clone()
    train(net, toy_data(), steps=2, config=CONFIG, seed=0)
    assert torch.equal(before, net[0].weight)


def test_nothing_to_train_is_refused():
    with pytest.raises(UserError, match="requires_grad_"):
        train(make_net().requires_grad_(False), toy_data(), steps=1, config=CONFIG, seed=0)


def test_divergence_ends_with_the_step_and_a_remedy():
    with pytest.raises(TrainingFailed, match=r"at step \d+ of 50 of training; lower lr \(now 1e\+30\)"):
        run(steps=50, config=TrainConfig(batch_size=16, lr=1e30))


def test_a_last_step_that_ruins_the_weights_is_noticed():
    with pytest.raises(TrainingFailed, match="is not finite after 1 steps"):
        run(steps=1, config=TrainConfig(batch_size=16, lr=1e39, weight_decay=1e30))


def test_clipping_bounds_the_step():
    net = make_net()
    before = weights(net)
    config = TrainConfig(batch_size=16, lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=1e-3)
    train(net, toy_data(), steps=1, config=config, seed=0)
    moved = sum(
        float((p - before[name]).square().sum())
        for name, p in weights(net).items()
        if "running" not in name and "tracked" not in name
    )
    assert 0 < moved**0.5 <= 1.01e-3


def test_on_step_hears_of_every_step():
    heard = []
    run(steps=4, on_step=lambda *told: heard.append(told))
    assert [told[:2] for told in heard] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(0 < told[2] < 10 for told in heard)


def test_portions_follow_one_cosine():
    at_the_end, _ = run(steps=1, start=99, total=100)
    start = weights(make_net())
    far = max(float((at_the_end[k].double() - start[k].double()).abs().max()) for k in start if "weight" in k)
    assert far < 1e-3


@pytest.mark.parametrize("span", [{"steps": 0}, {"steps": 3, "total": 2}, {"steps": 1, "start": -1}])
def test_no_steps_are_refused(span):
    with pytest.raises(UserError, match="take at least 1"):
        run(**span)


def test_fewer_images_than_a_batch():
    report = train(make_net(), toy_data(images=6), steps=2, config=TrainConfig(batch_size=16), seed=0)
    assert report.images == 32


def test_a_network_for_other_data_is_refused():
    with pytest.raises(UserError, match="give it 2 outputs"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), toy_data(), steps=1, config=CONFIG, seed=0)


# -- in portions, and from a teacher ---------------------------------------------------------------------


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
    for until in (0, 4, 7):
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


def test_a_training_may_be_told_to_end_at_once():
    _, report = run(steps=40, lengthen=Clocked((7, 7)))
    assert (report.steps, report.ended, report.lengths) == (7, True, ((7, 7),))


@pytest.mark.parametrize("lengths", [((0, 5),), ((5, 4),), ((5, 41),), ((5, 9), (9, 12)), ((5, 9), (4, 12))])
def test_lengths_that_no_clock_can_have_decided(lengths):
    with pytest.raises(UserError, match="40 steps"):
        run(steps=40, lengths=lengths)
