"""What the moves promise in the places where such tools go wrong."""

import itertools

import numpy as np
import pytest
import torch
from strategies import lively, some_batches

import morphs
from morphs.errors import IllegalMove
from morphs.moves.insert_norm import truncated
from morphs.moves.widen import split_shares


def exact(net: morphs.Network, move: str, seed: int = 0) -> morphs.Child:
    child = morphs.apply(net, move, seed=seed)
    assert child.drift.eval <= 1e-12
    assert child.drift.train <= 1e-11
    return child


FACTORS = {3: (((3, 3), (1, 1)), ((1, 1), (3, 3)), ((3, 3), (3, 3))), 5: (((3, 3), (3, 3)), ((5, 5), (3, 3)))}


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2)])
def test_factors_are_exact_at_borders_too(mode, stride, dilation):
    for kernel, bias in itertools.product((3, 5), ("true", "false")):
        graph = morphs.parse_graph(
            f"""
            x = input(size=[2, 12, 11])
            c = conv2d(x, channels=3, kernel={kernel}, stride={list(stride)}, padding=2, padding_mode={mode},
            dilation={list(dilation)}, bias={bias}); r = relu(c); d = conv2d(r, channels=2, kernel=1); out = output(d)
        """.replace(",\n", ",")
        )
        net = lively(graph)
        for one, two in FACTORS[kernel]:
            child = exact(
                net, f"deepen(node=c, how=netmorph, channels=40, kernel={list(one)}, then={list(two)})"
            )
            assert child.network.graph.shape("c") == graph.shape("c")
            exact(child.network, f"grow_kernel(node=conv1, to={[k + 2 for k in one]})")


def test_growing_a_kernel_grows_padding_with_dilation():
    graph = morphs.parse_graph(
        """
            x = input(size=[2, 9, 9])
            c = conv2d(x, channels=4, kernel=[3, 1], padding=[2, 0], dilation=[2, 3], groups=2); out = output(c)
        """
    )
    child = exact(lively(graph), "grow_kernel(node=c, to=[5, 3])").network
    assert child.graph["c"].op.padding == (4, 3)
    weight = child.weights["c", "weight"]
    assert float(weight[:, :, 0].abs().max()) == float(weight[:, :, :, 0].abs().max()) == 0


def test_a_shared_convolution_grows_for_both_uses():
    graph = morphs.parse_graph("""
        x = input(size=[2, 6, 6]); c = conv2d(x, channels=2, kernel=3, padding=1); t = tanh(c)
        d = conv2d(t, channels=2, kernel=3, padding=1, owner=c); out = output(d)
    """)
    child = exact(lively(graph), "grow_kernel(node=d, to=[5, 5])").network
    assert child.graph["c"].op == child.graph["d"].op
    with pytest.raises(IllegalMove, match='"c"'):
        morphs.apply(child, "deepen(node=c, how=netmorph, channels=9, kernel=[5, 5])")


def test_a_plain_relu_is_inserted_only_where_it_changes_nothing():
    graph = morphs.parse_graph("""
        x = input(size=[2, 4, 4]); c = conv2d(x, channels=2, kernel=1); r = relu(c); s = sigmoid(c); n = batch_norm(r)
        p = p_activation(n, fn=relu); a = add(r, s); m = max_pool2d(a, kernel=2); k = concat(m, m); l = leaky_relu(k)
        q = concat(k, l); u = max_pool2d(p, kernel=2); w = concat(q, u); d = dropout(w)
        o = conv2d(d, channels=1, kernel=1)
        out = output(o)
    """)
    plain = {}
    for node in graph:
        if node.op.kind not in ("input", "output") and node.name != "o":
            child = exact(lively(graph), f"deepen(node={node.name})").network.graph
            plain[node.name] = child["act1"].op.kind == "activation"
    assert [name for name, is_plain in plain.items() if is_plain] == ["r", "s", "a", "m", "k"]


def test_a_deep_stack_of_sums_is_judged_in_linear_time():
    text = "x = input(size=[2]); r = relu(x); " + "; ".join(
        f"a{i} = add(a{i - 1}, a{i - 1})" if i else "a0 = add(r, r)" for i in range(60)
    )
    graph = morphs.parse_graph(text + "; out = output(a59)")
    assert morphs.Deepen("a40").reshape(graph)["act1"].op.kind == "activation"


