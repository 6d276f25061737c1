"""A charitable reading of CompNet's choice of neurons, where the printed one chooses no better than chance.

Three changes: R is of the activations after h, which W_new2 reads, and not of what h reads (equation 7); columns keep
their spread, so that a neuron that hardly varies costs little to drop; and λ is a share of ‖XᵀO‖∞, the λ at which no
neuron is left, so that 0.1 means the same for every layer. D neurons, each with B columns of A_new.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from morphs import Compact, Network
from morphs.graph.ops import Conv2d
from morphs.move import Context
from morphs.moves.compact_rows import Rows, deviation, read_rows
from morphs.solve.compact import Products
from morphs.solve.iilasso import Problem, ascend, chosen, descend, similarity

PENALTY, ALPHA = 0.1, 0.1  # the paper's λ, as a share of ‖XᵀO‖∞, and α


def compacted(
    how: str,
    net: Network,
    bound: Compact,
    share: float | None,
    seed: int,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> tuple[Network, dict[str, float]]:
    """The child that `how`, alg1 or alg3, makes with `share` of the neurons, or with those that λ leaves; and notes.

    The random filters are those that `bound` itself draws from the seed. W_new2 is fitted anew in both.
    """
    assert bound.kernel is not None
    source = net.graph[bound.node].inputs[0]
    op = Conv2d(bound.channels, bound.kernel, padding=(bound.kernel[0] // 2, bound.kernel[1] // 2))
    context = Context(torch.Generator().manual_seed(seed), batches)
    size = (bound.channels, net.graph.shape(source)[0], *bound.kernel)
    first = torch.randn(size, generator=context.generator, dtype=torch.float64)
    first *= deviation(bound.activation, prod(size[1:]))
    rows = read_rows(net, source, bound.node, op, bound.activation, bound.rows, bound.positions, context)
    first = first.to(rows.weight.dtype)
    moments = rows.moments(first)
    products = Products(*moments.products(centred=rows.bias is not None), bound.channels)
    problem = _problem(how, rows, first, products, bound.ridge)
    kept, penalty = _kept(problem, share, bound.channels)
    second = products.fit(kept, bound.ridge)
    graph = replace(bound, keep=len(kept) / bound.channels).reshape(net.graph)
    (new,) = [node.name for node in graph if node.name not in net.graph and node.op.layer is not None]
    weights = {
        **net.weights,
        (new, "weight"): first[kept],
        (new, "bias"): torch.zeros(len(kept)),
        (bound.node, "weight"): second.T.reshape(-1, len(kept), *rows.weight.shape[2:]).contiguous(),
    }
    if rows.bias is not None:
        weights[bound.node, "bias"] = moments.offset(second, products.columns(kept))
    found = {"kept": len(kept), "error": products.error(kept, second), "penalty": penalty, "alpha": ALPHA}
    return Network(graph, {key: tensor.to(net.dtype) for key, tensor in weights.items()}), found


def _problem(how: str, rows: Rows, first: Tensor, products: Products, ridge: float) -> Problem:
    neurons = len(first)
    blocks = products.inner.reshape(neurons, -1, neurons, len(products.inner) // neurons)
    near = similarity(blocks.diagonal(dim1=1, dim2=3).mean(-1))
    if how == "alg1":
        spread = rows.spread(first).diagonal()
        return Problem(torch.diag(spread), spread, near)
    weight = products.fit(None, ridge)
    outs = weight.shape[1]
    inner = (products.inner * (weight @ weight.T)).reshape(blocks.shape).sum((1, 3)) / outs
    return Problem(inner, (products.cross * weight).reshape(neurons, -1).sum(1) / outs, near)


def _kept(problem: Problem, share: float | None, neurons: int) -> tuple[Tensor, float]:
    """The neurons that stay, ascending, and λ as a share of ‖XᵀO‖∞."""
    most = problem.largest_penalty
    if share is None:
        return descend(problem, PENALTY * most, ALPHA).support, PENALTY
    width = max(1, round(share * neurons))
    found = ascend(problem, ALPHA, lambda beta: int((beta != 0).sum()) >= width)
    return chosen(found, width), found.penalty / most
