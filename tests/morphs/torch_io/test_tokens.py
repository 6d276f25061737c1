"""Token networks as torch.export shows them: read as ops, the batch first, whatever order the module has."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from copied_modules import Calls, copied, kinds, normal, returns
from torch import nn

import morphs


def windows(m, x):
    """Attention in windows of two, the windows part of the batch, by a fused projection."""
    b, t, c = x.shape
    y = m.norm(x).view(b, t // 2, 2, c).reshape(-1, 2, c)
    q, k, v = m.qkv(y).reshape(-1, 2, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 2, c)
    return x + m.out(y).view(b, t, c)


def chunks(m, x):
    """In windows again, by chunks of each head's columns (MaxViT)."""
    b, t, c = x.shape
    y = m.norm(x).view(b, t // 2, 2, c).reshape(-1, 2, c)
    q, k, v = m.qkv(y).view(-1, 2, 2, 3 * c // 2).transpose(1, 2).chunk(3, dim=3)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 2, c)
    return x + m.out(y).view(b, t, c)


def parts(m, x):
    """In windows again, parted before the heads come first (TinyViT), with a bias for each head."""
    b, t, c = x.shape
    y = m.norm(x.view(b, t // 2, 2, c).reshape(-1, 2, c))
    q, k, v = (part.permute(0, 2, 1, 3) for part in m.qkv(y).view(-1, 2, 2, 12).split([4, 4, 4], dim=3))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=m.mask[0, 0, :2, :2].repeat(2, 1, 1))
    return x + m.out(y.transpose(1, 2).reshape(-1, 2, c)).view(b, t, c)


def strided(m, x):
    """Windows of every other token (MobileViT), the parts by split along the first axis."""
    b, t, c = x.shape
    y = m.norm(x).reshape(b, t // 2, 2, c).transpose(1, 2).reshape(b * 2, t // 2, c)
    q, k, v = m.qkv(y).reshape(b * 2, t // 2, 3, 2, c // 2).permute(2, 0, 3, 1, 4).split(1)
    y = F.scaled_dot_product_attention(q[0], k[0], v[0]).transpose(1, 2).reshape(b * 2, t // 2, c)
    return x + m.out(y).reshape(b, 2, t // 2, c).transpose(1, 2).reshape(b, t, c)


def both(m, x):
    """What is put off is read by an operator that takes it as it is, and by layers, before and after."""
    b, t, c = x.shape
    y = m.norm(x).view(b, t // 2, 2, c).reshape(-1, 2, c)
    early = m.qkv(y).relu()
    sorted_ = torch.sort(y, dim=1)[0]
    late = m.qkv(y * 2)
    return x + m.out((early + late)[..., :c] + sorted_).view(b, t, c)


def heads(m, x):
    """Attention spelled out, the parts by split, heads before tokens."""
    b, t, c = x.shape
    q, k, v = (part.view(b, t, 2, c // 2).transpose(1, 2) for part in m.qkv(m.norm(x)).split(c, 2))
    scores = (q @ k.transpose(-2, -1)) * 0.5 + m.mask
    y = scores.softmax(-1) @ v
    return x + m.out(y.transpose(1, 2).contiguous().view(b, t, c))


def module(forward) -> nn.Module:
    made = Calls(forward, norm=nn.LayerNorm(8), qkv=nn.Linear(8, 24), out=nn.Linear(8, 8))
    made.register_buffer("mask", torch.zeros(1, 1, 4, 4))
    return made


@pytest.mark.parametrize("forward", [windows, chunks, parts, strided, both, heads])
def test_attention_is_read_with_the_batch_first(forward):
    x = normal(2, 4, 8)
    net = copied(module(forward), x)
    linear = {node.name for node in net.graph if node.op.kind == "linear"}
    assert {"qkv", "out"} <= linear
    returns(net, x)


def test_heads_of_spelled_out_attention_widen():
    net = copied(module(heads), normal(2, 4, 8))
    split = next(node.name for node in net.graph if node.op.kind == "reshape" and node.op.width == 1)
    for how in ("zero", "replicate"):
        child = morphs.apply(net, morphs.Widen(node=split, to=3, how=how))
        assert max(child.drift.eval, child.drift.train) <= 1e-10


def folded(m, x):
    """A batch norm of all tokens of the batch, as LeViT has it."""
    y = m.a(x)
    y = m.norm(y.flatten(0, 1)).reshape_as(y)
    return m.b(y.relu()).mean(1)


def gridded(m, x):
    """The same of tokens along two axes."""
    y = m.a(x.view(-1, 2, 3, 6))
    return m.b(m.norm(y.reshape(-1, 8)).view(-1, 6, 8)).mean(1)


@pytest.mark.parametrize("forward", [folded, gridded])
def test_a_batch_norm_of_tokens_folded_into_the_batch_is_one(forward):
    x = normal(4, 6, 6)
    net = copied(Calls(forward, a=nn.Linear(6, 8), norm=nn.BatchNorm1d(8), b=nn.Linear(8, 3)), x)
    assert "aten" not in kinds(net)
    returns(net, x)
    drift = morphs.apply(net, "widen(node=a, to=12)").drift
    assert max(drift.eval, drift.train) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_running_mean_that_cancels_to_rounding_is_no_difference(dtype):
    """Behind another norm the mean of a linear layer without bias is zero but for rounding, here in another order."""
    module = nn.Sequential(
        Calls(
            lambda m, x: m.norm(m.a(x).flatten(0, 1)).view(-1, 6, 8),
            a=nn.Linear(6, 8),
            norm=nn.BatchNorm1d(8),
        ),
        Calls(
            lambda m, x: m.norm(m.a(x).flatten(0, 1)).view(-1, 6, 8),
            a=nn.Linear(8, 8, bias=False),
            norm=nn.BatchNorm1d(8),
        ),
    ).to(dtype)
    net = morphs.from_torch(module, normal(4, 6, 6).to(dtype))
    assert [node.op.kind for node in net.graph].count("batch_norm") == 2


@pytest.mark.parametrize("batch_first", [True, False])
def test_an_encoder_of_torch_is_read_whole(batch_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0, norm_first=True)
    if batch_first:
        made, x = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), normal(2, 5, 8)
    else:
        made = Calls(lambda m, x: m.layer(x.transpose(0, 1).contiguous().transpose(0, 1)), layer=layer)
        x = normal(2, 5, 8)
    net = copied(made, x)
    assert "aten" not in kinds(net)
    assert "attention" in kinds(net)
    returns(net, x)


def test_class_token_and_positions_are_parameters():
    def forward(m, x):
        y = torch.cat([m.cls.expand(x.size(0), -1, -1), m.patches(x).flatten(2).transpose(1, 2)], 1) + m.pos
        return m.out((y * m.gamma)[:, 0])

    made = Calls(forward, patches=nn.Conv2d(3, 8, 2, 2), out=nn.Linear(8, 3))
    made.cls, made.pos = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
    made.gamma = nn.Parameter(torch.rand(8))
    x = normal(2, 3, 4, 4)
    net = copied(made, x)
    assert kinds(net).isdisjoint({"aten", "tensor"})
    child = morphs.apply(net, morphs.Widen(node="patches", to=12))
    assert child.drift.eval <= 1e-10
    assert {"cls", "pos", "gamma"} <= dict(net.to_torch().named_parameters()).keys()
    returns(net, x)


def test_a_tied_decoder_is_read_and_stays_tied():
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(11, 8), nn.Embedding(6, 8)
            self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 11, bias=False)
            self.out.weight = self.words.weight

        def forward(self, ids):
            return self.out(self.norm(self.words(ids) + self.places(torch.arange(ids.shape[1]))))

    ids = torch.randint(0, 11, (2, 6))
    made = Decoder().double()
    net = morphs.from_torch(made, ids)
    assert torch.equal(net.to_torch().eval()(ids), made.eval()(ids))
    assert {"embedding", "unembedding", "add"} <= kinds(net)
    assert len([*net.to_torch().parameters()]) == len([*made.parameters()])
    assert net.graph.inputs[0].op.vocabulary == 11
    returns(net, ids)


def test_streams_under_norms_that_need_different_channels_are_not_widened_with_zeros():
    net = morphs.init(
        morphs.parse_graph(
            "x = input(size=[3, 5]); e = linear(x, features=4); n = layer_norm(e); a = linear(n, features=4)\n"
            "s = add(e, a); r = rms_norm(s); f = linear(r, features=2); y = output(f)"
        )
    )
    with pytest.raises(morphs.errors.IllegalMove, match="r"):
        morphs.apply(net, "widen(node=e, to=6, how=zero)")
    assert morphs.apply(net, "widen(node=e, to=8, how=replicate)").drift.eval <= 1e-5


class Padded(nn.Module):
    """Attention that sees the tokens where `mask` isn't 0, which is said for each example."""

    def __init__(self, seen):
        super().__init__()
        self.words, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.qkv, self.out, self.seen = nn.Linear(8, 24), nn.Linear(8, 8), seen

    def forward(self, ids, mask):
        x = self.words(ids)
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.seen(mask, x))
        return self.out(y.transpose(1, 2).reshape(b, t, c))


MASKS = {
    "true or false": lambda mask, x: mask[:, None, None, :].bool(),
    "added": lambda mask, x: (1.0 - mask[:, None, None, :].to(x.dtype)) * -1e4,
    "of queries too": lambda mask, x: (mask[:, None, :, None] * mask[:, None, None, :] + torch.eye(6)).bool(),
    "given to each head": lambda mask, x: mask[:, None, None, :].bool().expand(-1, 2, -1, -1),
    "given to each query": lambda mask, x: mask[:, None, None, :].bool().expand(-1, -1, 6, -1),
}
IDS = torch.tensor([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])
SEEN = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])


@pytest.mark.parametrize("how", MASKS)
def test_attention_with_a_mask_for_each_example_gets_more_heads(how):
    gets_more_heads(copied(Padded(MASKS[how]), IDS, SEEN))


def gets_more_heads(net: morphs.Network) -> None:
    assert "attention" in kinds(net)
    returns(net, (IDS, SEEN))
    (attention,) = (node for node in net.graph if node.op.kind == "attention")
    sites = [
        child.network.graph
        for site in morphs.Widen.sites(net)
        if (child := morphs.apply(net, site, probe=(IDS, SEEN))).drift.eval <= 1e-12
    ]
    heads = net.graph.shape(attention.name)[0]
    assert any(graph.shape(attention.name)[0] > heads for graph in sites)


def test_torchs_encoder_with_a_padding_mask_gets_more_heads():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(11, 8)
            layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

        def forward(self, ids, seen):
            return self.layers(self.words(ids), src_key_padding_mask=seen == 0)

    gets_more_heads(copied(Encoder(), IDS, SEEN))


def test_positions_counted_by_a_mask_are_whole_numbers_in_every_probe():
    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places, self.out = nn.Embedding(11, 8), nn.Embedding(7, 8), nn.Linear(8, 3)
            self.hidden = nn.Linear(8, 8)

        def forward(self, ids, mask):
            places = self.places(torch.cumsum(mask, 1) * mask)
            return self.out(torch.relu(self.hidden(self.words(ids) + places)))

    net = copied(Counted(), IDS, SEEN)
    assert [node.op.whole for node in net.graph.inputs] == ["int64", "int64"]
    assert morphs.parse_graph(net.graph.text()) == net.graph
    for probe in (None, (IDS, SEEN)):
        assert morphs.apply(net, "widen(node=hidden, to=12)", probe=probe).drift.eval <= 1e-12
    returns(net, (IDS, SEEN))


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int32])
def test_an_input_keeps_its_type(kind):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x, mask):
            return self.out(torch.relu(self.stem(x)) * mask[:, :, None])

    net = copied(Masked(), normal(2, 6, 4), SEEN.to(kind))
    assert {node.op.dtype for node in net.graph.inputs} == {"float", str(kind).removeprefix("torch.")}
    assert morphs.apply(net, "widen(node=stem, to=12)").drift.eval <= 1e-12


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