# -- widen -------------------------------------------------------------------------------------------

WIDE = {
    "grouped up- and downstream": ("c", 24, """
        c = conv2d(x, channels=12, kernel=3, groups=1); n = batch_norm(c); p = p_activation(n, fn=elu, per_channel=true)
        d = conv2d(p, channels=12, kernel=3, padding=1, groups=4); t = tanh(d)
        e = conv2d(t, channels=6, kernel=1, groups=6)
        y = conv2d(e, channels=2, kernel=1)"""),
    "a grouped convolution's own output": ("d", 24, """
        c = conv2d(x, channels=12, kernel=3); d = conv2d(c, channels=12, kernel=3, padding=1, groups=4)
        n = batch_norm(d)
        e = conv2d(n, channels=6, kernel=1, groups=6); y = conv2d(e, channels=2, kernel=1)"""),
    "grouped in a residual": ("c", 10, """
        c = conv2d(x, channels=6, kernel=3); t = mish(c); d = conv2d(t, channels=6, kernel=3, padding=1, groups=2)
        a = add(d, c); y = conv2d(a, channels=2, kernel=1)"""),
    "grouped by three and two at once": ("c", 18, """
        c = conv2d(x, channels=6, kernel=1); d = conv2d(c, channels=3, kernel=1, groups=3)
        e = conv2d(c, channels=4, kernel=1, groups=2)
        k = concat(d, e); y = conv2d(k, channels=2, kernel=1)"""),
    "concat offsets": ("b", 7, """
        a = conv2d(x, channels=2, kernel=1); b = conv2d(x, channels=3, kernel=1); e = relu(b); k = concat(e, a, e)
        n = batch_norm(k); y = conv2d(n, channels=2, kernel=3)"""),
    "a part of a wide convolution": ("b", 7, """
        a = conv2d(x, channels=2, kernel=1); b = conv2d(x, channels=3, kernel=1); k = concat(a, b)
        w = conv2d(x, channels=5, kernel=1); s = add(w, k); n = batch_norm(s); y = conv2d(n, channels=2, kernel=3)"""),
    "flatten": ("c", 5, """
        c = conv2d(x, channels=3, kernel=3); m = max_pool2d(c, kernel=2); f = flatten(m); y = linear(f, features=2)"""),
    "flatten of a concat": ("b", 5, """
        a = conv2d(x, channels=2, kernel=1); b = conv2d(x, channels=3, kernel=1); k = concat(a, b); f = flatten(k)
        n = batch_norm(f); p = p_activation(n, fn=relu, per_channel=true); y = linear(p, features=2)"""),
    "depthwise multiplier, then flatten": ("c", 5, """
        c = conv2d(x, channels=3, kernel=1); d = conv2d(c, channels=6, kernel=3, groups=3); n = batch_norm(d)
        f = flatten(n)
        y = linear(f, features=2)"""),
    "two multipliers": ("c", 4, """
        c = conv2d(x, channels=2, kernel=1); d = conv2d(c, channels=4, kernel=3, groups=2)
        e = conv2d(d, channels=12, kernel=1, groups=4)
        y = conv2d(e, channels=2, kernel=1)"""),
    "squeeze and excitation": ("c", 6, """
        c = conv2d(x, channels=4, kernel=1); g = adaptive_avg_pool2d(c); h = conv2d(g, channels=2, kernel=1)
        s = conv2d(h, channels=4, kernel=1); t = sigmoid(s); m = multiply(c, t)
        y = conv2d(m, channels=2, kernel=1)"""),
    "shared modules": ("a", 7, """
        a = conv2d(x, channels=4, kernel=1); s = conv2d(a, channels=4, kernel=3, padding=1); n = batch_norm(s)
        t = conv2d(n, channels=4, kernel=3, padding=1, owner=s); o = batch_norm(t, owner=n)
        y = conv2d(o, channels=2, kernel=1)"""),
    "an owner that comes after its user": ("a", 7, """
        a = conv2d(x, channels=4, kernel=1); b = conv2d(a, channels=4, kernel=1, owner=z); r = relu(b)
        z = conv2d(r, channels=4, kernel=1); y = conv2d(z, channels=2, kernel=1)"""),
    "norms without affine or statistics": ("c", 9, """
        c = conv2d(x, channels=4, kernel=3); n = batch_norm(c, affine=false); r = silu(n)
        d = batch_norm(r, track_running_stats=false); s = scale(d); y = conv2d(s, channels=2, kernel=1)"""),
    "one unit many times": ("c", 17, """
        c = conv2d(x, channels=1, kernel=3); r = relu(c); y = conv2d(r, channels=2, kernel=3)"""),
}  # fmt: skip


