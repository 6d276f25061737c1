"""Transformers, signals, volumes and norms across channels: their ops compute what torch does, and moves keep it."""

import pytest
import torch
from strategies import lively
from token_support import NETWORKS
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

import morphs
from morphs.errors import IllegalMove
from morphs.examples import random_inputs
from morphs.graph.widths import channel_groups
from morphs.testing import check_training

NETS = {name: lively(morphs.parse_graph(text)) for name, text in NETWORKS.items()}


def inputs(net: morphs.Network, count: int = 3) -> tuple[torch.Tensor, ...]:
    return random_inputs(net.graph, count, torch.Generator().manual_seed(5), torch.float64)


def groups(name: str) -> dict[str, int]:
    """Producers -> width of the groups that may change."""
    found = channel_groups(NETS[name].graph)
    return {" ".join(sorted(g.producers)): g.width for g in found.groups if g.fixed is None}


# -- the ops, next to torch's own modules ------------------------------------------------------------------


class Loaded(nn.Module):
    """Modules by the names of a network's nodes, with its weights."""

    def __init__(self, net: morphs.Network, **modules: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(modules).double()
        for (node, name), tensor in net.weights.items():
            if node in self.parts:
                self.parts.get_submodule(node).get_parameter(name).data.copy_(tensor)

    def __getattr__(self, name: str):
        parts = self.__dict__["_modules"].get("parts")
        return parts[name] if parts is not None and name in parts else super().__getattr__(name)


def test_a_gpt_is_torchs():
    net = NETS["gpt"]
    blocks = {
        f"{stem}{n}": module
        for n in (1, 2)
        for stem, module in {
            "a": nn.LayerNorm(8), "w": nn.Linear(8, 24), "o": nn.Linear(8, 8), "b": nn.LayerNorm(8),
            "f": nn.Linear(8, 12), "h": nn.Linear(12, 8),
        }.items()
    }  # fmt: skip
    m = Loaded(net, e=nn.Embedding(11, 8), z=nn.LayerNorm(8), **blocks)
    (x,) = inputs(net)
    y = m.e(x) + net.weights["p", "weight"]
    for n in (1, 2):
        q, k, v = m.parts[f"w{n}"](m.parts[f"a{n}"](y)).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (q, k, v))
        t = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        y = y + m.parts[f"o{n}"](t)
        y = y + m.parts[f"h{n}"](gelu(m.parts[f"f{n}"](m.parts[f"b{n}"](y))))
    same(net, x, m.z(y) @ m.e.weight.T)


def test_a_vision_transformer_is_torchs():
    net = NETS["vit"]
    m = Loaded(
        net, c=nn.Conv2d(3, 8, 4, 4), a=nn.LayerNorm(8), w=nn.Linear(8, 24), o=nn.Linear(8, 8), b=nn.LayerNorm(8),
        f=nn.Linear(8, 12), h=nn.Linear(12, 8), n=nn.LayerNorm(8), l=nn.Linear(8, 3),
    )  # fmt: skip
    (x,) = inputs(net)
    y = torch.cat([net.weights["k", "weight"].expand(len(x), 1, 8), m.c(x).flatten(2).transpose(1, 2)], 1)
    y = y + net.weights["p", "weight"]
    q, k, v = m.w(m.a(y)).reshape(len(x), 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    t = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(x), 5, 8)
    y = y + net.weights["os", "weight"] * m.o(t)
    y = y + m.h(gelu(m.f(m.b(y))))
    same(net, x, m.l(m.n(y)[:, 0]))


def test_grouped_queries_and_gated_units_are_torchs():
    net = NETS["llama"]
    bare = {"bias": False}
    m = Loaded(
        net, e=nn.Embedding(7, 8), a=nn.RMSNorm(8, 1e-6), q=nn.Linear(8, 16, **bare), k=nn.Linear(8, 8, **bare),
        v=nn.Linear(8, 8, **bare), qn=nn.RMSNorm(4, 1e-6), o=nn.Linear(16, 8, **bare), b=nn.RMSNorm(8, 1e-6),
        g1=nn.Linear(8, 6, **bare), g2=nn.Linear(8, 6, **bare), d=nn.Linear(6, 8, **bare), n=nn.RMSNorm(8, 1e-6),
        l=nn.Linear(8, 7, **bare),
    )  # fmt: skip
    (x,) = inputs(net)
    y = m.e(x)
    z = m.a(y)
    q, k, v = (f(z).unflatten(-1, (-1, 4)).transpose(1, 2) for f in (m.q, m.k, m.v))
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    y = y + m.o(scaled_dot_product_attention(m.qn(q), k, v, is_causal=True).transpose(1, 2).flatten(2))
    z = m.b(y)
    same(net, x, m.l(m.n(y + m.d(silu(m.g1(z)) * m.g2(z)))))


