"""Channel groups: which layers change width together, and an oracle: whatever is widened still runs in torch."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import graphs, lively, networks

import morphs
from morphs.graph.arch import ArchGraph
from morphs.graph.widths import channel_groups, resized


def groups_of(text: str) -> dict[str, tuple[int, int, str | None]]:
    """Producers -> (width, blocks, why fixed) of the groups of a graph in short text form."""
    found = channel_groups(morphs.parse_graph(text)).groups
    return {" ".join(g.producers): (g.width, g.blocks, g.fixed) for g in found}


def free(text: str) -> dict[str, int]:
    return {name: width for name, (width, _, fixed) in groups_of(text).items() if fixed is None}


IN = "x = input(size=[3, 4, 4]); "


def test_a_chain_has_a_group_for_each_layer_and_fixed_ends():
    found = groups_of(
        IN
        + "c = conv2d(x, channels=4, kernel=1); r = relu(c); d = conv2d(r, channels=5, kernel=1); out = output(d)"
    )
    assert found["c"] == (4, 1, None)
    assert found["x"][2] == 'has the width of the input "x", which is fixed at 3'
    assert found["d"][2] == "feeds the output, whose width is fixed at 5"


def test_an_add_ties_what_it_reads():
    text = (
        IN
        + """c = conv2d(x, channels=4, kernel=1); n = batch_norm(c); d = conv2d(n, channels=4, kernel=1)
        e = conv2d(x, channels=4, kernel=1); a = add(n, d, e); o = conv2d(a, channels=2, kernel=1); out = output(o)"""
    )
    assert free(text) == {"c e d": 4}


def test_an_input_in_the_sum_fixes_it():
    text = (
        IN
        + "c = conv2d(x, channels=3, kernel=1); a = add(c, x); o = conv2d(a, channels=2, kernel=1); out = output(o)"
    )
    assert free(text) == {}


def test_concat_keeps_its_parts_apart_and_a_sum_with_it_is_cut():
    text = (
        IN
        + """a = conv2d(x, channels=2, kernel=1); b = conv2d(x, channels=3, kernel=1); k = concat(a, b)
        w = conv2d(x, channels=5, kernel=1); s = add(w, k); o = conv2d(s, channels=2, kernel=1); out = output(o)"""
    )
    assert free(text) == {"a w": 2, "b w": 3}
    widths = channel_groups(morphs.parse_graph(text))
    assert sorted(widths.free().values()) == ["a", "b"]
    assert widths.group_of("w") is None


def test_flatten_multiplies_columns_and_keeps_the_group():
    graph = morphs.parse_graph(
        IN + "c = conv2d(x, channels=2, kernel=1); f = flatten(c); l = linear(f, features=3); out = output(l)"
    )
    widths = channel_groups(graph)
    assert [(s.times, widths.groups[s.group].width) for s in widths.spans["f"]] == [(16, 2)]
    wider = resized(graph, widths.group_of("c"), 5)
    assert wider.shape("f") == (80,)


def test_a_sum_of_flattened_and_plain_columns_has_as_many_plain_ones_for_a_channel():
    text = (
        IN
        + """c = conv2d(x, channels=2, kernel=1); f = flatten(c); p = flatten(x); l = linear(p, features=32)
        a = add(f, l); o = linear(a, features=2); out = output(o)"""
    )
    graph = morphs.parse_graph(text)
    widths = channel_groups(graph)
    assert free(text) == {"c l": 2}
    assert [widths.spans[name][0].times for name in ("c", "f", "l", "a")] == [1, 16, 16, 16]
    assert resized(graph, widths.group_of("c"), 3).shape("l") == (48,)


def test_a_sum_that_cuts_the_columns_of_a_channel_is_fixed():
    text = (
        IN
        + """c = conv2d(x, channels=2, kernel=1); f = flatten(c); p = flatten(x); l = linear(p, features=6)
        m = linear(p, features=26); k = concat(l, m); a = add(f, k); o = linear(a, features=2); out = output(o)"""
    )
    assert free(text) == {}
    assert "tied to flattened columns" in groups_of(text)["c"][2]


def test_a_depthwise_multiplier_follows_its_input():
    graph = morphs.parse_graph(
        IN
        + """c = conv2d(x, channels=2, kernel=1); d = conv2d(c, channels=6, kernel=1, groups=2)
        o = conv2d(d, channels=2, kernel=1); out = output(o)"""
    )
    widths = channel_groups(graph)
    assert [(s.group, s.times) for s in widths.spans["d"]] == [(widths.group_of("c"), 3)]
    wider = resized(graph, widths.group_of("c"), 3)
    assert (wider["d"].op.channels, wider["d"].op.groups) == (9, 3)


def test_grouped_convolutions_ask_for_multiples():
    text = (
        IN
        + """c = conv2d(x, channels=12, kernel=1); d = conv2d(c, channels=12, kernel=1, groups=4)
        e = conv2d(d, channels=6, kernel=1, groups=6); o = conv2d(e, channels=2, kernel=1); out = output(o)"""
    )
    found = groups_of(text)
    assert found["c"][:2] == (12, 4)
    assert found["d"][:2] == (12, 12)
    assert found["e"][:2] == (6, 6)


def test_a_grouped_convolution_of_a_concat_is_fixed():
    text = (
        IN
        + """a = conv2d(x, channels=2, kernel=1); b = conv2d(x, channels=4, kernel=1); k = concat(a, b)
        d = conv2d(k, channels=6, kernel=1, groups=3); o = conv2d(d, channels=2, kernel=1); out = output(o)"""
    )
    assert free(text) == {}


def test_squeeze_and_excitation_ties_the_gate_and_broadcast_fixes_one():
    text = (
        IN
        + """c = conv2d(x, channels=4, kernel=1); g = adaptive_avg_pool2d(c); h = conv2d(g, channels=2, kernel=1)
        s = conv2d(h, channels=4, kernel=1); t = sigmoid(s); m = multiply(c, t); one = conv2d(m, channels=1, kernel=1)
        b = multiply(m, one); o = conv2d(b, channels=2, kernel=1); out = output(o)"""
    )
    assert free(text) == {"c s": 4, "h": 2}
    assert groups_of(text)["one"][2] == 'is broadcast over channels at node "b"'


def test_a_shared_module_ties_both_its_uses():
    text = (
        IN
        + """a = conv2d(x, channels=4, kernel=1); b = conv2d(x, channels=4, kernel=1)
        s = conv2d(a, channels=5, kernel=1)
        t = conv2d(b, channels=5, kernel=1, owner=s); u = conv2d(t, channels=2, kernel=1)
        v = conv2d(s, channels=2, kernel=1)
        o = add(u, v); out = output(o)"""
    )
    assert free(text) == {"a b": 4, "s": 5}


def test_sharing_what_has_no_parameters_ties_nothing():
    text = (
        IN
        + """a = conv2d(x, channels=4, kernel=1); r = relu(a); b = conv2d(r, channels=7, kernel=1)
        t = relu(b, owner=r); p = p_activation(t, fn=relu); c = conv2d(p, channels=5, kernel=1)
        q = p_activation(c, fn=relu, owner=p); o = conv2d(q, channels=2, kernel=1); out = output(o)"""
    )
    assert free(text) == {"a": 4, "b": 7, "c": 5}


def test_a_module_applied_to_its_own_output_ties_input_and_output():
    text = (
        IN
        + """a = conv2d(x, channels=4, kernel=1); s = conv2d(a, channels=4, kernel=1)
        t = conv2d(s, channels=4, kernel=1, owner=s)
        o = conv2d(t, channels=2, kernel=1); out = output(o)"""
    )
    assert free(text) == {"a s": 4}


@given(net=networks())
def test_groups_after_a_change_of_width_are_those_of_a_graph_made_anew(net):
    widths = channel_groups(net.graph)
    for number in widths.free():
        group = widths.groups[number]
        for to in {group.width + group.blocks, max(group.width - group.blocks, group.blocks)}:
            found = resized(net.graph, number, to)
            anew = channel_groups(ArchGraph(found))
            assert channel_groups(found) == anew
            assert (channel_groups(found).spans, channel_groups(found).writers) == (anew.spans, anew.writers)


@given(graph=graphs(), data=st.data())
def test_whatever_is_resized_is_well_formed_and_runs(graph, data):
    widths = channel_groups(graph)
    for node in graph:
        columns = [None if spans is None else widths.columns(spans) for spans in widths.axes[node.name]]
        assert all(n in (None, size) for n, size in zip(columns, graph.shape(node.name), strict=True))
    for number, name in widths.free().items():
        group = widths.groups[number]
        wider = resized(graph, number, group.width + group.blocks)
        (span,) = widths.spans[name]
        assert wider.shape(name)[widths.main[name]] == (group.width + group.blocks) * span.times
        assert channel_groups(wider).groups[number].width == group.width + group.blocks
        assert wider.shape("out") == graph.shape("out")
        assert resized(wider, number, group.width) == graph
    if widths.free():
        number = data.draw(st.sampled_from(sorted(widths.free())))
        wider = lively(resized(graph, number, 2 * widths.groups[number].width))
        wider.to_torch()(*(torch.zeros(2, *graph.shape(n.name), dtype=torch.float64) for n in graph.inputs))


@given(graph=graphs())
def test_groups_are_no_coarser_than_the_ties_ask_for(graph):
    """Any layer that may stand alone does: changing one group leaves every other group's producers as they are."""
    widths = channel_groups(graph)
    for number in widths.free():
        group = widths.groups[number]
        wider = resized(graph, number, group.width + group.blocks)
        changed = {n.name for n in graph if n.op.kind in ("conv2d", "linear") and wider[n.name].op != n.op}
        reached = {name for name, spans in widths.spans.items() if any(s.group == number for s in spans)}
        assert changed <= reached


