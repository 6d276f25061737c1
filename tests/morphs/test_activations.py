"""Functions of one's own as activations: what is taken, what is refused, and where they work."""

import copy
import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from strategies import lively
from torch import nn

import morphs
from morphs.errors import ActivationError, CodecError, IllegalMove, ShapeError
from morphs.graph import activations
from morphs.graph.state import facts_of

CALLS = 0


def bent(x: torch.Tensor) -> torch.Tensor:
    """Bent identity, (√(x² + 1) − 1) / 2 + x."""
    return ((x * x + 1).sqrt() - 1) / 2 + x


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A registry of its own for each test."""
    for name in ("_known", "_functions"):
        for key in list(getattr(activations, name)):
            monkeypatch.setitem(getattr(activations, name), key, getattr(activations, name)[key])
    before = {name: dict(getattr(activations, name)) for name in ("_known", "_functions")}
    yield
    for name, kept in before.items():
        getattr(activations, name).clear()
        getattr(activations, name).update(kept)
    facts_of.cache_clear()  # a process never loses a name; this one just did


GOOD = {
    "bent": (bent, (False, False, True)),
    "hinge": (lambda x: x.clamp(min=0), (True, True, True)),
    "absolute": (torch.abs, (True, True, True)),
    "hard": (nn.Hardtanh(), (True, False, True)),
    "celu": (lambda x: F.celu(x, 0.5), (False, False, True)),
    "softsign": (F.softsign, (False, False, True)),
    "gauss": (lambda x: torch.exp(-x * x), (False, True, False)),
    "logsigmoid": (F.logsigmoid, (False, False, False)),
    "steep": (lambda x: torch.tanh(1e5 * x), (False, False, True)),
    "shrink": (F.softshrink, (False, False, True)),
    "selu": (nn.SELU(), (False, False, True)),
}


@pytest.mark.parametrize("name", GOOD)
def test_continuous_functions_are_taken_and_their_traits_found(name):
    function, traits = GOOD[name]
    morphs.register_activation(name, function)
    found = activations.ACTIVATIONS[name]
    assert (found.idempotent, found.nonnegative, found.zero_at_zero) == traits


def wobble(x):
    return x + 1e-3 * torch.rand(
        x.shape, generator=torch.Generator().manual_seed(len(str(bump()))), dtype=x.dtype
    )


def bump() -> int:
    global CALLS
    CALLS += 1
    return 10**CALLS


def in_place(x):
    return x.mul_(2)


REFUSED = {
    "softmax": (lambda x: torch.softmax(x.flatten(), 0).reshape(x.shape), "place"),
    "centred": (lambda x: x - x.mean(), "place"),
    "placed": (lambda x: x * torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape), "place"),
    "glu": (lambda x: x[: len(x) // 2], "shape"),
    "single": (lambda x: x.float(), "shape"),
    "number": (lambda x: 1.0, "shape"),
    "root": (torch.sqrt, "±30"),
    "naive": (lambda x: torch.exp(x * x), "±30"),
    "far": (lambda x: x.exp() / (1 + x.exp()), "±10000"),
    "sign": (torch.sign, " x = "),
    "floor": (lambda x: torch.floor(x + 0.3), " x = "),
    "hardshrink": (F.hardshrink, " x = "),
    "cusp": (lambda x: x.abs().sqrt(), "gradient"),
    "constant": (lambda x: 0 * x, "gradient"),
    "detached": (lambda x: x.detach() * 2, "gradient"),
    "learned": (nn.PReLU(), "parameters"),
    "random": (wobble, "random"),
    "writes": (in_place, "argument"),
    "raises": (lambda x, y: x, "TypeError"),
    "relu": (bent, "name"),
    "conv2d": (bent, "name"),
    "prelu": (bent, "name"),
    "a b": (bent, "name"),
    "true": (bent, "name"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_activation_is_refused_and_not_kept(name):
    function, fact = REFUSED[name]
    before = dict(activations.ACTIVATIONS)
    with pytest.raises(ActivationError, match=f"register_activation: {name}: ") as caught:
        morphs.register_activation(name, function)
    assert fact in str(caught.value)
    assert "\n" not in str(caught.value)
    assert dict(activations.ACTIVATIONS) == before


def test_a_declared_trait_is_checked_and_a_modest_one_kept():
    for trait in ("idempotent", "nonnegative"):
        with pytest.raises(ActivationError, match=f"bent: .*{trait}"):
            morphs.register_activation("bent", bent, **{trait: True})
    with pytest.raises(ActivationError, match=r"shifted: .*zero_at_zero"):
        morphs.register_activation("shifted", lambda x: x.tanh() + 1, zero_at_zero=True)
    morphs.register_activation("hinge", F.relu, idempotent=False)
    assert not activations.ACTIVATIONS["hinge"].idempotent
    assert activations.ACTIVATIONS["hinge"].nonnegative


def test_a_name_has_one_function():
    morphs.register_activation("bent", bent)
    morphs.register_activation("bent", bent)
    with pytest.raises(ActivationError, match=r"bent: .*name"):
        morphs.register_activation("bent", torch.abs)


TEXT = """
    x = input(size=[2, 5, 5])
    c = conv2d(x, channels=3, kernel=3)
    b = bent(c)
    d = conv2d(b, channels=3, kernel=1)
    p = p_activation(d, fn=bent, per_channel=true)
    e = conv2d(p, channels=2, kernel=1)
    out = output(e)