def same(net: morphs.Network, x: torch.Tensor, expected: torch.Tensor) -> None:
    found = net.to_torch().eval()(x)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "op", "module"),
    [
        ("conv1d", "conv(x, channels=4, kernel=[3], stride=[2], padding=[1], dilation=[2], padding_mode=circular)",
         nn.Conv1d(6, 4, 3, 2, 1, 2, padding_mode="circular")),
        ("groups", "conv(x, channels=6, kernel=[3], groups=3, bias=false)", nn.Conv1d(6, 6, 3, groups=3, bias=False)),
        ("transposed", "conv_transpose(x, channels=4, kernel=[3], stride=[2], padding=[1], output_padding=[1])",
         nn.ConvTranspose1d(6, 4, 3, 2, 1, 1)),
        ("max", "pool(x, how=max, kernel=[3], stride=[2], padding=[1], ceil_mode=true)",
         nn.MaxPool1d(3, 2, 1, ceil_mode=True)),
        ("avg", "pool(x, how=avg, kernel=[3], stride=[2], padding=[1])", nn.AvgPool1d(3, 2, 1)),
        ("norm", "batch_norm(x)", nn.BatchNorm1d(6)), ("group", "group_norm(x, parts=3)", nn.GroupNorm(3, 6)),
        ("layer", "layer_norm(x, eps=0.001, bias=false)", nn.LayerNorm(8, 0.001, bias=False)),
        ("linear", "linear(x, features=5)", nn.Linear(8, 5)),
    ],
)  # fmt: skip
def test_ops_of_signals_are_torchs(name, op, module):
    net = lively(morphs.parse_graph(f"x = input(size=[6, 8]); y = {op}; out = output(y)"))
    state = {key: net.weights["y", key] for key in module.state_dict()}
    module.double().load_state_dict(state)
    x = torch.randn(3, 6, 8, dtype=torch.float64)
    assert torch.equal(net.to_torch().eval()(x), module.eval()(x))
    assert net.graph.shape("y") == tuple(module(x).shape[1:])