def test_the_mean_over_places_with_the_width_last_is_as_wide():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[2, 4, 4]); c = conv2d(x, channels=3, kernel=3); p = permute(c, order=[1, 2, 0])
        n = layer_norm(p); m = mean(n, axes=[0, 1]); f = linear(m, features=2); out = output(f)""")
    )
    widths = channel_groups(net.graph)
    assert widths.group_of("m") == widths.group_of("c") is not None
    for site in morphs.Widen.sites(net):
        drift = morphs.apply(net, site).drift
        assert max(drift.eval, drift.train) <= 1e-12


def test_columns_of_a_grouped_convolution_that_count_several_for_a_channel_are_no_width():
    text = (
        IN
        + """a = conv2d(x, channels=2, kernel=1); d = conv2d(a, channels=12, kernel=1, groups=2)
        b = conv2d(x, channels=12, kernel=1); g = conv2d(b, channels=12, kernel=1, groups=6); s = add(d, g)
        o = conv2d(s, channels=2, kernel=1); out = output(o)"""
    )
    groups = channel_groups(morphs.parse_graph(text)).groups
    assert all(group.width % group.blocks == 0 for group in groups if group.fixed is None)
    net = lively(morphs.parse_graph(text))
    for site in (*morphs.Widen.sites(net), *morphs.WidenAll.sites(net)):
        assert morphs.apply(net, site).drift.eval <= 1e-10
