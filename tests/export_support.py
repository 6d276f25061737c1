"""Networks and model cards for the export tests, and processes that lack this project."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from morphs import ArchGraph, Network, Node, init, parse_graph
from morphs.torch_io.source import model_source
from nas.export import ModelCard
from nas.export.source import predictor

HEAD = "p = adaptive_avg_pool2d({0}); f = flatten(p); fc = linear(f, features=3); out = output(fc)"
GRAPHS = {
    "residual": """
        x = input(size=[2, 8, 8])
        c1 = conv2d(x, channels=4, kernel=3, padding=1, bias=false)
        n1 = batch_norm(c1); r1 = relu(n1)
        c2 = conv2d(r1, channels=4, kernel=[3, 1], padding=[1, 0])
        n2 = batch_norm(c2, eps=0.001, momentum=null, affine=false)
        s = add(r1, n2, r1); m = max_pool2d(s, kernel=2, ceil_mode=true); """,
    "activations": """
        x = input(size=[1, 6, 6]); c = conv2d(x, channels=4, kernel=3)
        a1 = p_activation(c, fn=relu, per_channel=true); a2 = p_activation(a1, fn=relu)
        a3 = p_activation(a2, fn=leaky_relu, args=[0.2], per_channel=true); a4 = p_activation(a3, fn=gelu)
        a5 = p_activation(a4, fn=tanh, per_channel=true); a6 = elu(a5, args=[0.7]); a7 = softplus(a6)
        s1 = scale(a7); s2 = scale(s1, per_channel=false); d = dropout(s2, p=0.3); z = lerp(d, s1)
        y = lerp(z, d, per_channel=false); m = mish(y); """,
    "branches": """
        x = input(size=[3, 9, 7])
        a = conv2d(x, channels=2, kernel=3, padding=2, padding_mode=circular, dilation=2)
        b = conv2d(x, channels=4, kernel=3, padding=1, padding_mode=reflect)
        g = conv2d(x, channels=3, kernel=5, padding=[2, 2], padding_mode=replicate, groups=3)
        w = conv2d(g, channels=4, kernel=1)
        gate = adaptive_max_pool2d(b); q = sigmoid(gate); se = multiply(b, q)
        k = concat(se, a, w); v = avg_pool2d(k, kernel=3, stride=2, padding=1, count_include_pad=false)
        m = conv2d(v, channels=10, kernel=3, padding=1, groups=10, stride=[2, 1]); """,
    "shared": """
        x = input(size=[4, 5, 5]); late = conv2d(x, channels=4, kernel=1, owner=mine)
        r = silu(late); mine = conv2d(r, channels=4, kernel=1); n = batch_norm(mine)
        n2 = batch_norm(x, owner=n); m = add(n, n2); """,
    "names": """
        input = input(size=[2, 4, 4])
        class = conv2d(input, channels=2, kernel=1); forward = relu(class)
        self = conv2d(forward, channels=2, kernel=1); a.b.0 = scale(self); a_b_0 = scale(a.b.0)
        a.b_0 = scale(a_b_0); __private = scale(a.b_0); _ = scale(__private); training = scale(_)
        load_state_dict = scale(training); torch = batch_norm(load_state_dict); nn = scale(torch)
        class_ = scale(nn); None.None = scale(class_); m = hardswish(None.None); """,
    "no layers": "x = input(size=[3]); m = add(x, x); out = output(m)",
    "vectors": """
        x = input(size=[5]); a = linear(x, features=4, bias=false); n = batch_norm(a); r = p_activation(n, fn=elu)
        b = linear(x, features=4); m = multiply(r, b); fc = linear(m, features=3); out = output(fc)""",
}  # fmt: skip


def graph(name: str) -> ArchGraph:
    text = GRAPHS[name]
    return parse_graph(text if "output(" in text else text + HEAD.format("m"))


def network(name: str) -> Network:
    return shaken(init(graph(name), seed=1))


def shaken(net: Network) -> Network:
    """`net` with every floating tensor moved off its neutral value: variances stay positive, a within [0, 1]."""
    generator = torch.Generator().manual_seed(5)
    moved = {
        key: t
        if not t.is_floating_point()
        else 0.7 * t + 0.3 * torch.rand(t.shape, generator=generator).to(t.dtype)
        for key, t in net.weights.items()
    }
    return Network(net.graph, moved)


def renamed(net: Network) -> Network:
    """`net` with its nodes called n0, n1, … in canonical order."""
    names = {node.name: f"n{index}" for index, node in enumerate(net.graph)}
    nodes = [Node(names[n.name], n.op, tuple(names[i] for i in n.inputs), names[n.owner]) for n in net.graph]
    return Network(ArchGraph(nodes), {(names[owner], key): t for (owner, key), t in net.weights.items()})


def card_for(graph: ArchGraph, **changes: object) -> ModelCard:
    channels, width = graph.shape(graph.inputs[0].name)[0], graph.shape(graph.output.name)[0]
    known = {
        "name": "a network",
        "dataset": "toys",
        "classes": tuple(f"kind {index}" for index in range(width)),
        "mean": tuple(0.4 + 0.01 * index for index in range(channels)),
        "std": tuple(0.2 + 0.01 * index for index in range(channels)),
    }
    return ModelCard(**{**known, **changes})  # type: ignore[arg-type]


def images_for(graph: ArchGraph, count: int = 5) -> torch.Tensor:
    shape = graph.shape(graph.inputs[0].name)
    return torch.randint(
        0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )


def source_of(net: Network, card: ModelCard | None = None) -> str:
    """The model.py of `net` as a classifier."""
    keys = net.state_keys()
    return model_source(net.graph, keys, predictor(net.graph, card_for(net.graph) if card is None else card))


def state(net: Network) -> dict[str, torch.Tensor]:
    """The state of the module that model.py has."""
    return net.to(torch.float32).to_torch().state_dict()


BLOCKED = """
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("morphs", "nas", "search_spaces", "safetensors"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
import model
"""
ALONE = "print(json.dumps([model.predict_file(path) for path in json.load(sys.stdin)]))"


def without_this_project(code: str, folder: Path, given: Any) -> Any:
    """What `code` prints as JSON, of the export in `folder`, in a process that can't import this project. given: JSON
    that it reads.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", BLOCKED + code, str(folder)],
        cwd="/", input=json.dumps(given), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
