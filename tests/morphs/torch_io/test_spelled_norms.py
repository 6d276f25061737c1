"""Norms that a forward spells out are layer norms and RMS norms, whose width moves may change."""

import pytest
import torch
import torchvision
from copied_modules import Calls, copied, kinds, normal, returns
from torch import nn

import morphs


def squares(x, axis):
    u = x.mean(axis, keepdim=True)
    return (x - u) / torch.sqrt((x - u).pow(2).mean(axis, keepdim=True) + 1e-6)


def once(x, axis):
    d = x - x.mean(dim=(axis,), keepdim=True)
    return d * torch.rsqrt((d * d).mean(dim=axis, keepdim=True) + 1e-6)


def variance(x, axis):
    u, v = x.mean(axis, keepdim=True), x.var(axis, unbiased=False, keepdim=True)
    return (x - u) / (v + 1e-6).sqrt()


def both(x, axis):
    v, u = torch.var_mean(x, dim=axis, correction=0, keepdim=True)
    return (x - u) * torch.rsqrt(v + 1e-6)


def root(x, axis):
    return x * torch.rsqrt(x.pow(2).mean(axis, keepdim=True) + 1e-6)


CENTRED = (squares, once, variance, both)
"""The ways to write a layer norm."""


@pytest.mark.parametrize("norm", [*CENTRED, root])
@pytest.mark.parametrize("axis", [1, -1])
def test_it_is_one_norm_whose_width_can_change(norm, axis):
    def forward(m, x):
        normed = norm(m.stem(x) if axis == 1 else m.stem(x).transpose(1, 2), axis)
        if axis == 1:
            normed = m.gain[:, None] * normed
            return m.out(normed if norm is root else normed + m.shift.view(-1, 1))
        normed = normed * m.gain
        return m.out((normed if norm is root else m.shift + normed).transpose(1, 2))

    made = Calls(forward, stem=nn.Conv1d(3, 8, 3), out=nn.Conv1d(8, 4, 1))
    made.gain, made.shift = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.randn(8))
    if norm is root:
        del made.shift
    net = copied(made, normal(2, 3, 9))
    assert ("rms_norm" if norm is root else "layer_norm") in kinds(net)
    assert "aten" not in kinds(net)
    returns(net, normal(2, 3, 9))
    child = morphs.apply(net, "widen(node=stem, to=16, how=replicate)")
    assert max(child.drift.eval, child.drift.train) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_computes_the_same_but_for_rounding_in_other_types(dtype):
    def forward(m, x):
        return m.out(squares(m.stem(x), 1) * m.gain[None, :, None, None])

    made = Calls(forward, stem=nn.Conv2d(3, 8, 3), out=nn.Conv2d(8, 4, 1))
    made.gain = nn.Parameter(torch.rand(8))
    x = torch.randn(2, 3, 9, 9, dtype=dtype)
    made = made.to(dtype).eval()
    net = morphs.from_torch(made, x)
    difference = (net.to_torch().eval()(x) - made(x)).abs().max()
    assert difference <= 16 * torch.finfo(dtype).eps * made(x).abs().max()


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-6).sqrt(),  # over n − 1
        lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True, unbiased=False) + 1e-6),
        lambda x: (x - x.mean(2, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt(),
        lambda x: (x - x.mean(1, keepdim=True)) / (x.pow(2).mean(1, keepdim=True) + 1e-6).sqrt(),
        lambda x: x / ((x - x.mean(1, keepdim=True)).pow(2).mean(1, keepdim=True) + 1e-6).sqrt(),
    ],
)
def test_what_is_no_layer_norm_is_not_read_as_one(norm):
    made = Calls(lambda m, x: m.out(norm(m.stem(x))), stem=nn.Linear(3, 8), out=nn.Linear(8, 2))
    assert not {"layer_norm", "rms_norm"} & kinds(copied(made, normal(4, 5, 3)))


@pytest.mark.parametrize("given", [{}, {"affine": False}, {"bias": False}])
def test_a_layer_norm_comes_back_as_it_was(given):
    shown = "".join(f", {name}={str(value).lower()}" for name, value in given.items())
    net = morphs.init(
        morphs.parse_graph(
            f"x = input(size=[3, 5]); e = linear(x, features=4); n = layer_norm(e{shown});"
            "f = linear(n, features=2); y = output(f)"
        )
    )
    returns(net, torch.randn(2, 3, 5))


NAMES = ("weight", "bias", "running_mean", "running_var")


class Held(nn.Module):
    """A batch norm that is all buffers, as DETR has it."""

    def __init__(self, count, names=NAMES):
        super().__init__()
        self.names = names
        for name, start in zip(names, (1.5, 0.5, -0.5, 2.0), strict=True):
            self.register_buffer(name, start + 0.1 * torch.arange(count))

    def forward(self, x):
        w, b, m, v = (getattr(self, name).reshape(1, -1, 1, 1) for name in self.names)
        scale = w * (v + 1e-5).rsqrt()
        return x * scale + (b - m * scale)


@pytest.mark.parametrize("norm", [Held, torchvision.ops.FrozenBatchNorm2d])
def test_a_batch_norm_of_buffers_stays_one_and_its_width_can_change(norm, tmp_path):
    def forward(m, x):
        return m.out(torch.relu(m.norm(m.stem(x))))

    made = Calls(forward, stem=nn.Conv2d(3, 8, 3), norm=norm(8), out=nn.Conv2d(8, 4, 1))
    net = copied(made, normal(2, 3, 9, 9))
    assert net.graph["norm"].op.kind == "frozen_batch_norm"
    returns(net, normal(2, 3, 9, 9))
    assert {key: t.shape for key, t in net.to_torch().state_dict().items()} == {
        key: t.shape for key, t in made.state_dict().items()
    }
    assert len([*net.to_torch().parameters()]) == len([*made.parameters()])
    for move in ("widen(node=stem, to=12, how=replicate)", "widen(node=stem, to=12, how=zero)"):
        child = morphs.apply(net, move)
        assert max(child.drift.eval, child.drift.train) <= 1e-12
    morphs.export(child.network, tmp_path / "out", normal(2, 3, 9, 9))
    assert morphs.load(tmp_path / "out").graph == child.network.graph


def test_such_a_norm_is_used_twice():
    made = Calls(lambda m, x: m.norm(torch.relu(m.norm(m.stem(x)))), stem=nn.Conv2d(3, 8, 3), norm=Held(8))
    net = copied(made, normal(2, 3, 9, 9))
    assert sum(node.op.kind == "frozen_batch_norm" for node in net.graph) == 2
    returns(net, normal(2, 3, 9, 9))


def of_parameters(norm):
    for name, buffer in [*norm.named_buffers()]:
        delattr(norm, name)
        setattr(norm, name, nn.Parameter(buffer))
    return norm


@pytest.mark.parametrize(
    ("forward", "norm"),
    [
        (lambda m, x: m.norm(m.stem(x)), of_parameters(Held(8))),
        (lambda m, x: m.norm(m.stem(x)), Held(8, ("g", "b", "m", "v"))),
        (lambda m, x: m.norm(m.stem(x)) * m.norm.weight[:, None, None], Held(8)),
    ],
)
def test_what_is_no_such_norm_is_left_as_it_is(forward, norm):
    net = copied(Calls(forward, stem=nn.Conv2d(3, 8, 3), norm=norm), normal(2, 3, 9, 9))
    assert "frozen_batch_norm" not in kinds(net)
    returns(net, normal(2, 3, 9, 9))