"""


def test_it_works_in_graphs_modules_moves_and_files(tmp_path):
    morphs.register_activation("bent", bent)
    graph = morphs.parse_graph(TEXT)
    assert morphs.parse_graph(graph.text()) == graph == morphs.graph_from_json(graph.to_json())
    net = lively(graph)
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    module = net.to_torch().eval()
    weights = {f"{n}.{p}": t for (n, p), t in net.weights.items()}
    hidden = bent(F.conv2d(x, weights["c.weight"], weights["c.bias"]))
    hidden = F.conv2d(hidden, weights["d.weight"], weights["d.bias"])
    a = weights["p.a"][:, None, None]
    expected = F.conv2d((1 - a) * bent(hidden) + a * hidden, weights["e.weight"], weights["e.bias"])
    assert torch.allclose(module(x), expected, rtol=1e-12)
    assert torch.equal(copy.deepcopy(module)(x), module(x))
    for move in (
        "deepen(node=b, kernel=[3, 3], activation=bent)",
        "deepen(node=d, how=netmorph, channels=6, activation=bent)",
        "insert_activation(node=d, activation=bent)", "widen(node=c, to=5)", "widen(node=d, to=5, how=zero)",
    ):  # fmt: skip
        assert morphs.apply(net, move).drift.train <= 1e-12
    morphs.save(net, tmp_path)
    assert morphs.load(tmp_path).digest == net.digest
    again = morphs.from_torch(module, (x,))
    assert torch.equal(again.to_torch().eval()(x), module(x))
    assert [node.op for node in again.graph] == [node.op for node in graph]


def test_an_idempotent_one_is_inserted_plainly_after_itself():
    morphs.register_activation("hard", F.hardtanh)
    net = lively(morphs.parse_graph(TEXT.replace("bent", "hard")))
    child = morphs.apply(net, "deepen(node=b, activation=hard)")
    assert child.network.graph["act1"].op.kind == "activation"
    assert child.drift.train <= 1e-12


def test_names_that_are_not_registered_here_are_refused_with_the_remedy():
    remedy = r"morphs.register_activation\("
    with pytest.raises(CodecError, match=f"unheard.*{remedy}"):
        morphs.parse_graph(TEXT.replace("bent", "unheard"))
    with pytest.raises(ShapeError, match=f"\"p\".*'unheard'.*{remedy}"):
        morphs.parse_graph(TEXT.replace("bent(", "relu(").replace("bent", "unheard"))
    document = json.loads(morphs.parse_graph(TEXT.replace("bent", "relu")).to_json())
    document["nodes"][2]["op"]["fn"] = "unheard"
    with pytest.raises(CodecError, match=f"'unheard'.*{remedy}"):
        morphs.graph_from_json(json.dumps(document))
    net = lively(morphs.parse_graph(TEXT.replace("bent", "relu")))
    with pytest.raises(IllegalMove, match=f"deepen: .*unheard.*{remedy}"):
        morphs.apply(net, "deepen(node=b, activation=unheard)")


def test_another_process_reads_the_graph_once_it_has_registered_the_name(tmp_path):
    morphs.register_activation("bent", bent)
    net = lively(morphs.parse_graph(TEXT))
    morphs.save(net, tmp_path)
    code = """if True:
        import sys, morphs
        try:
            morphs.load(sys.argv[1])
        except morphs.errors.CodecError as error:
            assert "register_activation" in str(error), error
        else:
            raise SystemExit("it was read")
        morphs.register_activation("bent", lambda x: ((x * x + 1).sqrt() - 1) / 2 + x)
        print(morphs.load(sys.argv[1]).digest)"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.strip() == net.digest, done.stderr


def test_prelu_is_the_p_activation_of_relu_whatever_comes_before_it():
    net = lively(morphs.parse_graph(TEXT.replace("bent", "relu")))
    for move in (
        "deepen(node=b, activation=prelu)",
        "deepen(node=d, how=netmorph, channels=6, activation=prelu)",
    ):
        child = morphs.apply(net, move)
        assert child.network.graph["act1"].op == morphs.graph.ops.PActivation("relu", per_channel=True)
        assert child.drift.train <= 1e-12
        found = morphs.from_torch(nn.Sequential(nn.Conv2d(2, 3, 1), nn.PReLU(3)), (torch.zeros(1, 2, 5, 5),))
        assert child.network.graph["act1"].op in [node.op for node in found.graph]
