import pytest
import torch
from torch import nn

from nas.base.errors import UserError
from nas.train import choose_arithmetic, forward_macs, native_bf16
from nas.train.precision import SMALL, Arithmetic, cpu_flags, eval_mode, put


def conv_net():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(),
        nn.Linear(6 * 2 * 2, 10),
    )  # fmt: skip


def test_the_rule():
    assert choose_arithmetic("auto", SMALL, True) == Arithmetic(bf16=True, channels_last=True)
    assert choose_arithmetic("auto", SMALL - 1, True) == Arithmetic(bf16=False, channels_last=False)
    assert choose_arithmetic("auto", SMALL, False) == Arithmetic(bf16=False, channels_last=True)
    assert choose_arithmetic("bf16", 1, False).bf16
    assert not choose_arithmetic("fp32", 10**9, True).bf16


def test_multiply_adds_by_hand():
    first, second, last = 4 * 4 * 4 * (2 * 9), 6 * 2 * 2 * (2 * 9), 24 * 10
    assert forward_macs(conv_net(), (2, 8, 8), 10) == first + second + last


def test_counting_leaves_no_trace():
    net = conv_net()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    forward_macs(net, (2, 8, 8), 10)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [m.training for m in net] == [True, False, True, True, True]
    assert all(not m._forward_hooks for m in net.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_a_network_for_other_images_or_classes_is_refused():
    with pytest.raises(UserError, match=r"\[3, 8, 8\]"):
        forward_macs(conv_net(), (3, 8, 8), 10)
    with pytest.raises(UserError, match="give it 7 outputs"):
        forward_macs(conv_net(), (2, 8, 8), 7)
    with pytest.raises(UserError, match="give it 2 outputs"):
        forward_macs(nn.Conv2d(1, 2, 3), (1, 8, 8), 2)


def test_put_converts_and_gives_back_contiguous_memory():
    net = conv_net()
    weight = net[0].weight
    with put(net, torch.device("cpu"), Arithmetic(bf16=False, channels_last=True)):
        assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[0].weight is weight
    assert weight.is_contiguous()


def test_eval_mode_restores_each_part_even_after_an_error():
    net = conv_net()
    net[1].eval()
    with eval_mode(net):
        assert not any(m.training for m in net.modules())
    assert net[0].training
    with pytest.raises(ZeroDivisionError), eval_mode(net):
        raise ZeroDivisionError
    assert [m.training for m in net] == [True, False, True, True, True]


def test_cpu_flags(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16\n\nprocessor : 1\n")
    assert cpu_flags(file) == {"fpu", "avx512_bf16", "amx_bf16"}
    file.write_text("processor : 0\n")
    assert cpu_flags(file) == frozenset()
    assert cpu_flags(tmp_path / "none") == frozenset()


def test_native_bf16_answers_for_every_device():
    assert isinstance(native_bf16("cpu"), bool)
    assert not native_bf16("meta")