EVEN = {  # new channels come in pairs, in each part of a group alike
    "grouped up- and downstream": 20, "a grouped convolution's own output": 36, "shared modules": 8,
    "an owner that comes after its user": 8, "norms without affine or statistics": 10,
}  # fmt: skip


@pytest.mark.parametrize("how", ["replicate", "zero", "paired"])
@pytest.mark.parametrize("case", WIDE)
def test_widening_is_exact_through(case, how):
    node, to, body = WIDE[case]
    to = EVEN.get(case, to) if how == "paired" else to
    net = lively(
        morphs.parse_graph(
            f"x = input(size=[3, 6, 6]); {' '.join(body.split())}; out = output(y)".replace(") ", "); ")
        )
    )
    for seed in range(3):
        child = exact(net, f"widen(node={node}, to={to}, how={how})", seed)
    assert child.network.graph.shape(node)[0] == to
    narrow = exact(
        child.network,
        str(next(m for m in morphs.Widen.sites(child.network, options={"how": (how,)}) if m.node == node)),
    )
    assert narrow.network.graph.shape(node)[0] > to


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(
    "move", ["grow_kernel(node=c, to=[5, 5])", "widen(node=c, to=9)", "widen(node=d, to=9)"]
)
def test_weights_may_lie_channels_last(move, kernel):
    graph = morphs.parse_graph(
        f"""x = input(size=[3, 9, 9]); d = conv2d(x, channels=4, kernel={kernel}); r = relu(d)
        c = conv2d(r, channels=5, kernel={kernel}); s = relu(c); e = conv2d(s, channels=2, kernel={kernel})
        out = output(e)"""
    )
    net = lively(graph)
    last = {k: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for k, t in net.weights.items()}
    exact(morphs.Network(graph, last), move)


def test_clones_get_unequal_shares_that_sum_to_one():
    for count in range(1, 40):
        source = np.random.default_rng(count).permutation(np.repeat([0, 1, 2], [count, 1, 2]))
        shares = split_shares(source, torch.Generator().manual_seed(count))
        for unit, copies in ((0, count), (1, 1), (2, 2)):
            assert shares[source == unit].sum() == pytest.approx(1, abs=1e-15)
            assert len(set(shares[source == unit])) == copies
        assert (shares > 0).all()
        assert set(shares[source == 2]) == {0.25, 0.75}


def test_replicated_norms_gather_all_their_vectors_with_one_index():
    graph = morphs.parse_graph(
        """
            x = input(size=[3, 4, 4]); c = conv2d(x, channels=4, kernel=1); n = batch_norm(c)
            o = conv2d(n, channels=2, kernel=1); out = output(o)
        """
    )
    net = lively(graph)
    child = exact(net, "widen(node=c, to=7)").network
    sources = [
        [int((net.weights["n", name] == value).nonzero()) for value in child.weights["n", name]]
        for name in ("weight", "bias", "running_mean", "running_var")
    ]
    assert sources[0] == sources[1] == sources[2] == sources[3]
    assert child.weights["n", "num_batches_tracked"] == 7


def test_zero_widening_shuffles_new_channels_among_the_old_and_zeroes_what_reads_them():
    graph = morphs.parse_graph(
        """
            x = input(size=[3, 4, 4]); c = conv2d(x, channels=4, kernel=1); r = relu(c)
            o = conv2d(r, channels=2, kernel=1); out = output(o)
        """
    )
    child = exact(lively(graph), "widen(node=c, to=12, how=zero)")
    new = torch.tensor(child.origin["c", "weight"].axes[0] < 0)
    assert int(new.sum()) == 8
    assert not bool(new[4:].all())
    assert bool((child.network.weights["o", "weight"][:, new] == 0).all())
    assert bool((child.network.weights["c", "weight"][new] != 0).all())


