import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from train_support import CONFIG, equal, make_net, run, toy_data, weights

import nas
from nas.base.errors import TrainingFailed, UserError
from nas.data import Augment
from nas.train import TrainConfig, train
from nas.train.optimizer import make_optimizer
from nas.train.precision import SMALL, forward_macs


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
    here = Path(__file__)
    paths = [str(here.parent), str(here.parents[2]), str(Path(nas.__file__).parents[1])]
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
