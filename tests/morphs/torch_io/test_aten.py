"""What the vocabulary doesn't know: kept as operators of PyTorch, in both modes, to the bit."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from copied_modules import Calls, copied, normal, torch64
from torch import nn

import morphs
from morphs.errors import CodecError, UnsupportedModule
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.aten import Aten, Held
from morphs.graph.ops import Conv2d, Input, Output

LAYERS = {
    "Softmax": nn.Softmax(1), "LogSigmoid": nn.LogSigmoid(),
    "Upsample": nn.Upsample(scale_factor=2),
    "GELU": nn.GELU(approximate="tanh"), "Softplus": nn.Softplus(beta=2), "Hardtanh": nn.Hardtanh(),
    "Hardsigmoid": nn.Hardsigmoid(), "AvgPool2d": nn.AvgPool2d(2, divisor_override=3), "CELU": nn.CELU(),
    "Conv2d": nn.Conv2d(3, 3, 2, padding="same"),
    "LayerNorm": nn.LayerNorm([6, 6]), "ChannelShuffle": nn.ChannelShuffle(3),
    "LocalResponseNorm": nn.LocalResponseNorm(2),
    "weight_norm": nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1), dim=1),
    "ReLU6": nn.Sequential(nn.Identity(), nn.ReLU6()),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_outside_of_the_vocabulary_is_kept(name):
    module = nn.Sequential(nn.Conv2d(3, 3, 1), LAYERS[name])
    if name == "ReLU6":
        module[1][1].max_val = 0.5
    net = copied(module, normal(2, 3, 6, 6))
    assert any(node.op.kind == "aten" for node in net.graph)


CALLS = {
    "softmax": lambda m, x: torch.softmax(m.conv(x), 1),
    "interpolate": lambda m, x: F.interpolate(x, scale_factor=2),
    "standardised": lambda m, x: F.conv2d(x, m.conv.weight - m.conv.weight.mean(), m.conv.bias),
    "arithmetic": lambda m, x: ((x**2 / 2 + 1) * 0.5 - m.conv(x)).clamp(-1, 3.5),
    "parameter": lambda m, x: m.conv(x) * m.factor + m.factor,
    "constant": lambda m, x: x + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=x.dtype),
    "mean": lambda m, x: x.mean((1, 2, 3)),
    "flatten": lambda m, x: torch.flatten(x),
    "tokens": lambda m, x: m.conv(x).flatten(2).transpose(1, 2).softmax(-1).permute(1, 0, 2).contiguous().view(36, -1),
    "indices": lambda m, x: sum(F.max_pool2d(x, 2, return_indices=True)),
    "batch": lambda m, x: torch.zeros(x.shape[0], 2, dtype=x.dtype) + x.mean((1, 2, 3))[:, None],
    "masked": lambda m, x: x.masked_fill(x < 0, float("-inf")).amax((2, 3)).clamp(min=-2),
    "no_grad": lambda m, x: _under_no_grad(x) + m.conv(x),
    "train": lambda m, x: m.conv(x) * (2 if m.training else 1),
    "broadcast": lambda m, x: x + x.mean((2, 3), True) - x.mean((2, 3))[:, :, None, None],
}  # fmt: skip


def _under_no_grad(x):
    with torch.no_grad():
        return x * 2


@pytest.mark.parametrize("name", CALLS)
def test_a_call_outside_of_the_vocabulary_is_kept(name):
    module = Calls(CALLS[name], conv=nn.Conv2d(3, 3, 3, padding=1))
    module.factor = nn.Parameter(torch.ones(3, 1, 1))
    net = copied(module, normal(2, 3, 6, 6))
    assert any(node.op.kind == "aten" for node in net.graph)
    text, data = morphs.pack(net)
    again = morphs.unpack(text, data)
    assert again.digest == net.digest
    assert again.keys == net.keys
    assert morphs.parse_graph(net.graph.text()) == net.graph
    back = morphs.from_torch(again.to_torch(), normal(3, 3, 6, 6))
    assert (back.graph, back.digest) == (net.graph, net.digest)
    for twin in (copy.deepcopy(net.to_torch()), pickle.loads(pickle.dumps(net.to_torch()))):
        x = normal(5, 3, 6, 6, seed=3)  # another batch size than the example's
        assert torch.equal(twin.eval()(x), module.eval()(x))


WRITES = {
    "slice": lambda h: h[:, :4].clamp_(-0.1, 0.1), "strided": lambda h: h[:, ::2].add_(1),
    "select": lambda h: h[:, 1].mul_(3), "transpose": lambda h: h.t().clamp_(0),
    "view": lambda h: h.view(-1, 2, 4).add_(1),
    "nested": lambda h: h[:, :4][:, 1:].transpose(0, 1).zero_(), "set": lambda h: h.__setitem__((slice(None), 0), 7.0),
    "expanded": lambda h: h.unsqueeze(1)[:, :, 2:].mul_(2), "copy": lambda h: h[:, 2].copy_(h[:, 3]),
    "masked": lambda h: h.masked_fill_(h < 0, 0.5), "index": lambda h: h.__setitem__((slice(None), [0, 2]), 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_through_a_view_is_kept(name):
    def forward(m, x):
        h = m.first(x)
        before, view = h.clone(), h[:, 2:6]
        WRITES[name](h)
        return m.last(h) + view.sum(1, True) + before.sum(1, True)

    copied(Calls(forward, first=nn.Linear(8, 8), last=nn.Linear(8, 2)), normal(4, 8))


@pytest.mark.parametrize(
    "write",
    [lambda h: h.detach().clamp_(0, 1), lambda h: h.data.clamp_(0, 1)],
    ids=["detach", "data"],
)
def test_a_write_behind_autograd_is_refused(write):
    def forward(m, x):
        h = m.first(x)
        write(h)
        return m.last(h)

    with pytest.raises(UnsupportedModule):
        morphs.from_torch(Calls(forward, first=nn.Linear(8, 8), last=nn.Linear(8, 2)), torch.ones(4, 8))


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x).relu())

    net = copied(Tied(), normal(2, 4))
    copy = net.to_torch()
    copy(normal(2, 4)).sum().backward()
    assert sorted(name for name, _ in copy.named_parameters()) == [
        "first.bias",
        "first.weight",
        "second.bias",
    ]


def test_several_inputs_and_outputs_in_collections():
    def forward(m, x):
        y = m.conv(x)
        return {"maps": [y, y.relu()], "mean": (y.mean((2, 3)), None)}

    module = Calls(forward, conv=nn.Conv2d(3, 2, 1)).double()
    net = morphs.from_torch(module, normal(2, 3, 4, 4))
    got, wanted = net.to_torch()(normal(3, 3, 4, 4)), module(normal(3, 3, 4, 4))
    assert got.keys() == wanted.keys()
    assert isinstance(got["mean"], tuple)
    assert got["mean"][1] is None
    assert all(torch.equal(a, b) for a, b in zip(got["maps"], wanted["maps"], strict=True))
    assert morphs.from_torch(net.to_torch(), normal(2, 3, 4, 4)).graph == net.graph


def test_integer_inputs_by_name():
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(7, 4), nn.Linear(4, 3)

        def forward(self, ids, mask=None):
            return self.out(self.embed(ids) * mask[..., None])

    module = Words()
    net = morphs.from_torch(module, {"ids": torch.arange(6).reshape(2, 3), "mask": torch.ones(2, 3)})
    ids, mask = torch.tensor([[1, 2, 6]] * 3), torch.tensor([[1.0, 0, 1]] * 3)
    assert torch.equal(net.to_torch()(ids, mask), module(ids, mask))


def test_widths_pass_through_what_works_on_each_channel():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Hardsigmoid(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3), nn.Softmax(1)
    )
    net = copied(module, normal(2, 3, 8, 8))
    child = morphs.apply(net, morphs.Widen("layer0", 6))
    assert child.drift.eval <= 1e-10
    with pytest.raises(morphs.errors.IllegalMove, match="layer4"):
        morphs.apply(net, morphs.Widen("layer3", 6))
    x = normal(2, 3, 8, 8)
    assert morphs.from_torch(child.network.to_torch(), x).graph == child.network.graph


def test_a_document_that_names_no_operator_is_refused():
    graph = ArchGraph([
        Node("x", Input((3,))), Node("a", Aten("aten.roll.default", '[{"tensor":0},[1]]', "{}", (-1, 3)), ("x",)),
        Node("out", Output(), ("a",)),
    ])  # fmt: skip
    text = graph.to_json()
    assert morphs.graph_from_json(text) == graph
    for bad in ("aten.from_file.default", "__import__", "os.system", "aten..x"):
        with pytest.raises(CodecError):
            morphs.graph_from_json(text.replace("aten.roll.default", bad))
    for bad in ('[{\\"tensor\\":1},[1]]', "[", "{}", '[{\\"tensor\\":\\"x\\"}]'):
        with pytest.raises(CodecError):
            morphs.graph_from_json(text.replace('[{\\"tensor\\":0},[1]]', bad))
    unknown = morphs.graph_from_json(text.replace("aten.roll.default", "aten.no_such_thing.default"))
    with pytest.raises(morphs.errors.WeightsError, match="no_such_thing"):
        morphs.init(unknown).to_torch()


def test_masks_may_hold_infinity():
    module = Calls(lambda m, x: (m.conv(x).flatten(2) + m.mask).softmax(-1), conv=nn.Conv2d(3, 2, 1))
    module.register_buffer("mask", torch.zeros(16).masked_fill_(torch.arange(16) > 9, float("-inf")))
    net = copied(module, normal(2, 3, 4, 4))
    assert net.graph["mask"].op == Held((16,), "buffer")
    assert net.nonfinite() == ()


def test_the_copy_compiles_and_exports_with_another_batch():
    module = Calls(CALLS["tokens"], conv=nn.Conv2d(3, 3, 3, padding=1)).double()
    net = morphs.from_torch(module, normal(2, 3, 6, 6))
    copy, x = net.to_torch().eval(), normal(4, 3, 6, 6)
    assert torch.equal(torch.compile(copy, backend="eager")(x), module(x))
    exported = torch.export.export(copy, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert torch.equal(exported.module()(normal(3, 3, 6, 6)), module(normal(3, 3, 6, 6)))
    assert x.dtype == torch64
    assert isinstance(net.graph["conv"].op, Conv2d)
