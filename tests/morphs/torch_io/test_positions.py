"""Positions that tokens are added to: learned ones, and those that a buffer holds."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from copied_modules import Calls, copied, kinds, normal, returns
from torch import nn

import morphs

IDS = torch.tensor([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])


class PositionalEncoding(nn.Module):
    """Sines and cosines in a buffer (L, C) or (1, L, C), added to tokens."""

    def __init__(self, length, width, axes=3, persistent=True):
        super().__init__()
        place = torch.arange(length)[:, None] * torch.exp(torch.arange(0, width, 2) * (-4.0 / width))
        table = torch.stack([place.sin(), place.cos()], 2).flatten(1)
        self.register_buffer("pe", table[None] if axes == 3 else table, persistent=persistent)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        table = self.pe[:, : x.size(1)] if self.pe.dim() == 3 else self.pe[: x.size(1)]
        return self.dropout(x + table)


class Encoder(nn.Module):
    """A transformer encoder of words or vectors that knows their places."""

    def __init__(self, norm=nn.LayerNorm, words=True, **positions):
        super().__init__()
        self.stem = nn.Embedding(11, 8) if words else nn.Linear(5, 8)
        self.pos = PositionalEncoding(9, 8, **positions)
        self.norm, self.qkv, self.out = norm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.last, self.head = norm(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.pos(self.stem(x))
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return self.head(self.last(x).mean(1))


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize(
    "positions", [{}, {"axes": 2}, {"persistent": False}, {"axes": 2, "persistent": False}]
)
def test_positions_in_a_buffer_widen_with_the_stream(words, positions):
    made, x = Encoder(words=words, **positions), IDS if words else normal(2, 6, 5)
    net = copied(made, x)
    returns(net, x)
    assert kinds(net).isdisjoint({"aten", "tensor"})
    (node,) = (node for node in net.graph if node.op.kind == "parameter")
    assert node.op.source == ("buffer" if positions.get("persistent", True) else "constant")
    copy = net.to_torch()
    assert [*copy.state_dict()] == [*made.state_dict()]
    assert [*dict(copy.named_parameters())] == [*dict(made.named_parameters())]
    assert [*dict(copy.named_buffers())] == ["pos.pe"]
    child = morphs.apply(net, "widen(node=stem, to=16, how=replicate)")
    assert max(child.drift.eval, child.drift.train) <= 1e-12
    table = dict(child.network.to_torch().named_buffers())["pos.pe"]
    old = made.pos.pe
    assert table.shape == (*old.shape[:-1], 16)
    assert {tuple(column) for column in table.reshape(9, 16).T.tolist()} == {
        tuple(column) for column in old.reshape(9, 8).T.tolist()
    }
    returns(child.network, x)


@pytest.mark.parametrize("how", ["zero", "replicate"])
def test_positions_in_a_buffer_widen_where_no_norm_is_across_channels(how):
    x = normal(4, 6, 5)
    net = copied(Encoder(norm=lambda width: nn.Identity(), words=False), x)
    child = morphs.apply(net, morphs.Widen(node="stem", to=12, how=how))
    assert max(child.drift.eval, child.drift.train) <= 1e-12
    returns(child.network, x)


@pytest.mark.parametrize("persistent", [True, False])
def test_positions_in_a_buffer_are_exported_and_loaded(tmp_path, persistent):
    net = copied(Encoder(persistent=persistent), IDS)
    for number, wide in enumerate((net, morphs.apply(net, "widen(node=stem, to=16, how=replicate)").network)):
        path, *_ = morphs.export(wide, tmp_path / str(number))
        loaded, wanted = module_of(path).load(), wide.to_torch().eval()
        assert torch.equal(loaded(IDS), wanted(IDS))
        assert [*loaded.state_dict()] == [*wanted.state_dict()]
        assert [name for name, _ in loaded.named_buffers()] == ["pos.pe"]
        again = morphs.from_program(tmp_path / str(number) / "model.pt2")
        (table,) = (node.op for node in wide.graph if node.op.kind == "parameter")
        assert [node.op for node in again.graph if node.op.kind == "parameter"] == [table]
        morphs.save(wide, tmp_path / f"saved{number}")
        assert morphs.load(tmp_path / f"saved{number}").digest == wide.digest
        assert morphs.parse_graph(wide.graph.text()) == wide.graph


def module_of(path):
    spec = importlib.util.spec_from_file_location("exported_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_graphs_of_parameters_keep_their_text():
    text = "x = input(size=[3, 4]); p = parameter(size=[3, 4]); s = add(x, p); y = output(s)"
    graph = morphs.parse_graph(text)
    assert "source" not in graph.text()
    assert "source" not in graph.to_json()


def test_an_optimizer_does_not_see_positions_in_a_buffer():
    net = copied(Encoder(), IDS)
    module = net.to_torch()
    steps = torch.optim.AdamW(module.parameters())
    module(IDS).square().sum().backward()
    steps.step()
    child = morphs.apply(net.with_weights_from(module), "widen(node=stem, to=16, how=replicate)")
    grown = child.network.to_torch()
    carried = morphs.carry(steps, module, grown, child)
    assert [id(p) for group in carried.param_groups for p in group["params"]] == [
        *map(id, grown.parameters())
    ]
    assert not morphs.new_parameters(child)


def masked(m, x):
    """Attention of one head, spelled out, with a buffer that hides what comes later."""
    q, k, v = m.qkv(m.norm(x)).split(8, 2)
    scores = q @ k.transpose(-2, -1) * 0.5 + m.mask[: x.size(1), : x.size(1)]
    return x + m.out(scores.softmax(-1) @ v)


def rotated(m, x):
    """Attention of two heads with rotary positions in buffers."""
    b, t, c = x.shape
    q, k, v = (part.view(b, t, 2, 4).transpose(1, 2) for part in m.qkv(m.norm(x)).split(8, 2))
    q, k = (y * m.mask[:t, :4].cos() + y.flip(-1) * m.mask[:t, :4].sin() for y in (q, k))
    return x + m.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c))


def centred(m, x):
    """Examples less what a buffer says, which as many columns have as the input."""
    return m.out(m.norm((x - m.mask[0]) * m.mask[1] + m.mask[2:]))


@pytest.mark.parametrize("forward", [masked, rotated, centred])
def test_buffers_that_free_no_width_are_left_to_operators(forward):
    made = Calls(forward, norm=nn.LayerNorm(8), qkv=nn.Linear(8, 24), out=nn.Linear(8, 8))
    made.register_buffer("mask", torch.full((8, 8), -9.0).triu(1))
    x = normal(2, 6, 8)
    net = copied(made, x)
    assert "parameter" not in kinds(net)
    assert "tensor" in kinds(net)
    returns(net, x)
