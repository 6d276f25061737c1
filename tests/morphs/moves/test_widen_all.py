"""WidenAll: every free width by one factor, in one move."""

import pytest
import torch

import morphs
from morphs import WidenAll
from morphs.graph.widths import channel_groups
from search_spaces import SPACES

SEED = SPACES["residual"]((3, 16, 16), 10).seed


@pytest.mark.parametrize("how", ["replicate", "zero", "paired"])
def test_every_free_width_grows_and_the_function_stays(how: morphs.moves.widen.How) -> None:
    net = morphs.init(SEED, seed=0).to(torch.float64)
    child = morphs.apply(net, WidenAll(1.5, how), seed=1)
    old, new = (channel_groups(graph) for graph in (SEED, child.network.graph))
    assert [new.groups[n].width for n in old.free()] == [round(1.5 * old.groups[n].width) for n in old.free()]
    assert child.drift is not None
    assert child.drift.eval < 1e-10


def test_what_is_kept_is_found_in_the_parent() -> None:
    """Zero widening keeps every old weight: carried along its origin, each is where it is in the child."""
    net = morphs.init(SEED, seed=0)
    child = morphs.apply(net, WidenAll(2, "zero"), seed=1)
    carried = morphs.carry_values(net.weights, child)
    kept = morphs.carry_values({key: torch.ones_like(w) for key, w in net.weights.items()}, child)
    for key, weight in child.network.weights.items():
        assert torch.equal(carried[key], weight * kept[key])
        assert int(kept[key].sum()) == net.weights[key].numel()


def test_one_move_is_the_chain_of_its_widenings() -> None:
    net = morphs.init(SEED, seed=0)
    whole = morphs.apply(net, WidenAll(1.5, "replicate"), seed=1)
    steps = [morphs.Widen(f"c{n}", 24 * 2 ** (n - 1), "replicate") for n in (1, 2, 3)]
    *_, last = morphs.apply_chain(net, steps, seed=1)
    assert whole.network.graph == last.network.graph


def test_a_factor_that_does_not_widen_is_refused() -> None:
    with pytest.raises(morphs.errors.IllegalMove):
        WidenAll(1.0).reshape(SEED)


@pytest.mark.parametrize("how", ["replicate", "zero"])
def test_a_transformer_grows_as_a_whole(how: morphs.moves.widen.How) -> None:
    graph = morphs.parse_graph(
        "x = input(size=[5, 4]); e = linear(x, features=8); n = layer_norm(e)\n"
        "q = linear(n, features=8); k = linear(n, features=8); v = linear(n, features=8)\n"
        "a = reshape(q, size=[5, 2, 4]); b = reshape(k, size=[5, 2, 4]); c = reshape(v, size=[5, 2, 4])\n"
        "d = permute(a, order=[1, 0, 2]); g = permute(b, order=[1, 0, 2]); h = permute(c, order=[1, 0, 2])\n"
        "t = attention(d, g, h); u = permute(t, order=[1, 0, 2]); w = reshape(u, size=[5, 8])\n"
        "o = linear(w, features=8); s = add(e, o); m = layer_norm(s); f = linear(m, features=16); r = gelu(f)\n"
        "p = linear(r, features=8); y = add(s, p); z = mean(y, axes=[0]); out = output(z)"
    )
    net = morphs.init(graph, seed=0).to(torch.float64)
    child = morphs.apply(net, WidenAll(2, how), seed=1)
    old, new = (channel_groups(each) for each in (graph, child.network.graph))
    assert [n for n in old.free() if new.groups[n].width == 2 * old.groups[n].width]
    assert child.drift is not None
    assert max(child.drift.eval, child.drift.train) < 1e-10


def test_a_network_that_no_widening_fits_is_refused_with_the_first_reason() -> None:
    graph = morphs.parse_graph(
        "x = input(size=[2, 1, 1]); c = conv2d(x, channels=2, kernel=1); g = group_norm(c, parts=1); f = flatten(g)\n"
        "l = linear(f, features=2); out = output(l)"
    )
    with pytest.raises(morphs.errors.IllegalMove, match=r'widen_all: .*"g".*; .*replicate'):
        WidenAll(1.5, "zero").reshape(graph)
