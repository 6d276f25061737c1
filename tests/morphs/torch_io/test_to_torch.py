"""Networks as torch modules: values, shapes, names, export, compilation, and the way back."""

import pickle

import pytest
import torch
from hypothesis import given
from strategies import graphs, lively, networks
from torch import nn

import morphs
from morphs.errors import WeightsError
from morphs.examples import random_inputs
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Conv2d, Input, Output
from morphs.torch_io.to_torch import module_path


def probes(net: morphs.Network, size: int = 3) -> list[torch.Tensor]:
    return list(random_inputs(net.graph, size, torch.Generator().manual_seed(0), net.dtype))


@given(net=networks())
def test_module_has_the_graphs_shapes_and_parameters(net):
    module = net.to_torch()
    assert tuple(module(*probes(net)).shape[1:]) == net.graph.shape(net.graph.output.name)
    trainable = {key for key, param in net.graph.params.items() if param.trainable}
    assert len(list(module.parameters())) == len(trainable)
    assert sum(p.numel() for p in module.parameters()) == morphs.cost(net.graph).params


@given(net=networks(most=2))
def test_module_has_its_own_copy_and_gives_it_back(net):
    before = net.digest
    module = net.to_torch()
    assert net.with_weights_from(module).digest == before
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert morphs.Network(net.graph, net.weights).digest == before
    assert not list(module.parameters()) or net.with_weights_from(module).digest != before


def test_a_module_computes_what_a_hand_written_one_does():
    graph = morphs.parse_graph("""
        x = input(size=[2, 6, 6]); c = conv2d(x, channels=4, kernel=3, stride=2, padding=1, padding_mode=reflect)
        n = batch_norm(c); r = relu(n); p = p_activation(r, fn=tanh, per_channel=true); s = scale(p)
        d = conv2d(s, channels=8, kernel=3, padding=1, groups=4); a = concat(d, s)
        m = max_pool2d(a, kernel=2, stride=1); f = flatten(m); l = linear(f, features=3); out = output(l)
    """)
    net = lively(graph)
    w = {f"{k[0]}.{k[1]}": v for k, v in net.weights.items()}
    x = probes(net)[0]
    y = nn.functional.conv2d(
        nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), w["c.weight"], w["c.bias"], 2
    )
    y = (y - w["n.running_mean"][:, None, None]) / (w["n.running_var"][:, None, None] + 1e-5).sqrt()
    y = (y * w["n.weight"][:, None, None] + w["n.bias"][:, None, None]).clamp(min=0)
    a = w["p.a"][:, None, None]
    y = ((1 - a) * y.tanh() + a * y) * w["s.weight"][:, None, None]
    y = torch.cat([nn.functional.conv2d(y, w["d.weight"], w["d.bias"], padding=1, groups=4), y], 1)
    y = nn.functional.max_pool2d(y, 2, 1).flatten(1) @ w["l.weight"].T + w["l.bias"]
    assert torch.allclose(net.to_torch().eval()(x), y, atol=1e-12)


@pytest.mark.parametrize("fn", ["relu", "gelu"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_p_activation_is_equation_9_and_projects_its_parameter(fn, per_channel):
    graph = morphs.parse_graph(
        f"""
            x = input(size=[3, 2, 2]); p = p_activation(x, fn={fn}, per_channel={str(per_channel).lower()})
            out = output(p)
        """
    )
    net = lively(graph)
    x, a = probes(net)[0], net.weights["p", "a"].reshape(-1, 1, 1)
    phi = getattr(nn.functional, fn)
    module = net.to_torch()
    assert torch.allclose(module(x), (1 - a) * phi(x) + a * x)
    with torch.no_grad():
        module.p.a.copy_(torch.full_like(module.p.a, 1.5))
    for part in module.modules():
        if hasattr(part, "project_"):
            part.project_()
    assert bool((module.p.a == 1).all())


def test_torch_export_and_compile_accept_a_network():
    net = lively(morphs.parse_graph("""
        x = input(size=[2, 5, 5]); c = conv2d(x, channels=4, kernel=3, padding=1); n = batch_norm(c)
        p = p_activation(n, fn=relu, per_channel=true); d = conv2d(p, channels=4, kernel=3, padding=1)
        a = add(p, d); g = adaptive_avg_pool2d(a); f = flatten(g); l = linear(f, features=2); out = output(l)
    """), dtype=torch.float32)  # fmt: skip
    module, x = net.to_torch().eval(), probes(net)
    expected = module(*x)
    exported = torch.export.export(module, tuple(x))
    assert torch.allclose(exported.module()(*x), expected)
    compiled = torch.compile(module, backend="eager")
    assert torch.allclose(compiled(*x), expected)
    assert net.with_weights_from(compiled).digest == net.digest


AWKWARD = (
    "training", "forward", "weight", "_modules", "class", "lambda", "self", "parameters", "node_training",
    "node_node_training", "layer", "layer.weight", "layer.stride", "layer.1", "layer.training", "a.class", "a_class",
    "true", "NaN", "T_destination",
    "__class__", "out.put", "torch", "x.y.z", "graph", "code", "print",
)  # fmt: skip


def test_names_that_torch_or_python_use_for_something_else():
    nodes = [Node("input", Input((2, 4, 4))), Node("lambda.x", Input((2, 4, 4)))]
    last = nodes[0].name
    for name in AWKWARD:
        nodes.append(Node(name, Conv2d(2, (1, 1)), (last,)))
        last = name
    nodes.append(Node("sum", morphs.graph.ops.Add(), (last, "lambda.x")))
    graph = ArchGraph([*nodes, Node("output", Output(), ("sum",))])
    net = lively(graph)
    module = net.to_torch()
    assert len(list(module.parameters())) == 2 * len(AWKWARD)
    x, y = probes(net)
    expected = x
    for name in AWKWARD:
        expected = nn.functional.conv2d(expected, net.weights[name, "weight"], net.weights[name, "bias"])
    assert torch.allclose(module.eval()(x, y), expected + y)
    assert net.with_weights_from(module).digest == net.digest
    assert morphs.parse_graph(graph.text()) == graph
    assert morphs.graph_from_json(graph.to_json()) == graph
    assert len({module_path(name) for name in AWKWARD}) == len(AWKWARD)


def test_a_module_of_another_graph_is_refused_by_name():
    small = morphs.init(morphs.parse_graph("x = input(size=[3]); l = linear(x, features=2); out = output(l)"))
    other = morphs.init(morphs.parse_graph("x = input(size=[3]); k = linear(x, features=2); out = output(k)"))
    with pytest.raises(WeightsError, match=r'"l".*l\.weight'):
        small.with_weights_from(other.to_torch())
    wide = morphs.init(morphs.parse_graph("x = input(size=[3]); l = linear(x, features=4); out = output(l)"))
    with pytest.raises(WeightsError, match=r'"l".*\(4, 3\).*\(2, 3\)'):
        small.with_weights_from(wide.to_torch())


def test_building_a_module_draws_nothing_from_the_global_generator():
    net = morphs.init(morphs.parse_graph("x = input(size=[3]); l = linear(x, features=2); out = output(l)"))
    before = torch.get_rng_state()
    net.to_torch()
    morphs.drift(net, net)
    assert torch.equal(torch.get_rng_state(), before)


@given(graph=graphs(most=2))
def test_networks_and_graphs_go_through_pickle_for_worker_processes(graph):
    net = lively(graph)
    assert pickle.loads(pickle.dumps(net)).digest == net.digest
    assert pickle.loads(pickle.dumps(graph)) == graph
