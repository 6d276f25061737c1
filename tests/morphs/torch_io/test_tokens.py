"""Token networks as torch.export shows them: read as ops, the batch first, whatever order the module has."""

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


@pytest.mark.parametrize("causal", [False, True])
def test_torchs_encoder_with_a_padding_mask_gets_more_heads(causal):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            seen = torch.ones(6, 6).triu(1) == 1
            self.register_buffer("later", torch.zeros(6, 6).masked_fill(seen, -torch.inf) if causal else None)
            self.words = nn.Embedding(11, 8)
            layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

        def forward(self, ids, seen):
            hidden = self.words(ids)
            padding = torch.zeros_like(seen, dtype=hidden.dtype).masked_fill(seen == 0, -torch.inf)
            return self.layers(hidden, self.later, src_key_padding_mask=padding, is_causal=False)

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


def test_a_mask_that_torch_would_look_into_is_refused_with_what_to_say():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True)
            self.layers, self.said = nn.TransformerDecoder(layer, 1), {}

        def forward(self, x, seen):
            later = torch.ones(6, 6).triu(1) == 1
            return self.layers(x, x, later, memory_key_padding_mask=seen == 0, **self.said)

    made = Decoder().double()
    given = normal(2, 6, 8), SEEN
    with pytest.raises(morphs.errors.UnsupportedModule, match="tgt_is_causal"):
        morphs.from_torch(made, given)
    made.said = {"tgt_is_causal": False}
    assert "attention" in kinds(copied(made, *given))


def test_an_argument_that_is_no_tensor_is_refused_by_its_name():
    module = Calls(lambda m, x: m.a(x["a"]), a=nn.Linear(4, 2))
    with pytest.raises(morphs.errors.UnsupportedModule, match='"x" is a dict'):
        morphs.from_torch(module, {"x": {"a": torch.ones(2, 4)}})
