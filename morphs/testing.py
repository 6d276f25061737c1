"""The contract that every move keeps, to be run on a move of your own: `check_move(MyMove)`.

The checks raise ContractBroken and need no test runner. The networks are small, in float64, with weights as after some
training. N examples of a batch.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor

from morphs.apply import Child, apply
from morphs.errors import ContractBroken, MorphError, ParseError
from morphs.examples import random_inputs
from morphs.graph.arch import ArchGraph
from morphs.graph.read import graph_from_json, parse_graph
from morphs.init import init
from morphs.limits import Limits
from morphs.move import Batch, Move, Options
from morphs.move_text import parse
from morphs.network import Key, Network

MOST = 2  # sites that are applied on one network
STEPS = 3  # of training, after which new parameters have moved
GRAPHS = (
    """x = input(size=[3, 8, 8]); c = conv2d(x, channels=6, kernel=3, padding=1); n = batch_norm(c); r = relu(n)
    m = max_pool2d(r, kernel=2); d = conv2d(m, channels=4, kernel=3, padding=1); t = tanh(d); f = flatten(t)
    l = linear(f, features=3); out = output(l)""",
    """x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1); n = batch_norm(c); r = relu(n)
    d = conv2d(r, channels=4, kernel=3, padding=1); p = p_activation(d, fn=relu); e = conv2d(p, channels=4, kernel=1)
    s = scale(e); a = add(s, r); q = relu(a); g = adaptive_avg_pool2d(q); f = flatten(g); l = linear(f, features=3)
    out = output(l)""",
    """x = input(size=[5]); a = linear(x, features=6); r = tanh(a); b = linear(r, features=6)
    p = p_activation(b, fn=relu); o = dropout(p, p=0.3); l = linear(o, features=3); out = output(l)""",
    """x = input(size=[2, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1); r = relu(c)
    g = conv2d(r, channels=8, kernel=3, padding=1, groups=2); t = tanh(g); w = conv2d(t, channels=8, kernel=3, groups=8)
    u = conv2d(t, channels=2, kernel=3); k = concat(w, u); n = batch_norm(k); f = flatten(n); l = linear(f, features=3)
    out = output(l)""",
    """x = input(size=[4], tokens=9); e = embedding(x, count=9, features=8); p = parameter(size=[4, 8]); s = add(e, p)
    n = layer_norm(s); q = linear(n, features=8); k = linear(n, features=4); v = linear(n, features=4)
    qs = reshape(q, size=[4, 4, 2], width=1); ks = reshape(k, size=[4, 2, 2], width=1)
    qh = permute(qs, order=[1, 0, 2]); kh = permute(ks, order=[1, 0, 2])
    vs = reshape(v, size=[4, 2, 2], width=1); vh = permute(vs, order=[1, 0, 2])
    t = attention(qh, kh, vh, causal=true); tt = permute(t, order=[1, 0, 2]); m = reshape(tt, size=[4, 8])
    o = linear(m, features=8); y = add(s, o); b = layer_norm(y); f = linear(b, features=6); g = gelu(f)
    h = linear(g, features=8); z = add(y, h); w = layer_norm(z); a = mean(w, axes=[0]); l = linear(a, features=3)
    out = output(l)""",
)  # fmt: skip


def check_move(
    move: type[Move],
    networks: Iterable[Network] | None = None,
    options: Options | None = None,
    seeds: Iterable[int] = range(3),
) -> None:
    """Run the contract of moves on the class `move`.

    networks: on which its sites are listed; by default a convolutional, a residual, a grouped network, a multilayer
    perceptron and a transformer, and all of them once more with weights that moves want that look at weights (every a
    of a P-activation 0 or 1, zeros between groups of channels). options: its menu; its own defaults without one. seeds:
    of the default networks' weights and of the move's randomness.

    It checks that

    * the class is a frozen dataclass with a name, a summary and a docstring, and declares the choices it looks up;
      unknown choices are refused;
    * every candidate is either a site or refused, with a reason of one line that begins with the move's name;
    * a site's text and JSON read back as the same move;
    * a site can be applied: the child is well formed, reads and writes the parent's shapes in the parent's type, and
      computes what the move declares (`Preserves`);
    * the parent is untouched, and the same seed makes the same child;
    * the child's origins cover every parameter and fit the parent's tensors;
    * the child trains: after a few steps its weights are finite and new parameters have moved.

    Up to two sites of each network are applied, on random data. Raises ContractBroken at the first breach, and where
    no network has a site, since then nothing was checked.
    """
    given = None if networks is None else tuple(networks)
    count = 0
    try:
        check_class(move)
        for seed in seeds:
            for network in default_networks(seed) if given is None else given:
                sites = check_listing(move, network, None, options)
                for site in sites[:: max(1, len(sites) // MOST)][:MOST]:
                    check_text(site)
                    check_training(network, check_child(network, site, seed))
                    count += 1
    except MorphError:
        raise
    except Exception as error:  # whatever the code of the move raises
        raise _broken(move, f"its code raised {type(error).__name__}: {error}", "fix that") from error
    if not count:
        raise _broken(move, "it has no site on any of the networks", "pass networks= on which it has some")


def check_class(move: type[Move]) -> None:
    """The class is a frozen dataclass that says what it is and declares the choices that it looks up."""
    if not (isinstance(move, type) and issubclass(move, Move)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ContractBroken(f"{move!r:.80} is not a move; derive a class from morphs.Move")
    missing = [name for name in ("name", "summary") if not isinstance(getattr(move, name, None), str)]
    missing += sorted(move.__abstractmethods__)
    if missing:
        raise ContractBroken(f"{move.__name__}: it has no {', '.join(missing)}; add what is missing")
    frozen = is_dataclass(move) and getattr(move, "__dataclass_params__").frozen  # noqa: B009 (untyped)
    if not frozen:
        raise _broken(move, "it is not a frozen dataclass", "decorate it with @dataclass(frozen=True)")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", move.name, re.ASCII):
        raise _broken(move, "its name is not in snake_case", "use lower-case letters, digits and underscores")
    if not move.summary or not move.__doc__:
        raise _broken(move, "it has no summary or no docstring", "write both")
    asked = _Asked()
    for text in GRAPHS:
        list(move.candidates(parse_graph(text), asked))
    undeclared = asked.keys_seen - set(move.choices)
    if undeclared:
        fact = f"it looks up {', '.join(sorted(undeclared))}, which its menu does not declare"
        raise _broken(move, fact, "add it to `choices`")
    try:
        move.sites(parse_graph(GRAPHS[0]), options={"no such choice": (1,)})
    except ParseError:
        return
    raise _broken(move, "it takes a choice that it does not declare", "leave `sites` to the base class")


def check_listing(
    move: type[Move], network: Network, limits: Limits | None = None, options: Options | None = None
) -> list[Move]:
    """The sites of `move`; every candidate is one, or is refused with a reason."""
    sites, refused = list(move.sites(network, limits, options)), list(move.refused(network, limits, options))
    judged: list[Move] = [*sites, *(refusal.move for refusal in refused)]
    if len(set(judged)) < len(judged) or set(judged) != set(move.candidates(network.graph, options or {})):
        raise _broken(move, "sites and refusals are not the candidates", "leave both to the base class")
    for refusal in refused:
        if not re.fullmatch(rf"{move.name}: [^\n]+; [^\n]+", refusal.reason):
            fact = f"{refusal.move} is refused with {refusal.reason!r:.200}"
            raise _broken(move, fact, "give fact and remedy in one line: self.refuse(fact, remedy)")
    return list(sites)


def check_text(site: Move) -> None:
    """The text form and the JSON of `site` read back as the same move."""
    for form in (str(site), site.to_json()):
        try:
            again = parse(form, (type(site),))
        except ParseError as error:
            raise _broken(site, f"{form} is not read back: {error}", "use JSON values as fields") from None
        if again != site or hash(again) != hash(site):
            raise _broken(site, f"{form} reads back as {again}", "use JSON values as fields")


def check_child(network: Network, site: Move, seed: int = 0) -> Child:
    """The child of a listed `site`, which is legal, as declared, the same each time, and leaves the parent alone."""
    batches = some_batches(network)
    before = {key: tensor.clone() for key, tensor in network.weights.items()}
    try:
        child = apply(network, site, seed, batches)
        again = apply(network, str(site), seed, batches, measure=False, moves=(type(site),))
    except MorphError as error:
        fact = f"{site} is listed and can't be applied: {error}"
        raise _broken(site, fact, "refuse it in `offer` or `check_weights`, or correct `fill`") from error
    made = child.network
    if type(site).settle is Move.settle and made.graph != site.reshape(network.graph):
        raise _broken(site, f"{site} makes another graph than `reshape`", "leave `settle` to the base class")
    if graph_from_json(made.graph.to_json()) != made.graph or parse_graph(made.graph.text()) != made.graph:
        raise _broken(site, f"the child of {site} does not read back from its text", "use ops as they are")
    if made.dtype != network.dtype:
        raise _broken(site, f"the child of {site} is of {made.dtype}", "make tensors of the parent's dtype")
    if any(not torch.equal(network.weights[key], tensor) for key, tensor in before.items()):
        raise _broken(site, f"{site} writes into the parent's tensors", "make copies")
    if again.network.digest != made.digest:
        raise _broken(site, f"{site} with one seed makes two children", "draw from context.generator alone")
    _check_origins(network, child)
    return child


def _check_origins(network: Network, child: Child) -> None:
    weights = child.network.weights
    if child.origin.keys() != weights.keys():
        raise _broken(
            child.move, "the origins are not those of the child's parameters", "leave `origin` to `fill`"
        )
    for (node, name), origin in child.origin.items():
        place = f"parameter {name} of node {node} after {child.move}"
        if origin.source is None:
            continue
        if origin.source not in network.weights:
            raise _broken(child.move, f"{place} comes from {origin.source}, unknown", "name a parent's key")
        carried = origin.gather(network.weights[origin.source])
        kept = origin.entries is None and all(index is None for index in origin.axes)
        made = weights[node, name]
        if not (torch.equal(carried, made) if kept else carried.shape == made.shape):
            raise _broken(child.move, f"{place} is not what its origin says", "return the index maps used")


def check_training(network: Network, child: Child) -> None:
    """A few steps leave the weights of `child` finite and move new parameters, if there are any."""
    module = child.network.to_torch()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    inputs = random_inputs(network.graph, 16, generator, child.network.dtype)
    for _ in range(STEPS):
        optimizer.zero_grad()
        out: Tensor = module(*inputs)
        targets = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
        (out - targets).square().mean().backward()
        optimizer.step()
    trained = child.network.with_weights_from(module)
    if trained.nonfinite():
        raise _broken(child.move, f"training after {child.move} diverges", "start new weights smaller")
    params, old = child.network.graph.params, child.network.weights
    new = [key for key, param in params.items() if param.trainable and child.origin[key].source is None]
    # some may not move: a bias before a norm
    if new and all(torch.equal(trained.weights[key], old[key]) for key in new):
        fact = f"no new parameter gets a gradient after {child.move}"
        raise _broken(child.move, fact, "of two new factors in a row leave one different from 0")


def _broken(move: Move | type[Move], fact: str, remedy: str) -> ContractBroken:
    return ContractBroken(f"{move.name}: {fact}; {remedy}")


class _Asked(Mapping[str, Any]):
    """An empty menu that notes which choices are looked up."""

    def __init__(self) -> None:
        self.keys_seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.keys_seen.add(key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


# -- networks and data ---------------------------------------------------------------------------------


def default_networks(seed: int = 0) -> list[Network]:
    """The networks of `check_move`: GRAPHS with random weights, and once more with exact zeros in them."""
    networks = [random_network(parse_graph(text), seed) for text in GRAPHS]
    return [*networks, *map(with_exact_zeros, networks)]


def random_network(graph: ArchGraph, seed: int = 0, dtype: torch.dtype = torch.float64) -> Network:
    """`graph` with weights as after training: nothing at the neutral value that would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[Key, Tensor] = {}
    for key, tensor in init(graph, seed, torch.float64).weights.items():
        param = graph.params[key]
        uniform = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
        if param.whole:
            tensor = torch.tensor(7)
        elif key[1] == "a":
            tensor = 0.1 + 0.8 * uniform
        elif param.start is not None:
            tensor = uniform + (param.start - 0.5)
        weights[key] = tensor
    return Network(graph, weights).to(dtype)


def with_exact_zeros(network: Network) -> Network:
    """`network` as moves want it that look at weights: every a is exactly 0 or 1, and convolutions whose channels
    can form groups have zeros between them.
    """
    weights = dict(network.weights)
    for number, (owner, name) in enumerate(network.weights):
        layer, tensor = network.graph[owner].op.convolution, network.weights[owner, name]
        if name == "a":
            weights[owner, name] = torch.full_like(tensor, number % 2)
        elif layer is not None and name == "weight":
            for groups in (2, 3):
                if layer.groups == 1 and tensor.shape[0] % groups == tensor.shape[1] % groups == 0:
                    rows, columns = (torch.arange(n) // (n // groups) for n in tensor.shape[:2])
                    weights[owner, name] = tensor * (rows[:, None] == columns)[..., None, None]
    return Network(network.graph, weights)


def some_batches(network: Network, seed: int = 1, count: int = 2, size: int = 6) -> Sequence[Batch]:
    """`count` batches of `size` random inputs, a tuple where the network has several, and of targets 0 [N]."""
    generator = torch.Generator().manual_seed(seed)
    batches: list[Batch] = []
    for _ in range(count):
        inputs = random_inputs(network.graph, size, generator, torch.float32)
        batches.append((inputs[0] if len(inputs) == 1 else inputs, torch.zeros(size, dtype=torch.int64)))
    return batches