@pytest.mark.parametrize("size", [[4, 5], [4, 5, 6], [4, 5, 6, 3]])
def test_transposed_convolutions_and_norms_of_any_rank(size):
    rank = len(size) - 1
    text = (
        f"x = input(size={size}); y = conv_transpose(x, channels=3, kernel={[2] * rank}, stride={[2] * rank})"
    )
    net = lively(morphs.parse_graph(f"{text}; n = batch_norm(y); out = output(n)"))
    (x,) = inputs(net)
    module = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1](4, 3, 2, 2).double()
    module.load_state_dict({"weight": net.weights["y", "weight"], "bias": net.weights["y", "bias"]})
    norm = {key: net.weights["n", key] for key in ("running_mean", "running_var", "weight", "bias")}
    assert torch.allclose(net.to_torch().eval()(x), nn.functional.batch_norm(module(x), **norm), atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_text_and_json_read_back(name):
    graph = NETS[name].graph
    assert morphs.parse_graph(graph.text()) == graph
    assert morphs.graph_from_json(graph.to_json()) == graph


def test_fields_that_came_later_are_left_out_at_their_defaults():
    old = morphs.parse_graph(
        "x = input(size=[2]); s = scale(x); p = p_activation(s, fn=relu); out = output(p)"
    )
    assert '"op":{"kind":"scale","per_channel":true}' in old.to_json()
    assert '"op":{"kind":"input","size":[2]}' in old.to_json()
    new = morphs.parse_graph("x = input(size=[4, 2]); s = scale(x, axis=-1); out = output(s)")
    assert '"axis":-1' in new.to_json()


# -- widths ------------------------------------------------------------------------------------------------


def test_the_widths_of_transformers():
    assert groups("gpt") == {"e h1 h2 o1 o2 p": 8, "w1": 2, "w2": 2, "f1": 12, "f2": 12}
    assert groups("vit") == {"c h k o p": 8, "w": 2, "f": 12}
    assert groups("llama") == {"d e o": 8, "k q v": 2, "g1 g2": 6}


def test_the_widths_of_signals_volumes_and_norms():
    assert groups("signal") == {"c": 6, "u": 4}
    assert groups("volume") == {"c": 4, "d": 6}
    assert groups("grouped") == {"c": 6, "d": 5, "e": 4}
    assert groups("mixer") == {"c k": 6, "f": 5, "i": 7}


def test_heads_are_whole_and_those_of_grouped_queries_come_with_theirs():
    graph = morphs.Widen("ks", 3, "zero").reshape(NETS["llama"].graph)
    assert [graph.shape(name) for name in ("q", "k", "v", "th", "tm") if name in graph] == [
        (5, 24), (5, 12), (5, 12), (5, 24)
    ]  # fmt: skip
    assert graph.shape("t") == (6, 5, 4)
    fused = morphs.Widen("q1s", 3, "zero").reshape(NETS["gpt"].graph)
    assert fused.shape("w1") == (5, 36)
    assert [(fused[f"{n}1"].op.start, fused[f"{n}1"].op.stop) for n in "qkv"] == [(0, 12), (12, 24), (24, 36)]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_widening_is_exact_in_both_modes_and_learns(name):
    net = NETS[name]
    sites = list(morphs.Widen.sites(net))
    assert sites
    for site in sites:
        child = morphs.apply(net, site, seed=1)
        assert max(child.drift.eval, child.drift.train) <= 1e-12, site
        check_training(net, child)
        again = morphs.apply(child.network, site.__class__(site.node, 2 * site.to, site.how), seed=2)
        assert morphs.drift(net, again.network).eval <= 1e-12


def test_tied_embeddings_stay_tied():
    for how in ("replicate", "zero"):
        child = morphs.apply(NETS["gpt"], morphs.Widen("e", 16, how))
        names = [name for name, _ in child.network.to_torch().named_parameters()]
        assert "e.weight" in names
        assert not any(name.startswith("l.") for name in names)
        assert child.network.weights["e", "weight"].shape == (11, 16)


def test_a_residual_stream_of_any_width_under_layer_norm_has_the_others_mean():
    child = morphs.apply(NETS["gpt"], "widen(node=e, to=11, how=zero)").network
    old = NETS["gpt"].graph["a1"].op.eps
    assert child.graph["a1"].op.eps == pytest.approx(old * 8 / 11)
    weight = child.weights["e", "weight"]
    new = [place for place in range(11) if torch.allclose(weight[:, place], weight.mean(1))]
    assert len(new) == 3


@pytest.mark.parametrize(
    ("name", "move"),
    [
        ("gpt", "widen(node=f1, to=16, how=paired)"),
        ("vit", "widen(node=q, to=4, how=paired)"),
        ("llama", "widen(node=ks, to=4, how=paired)"),
        ("signal", "widen(node=c, to=8, how=paired)"),
        ("signal", "widen(node=u, to=6, how=paired)"),
        ("volume", "widen(node=c, to=8, how=paired)"),
        ("mixer", "widen(node=i, to=9, how=paired)"),
    ],
)
def test_pairs_cancel_in_both_modes_and_part(name, move):
    child = morphs.apply(NETS[name], move, seed=1)
    assert max(child.drift.eval, child.drift.train) <= 1e-12
    check_training(NETS[name], child)


def test_weights_of_an_embedding_read_as_a_linear_layers_have_no_pairs():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[4], tokens=6); e = embedding(x, count=6, features=5)
        l = unembedding(e, count=6, owner=e); out = output(l)""")
    )
    with pytest.raises(IllegalMove, match="tied"):
        morphs.apply(net, "widen(node=e, to=7, how=paired)")


REFUSED = {
    "widen(node=e, to=12)": ("gpt", "a1", "8", "how=zero"),
    "widen(node=c, to=9, how=zero)": ("grouped", "n", "how=replicate"),
    "widen(node=e, to=16, how=gradient)": ("llama", "a", "how=zero"),
    "widen(node=e, to=16, how=paired)": ("llama", "a", "how=zero"),
    "widen(node=c, to=12, how=paired)": ("grouped", "n", "how=replicate"),
    "widen(node=w1, to=30)": ("gpt", "w1", "e"),
    "insert_norm(node=f)": ("vit", "f", "(5, 12)"),
    "add_block(node=um, heads=3, part=attention)": ("vit", "3", "8"),
    "add_block(node=c)": ("vit", "c", "(8, 2, 2)"),
}


@pytest.mark.parametrize("move", REFUSED)
def test_what_has_no_exact_form_is_refused_with_the_reason(move):
    name, *said = REFUSED[move]
    with pytest.raises(IllegalMove) as caught:
        morphs.apply(NETS[name], move)
    assert all(word in str(caught.value) for word in said), caught.value


def test_what_an_operator_writes_has_no_width_to_change():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[3]); f = linear(x, features=4)
        a = aten(f, operator="aten.softmax.int", args="[{\\"tensor\\": 0}, 1]", size=[-1, 4])
        l = linear(a, features=2); out = output(l)""")
    )
    for node, said in (("a", "no width"), ("f", 'operator "a"')):
        with pytest.raises(IllegalMove, match=said):
            morphs.apply(net, morphs.Widen(node, 6))