# -- insert_norm -------------------------------------------------------------------------------------

NORMED = """
    x = input(size=[3, 5, 5]); c = conv2d(x, channels=4, kernel=3); t = tanh(c)
    y = conv2d(t, channels=2, kernel=3); out = output(y)
"""


def test_an_inserted_norm_is_exact_in_eval_and_in_train_on_its_own_calibration_batch():
    net = lively(morphs.parse_graph(NORMED))
    (batch,) = some_batches(net, count=1, size=16)
    child = morphs.apply(net, "insert_norm(node=c)", batches=[batch], probe=batch[0])
    assert child.drift.eval <= 1e-12
    assert child.drift.train <= 1e-10
    other = morphs.drift(net, child.network, seed=9)
    assert other.eval <= 1e-12
    assert 1e-3 < other.train < 1
    assert child.move.preserves is morphs.Preserves.EXACT_IN_EVAL


@pytest.mark.parametrize(("size", "kernel"), [("9", "3"), ("5, 5, 5", "3, 3, 3")])
def test_a_norm_after_each_convolution_of_a_signal_or_a_volume(size: str, kernel: str):
    net = lively(
        morphs.parse_graph(f"""
            x = input(size=[3, {size}]); c = conv(x, channels=4, kernel=[{kernel}]); t = tanh(c)
            y = conv(t, channels=2, kernel=[{kernel}]); out = output(y)
        """)
    )
    (site,) = morphs.InsertNorm.sites(net)
    assert site.node == "c"
    assert morphs.apply(net, site, batches=some_batches(net)).drift.eval <= 1e-12


def test_the_calibration_is_that_of_all_batches_together():
    net = lively(morphs.parse_graph(NORMED))
    batches = [(x + 1000, y) for x, y in some_batches(net, count=3)]
    whole = [(torch.cat([x for x, _ in batches]), torch.zeros(18))]
    parts, once = (
        morphs.apply(net, "insert_norm(node=c)", batches=b).network.weights for b in (batches, whole)
    )
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.allclose(parts["norm1", name], once["norm1", name], rtol=1e-9)
    values = net.to_torch().get_submodule("c")(whole[0][0].double()).transpose(0, 1).flatten(1)
    assert torch.allclose(once["norm1", "running_var"], values.var(1, correction=0), rtol=1e-9)
    assert int(parts["norm1", "num_batches_tracked"]) == 3


def test_a_constant_channel_does_not_break_the_calibration(tmp_path):
    net = morphs.init(morphs.parse_graph(NORMED), dtype=torch.float64)
    dead = morphs.Network(
        net.graph, {**net.weights, ("c", "weight"): torch.zeros(4, 3, 3, 3, dtype=torch.float64)}
    )
    child = morphs.apply(dead, "insert_norm(node=c)", batches=some_batches(net))
    assert child.drift.eval <= 1e-12
    morphs.save(child.network, tmp_path)  # no two tensors share memory


def test_truncated_networks_compute_the_inner_value_with_shared_modules_cut_off():
    graph = morphs.parse_graph("""
        x = input(size=[2, 4, 4]); y = input(size=[2, 4, 4]); b = conv2d(y, channels=2, kernel=1, owner=z)
        n = batch_norm(b, owner=m)
        c = conv2d(n, channels=2, kernel=1, owner=z); r = relu(c); a = add(r, x); z = conv2d(a, channels=2, kernel=1)
        m = batch_norm(z); out = output(m)
    """)
    net = lively(graph)
    part = truncated(net, "c")
    assert [n.name for n in part.graph.inputs] == ["y"]
    inner = {}
    module = net.to_torch().eval()
    module.get_submodule("z").register_forward_hook(
        lambda _m, _i, out: inner.setdefault("calls", []).append(out)
    )
    x, y = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    module(x, y)
    assert torch.allclose(part.to_torch().eval()(y), inner["calls"][1])
    child = morphs.apply(net, "insert_norm(node=c)", batches=[((x, y), torch.zeros(3))])
    assert child.drift.eval <= 1e-12