def test_an_embedding_read_without_a_norm_is_widened_with_zeros_only():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[4], tokens=6); e = embedding(x, count=6, features=5); f = linear(e, features=5)
        s = add(e, f); l = unembedding(s, count=6, owner=e); out = output(l)""")
    )
    with pytest.raises(IllegalMove, match=r'"l".*"e".*how=zero'):
        morphs.apply(net, "widen(node=e, to=7)")
    child = morphs.apply(net, "widen(node=e, to=7, how=zero)")
    assert child.drift.train <= 1e-12
    check_training(net, child)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_channels_of_a_grouped_convolution_are_not_the_mean_of_others(groups):
    net = lively(
        morphs.parse_graph(f"""
        x = input(size=[4, 5, 5]); c = conv2d(x, channels=4, kernel=3, padding=1, groups={groups})
        p = permute(c, order=[1, 2, 0]); n = layer_norm(p); f = linear(n, features=6); g = gelu(f)
        q = permute(g, order=[2, 0, 1]); d = conv2d(q, channels=2, kernel=1); out = output(d)""")
    )
    for site in morphs.Widen.sites(net):
        drift = morphs.apply(net, site).drift
        assert max(drift.eval, drift.train) < 1e-12
    if groups > 1:
        with pytest.raises(IllegalMove, match='"c"'):
            morphs.apply(net, "widen(node=c, to=8, how=zero)")


# -- blocks ------------------------------------------------------------------------------------------------


def test_a_stream_under_layer_norm_is_not_widened_where_a_tied_reader_would_read_its_mean():
    net = lively(
        morphs.parse_graph("""
        i = input(size=[5], tokens=6); e = embedding(i, count=6, features=4)
        n = layer_norm(e); f = linear(n, features=4); s = add(e, f)
        h = linear(s, features=4); r = relu(h); l = unembedding(r, count=6, owner=e); out = output(l)""")
    )
    with pytest.raises(IllegalMove, match='"l"'):
        morphs.apply(net, "widen(node=e, to=8, how=zero)")
    for site in morphs.Widen.sites(net):
        drift = morphs.apply(net, site).drift
        assert max(drift.eval, drift.train) < 1e-12


@pytest.mark.parametrize("name", ["gpt", "vit", "llama"])
def test_added_blocks_are_exact_in_both_modes_and_learn(name):
    net = NETS[name]
    sites = list(
        morphs.AddBlock.sites(net, options={"part": ("attention", "mlp", "both"), "gated": (False, True)})
    )
    assert {site.part for site in sites} == {"attention", "mlp", "both"}
    assert all(site.causal for site in sites if site.part != "mlp") == (name != "vit")
    for site in sites[::3]:
        child = morphs.apply(net, site)
        assert max(child.drift.eval, child.drift.train) <= 1e-12
        check_training(net, child)
        wider = next(iter(morphs.Widen.sites(child.network)))
        assert morphs.apply(child.network, wider).drift.eval <= 1e-12


def test_a_block_of_post_norm_is_refused():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[4], tokens=6); e = embedding(x, count=6, features=8); f = linear(e, features=8); s = add(e, f)
        n = layer_norm(s); g = linear(n, features=8); t = add(n, g); m = layer_norm(t); l = linear(m, features=2)
        out = output(l)""")
    )
    for node in ("s", "n"):
        with pytest.raises(IllegalMove, match=r'"n".*x \+ 0'):
            morphs.apply(net, f"add_block(node={node}, hidden=4)")


# -- an optimizer through all of it ------------------------------------------------------------------------


def test_adamw_goes_through_depth_heads_and_width():
    net = NETS["gpt"]
    module = net.to_torch()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        x = torch.randint(11, (8, 5), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x).flatten(0, 1), x.flatten()).backward()
        optimizer.step()

    for move in ("add_block(node=y1, part=both, heads=2, hidden=16, causal=true)", "widen(node=q1s, to=3, how=zero)",
                 "widen(node=e, to=12, how=zero)", "widen(node=f2, to=20)"):  # fmt: skip
        for _ in range(3):
            step()
        child = morphs.apply(net.with_weights_from(module), move)
        before, module = module, child.network.to_torch()
        optimizer, net = morphs.carry(optimizer, before, module, child), child.network
        for key, origin in child.origin.items():
            state = optimizer.state.get(module.get_parameter(".".join(key)))
            assert bool(state) == (origin.source is not None)
    step()
    assert all(bool(p.isfinite().all()) for p in module.parameters())
