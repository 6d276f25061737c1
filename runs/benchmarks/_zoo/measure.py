"""What is measured of one model, in float64 if nobody says otherwise."""

from __future__ import annotations

import copy
import gc
import random
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

import morphs
from _zoo.models import build
from morphs.errors import MorphError
from morphs.graph.widths import channel_groups
from morphs.move import Preserves
from morphs.torch_io.chance import NoChance

MOVES = 20
STEPS = 5
GROWTH = 1.5  # times its parameters that a model may have after the moves, so that large ones fit into memory
CHANGING = ("subnet", "grow_kernel", "compact", "merge_groups", "split_groups")  # the layer that they name
Record = dict[str, Any]


def measure(name: str, dtype: torch.dtype) -> Record:
    """The record of one model, in a floating type."""
    module, given = build(name)
    module = _without_zeros(module.to(dtype))
    args, kwargs = ((), dict(given)) if isinstance(given, dict) else (given, {})
    args = tuple(_in_type(x, dtype) for x in (args if isinstance(args, tuple) else (args,)))
    kwargs = {key: _in_type(x, dtype) for key, x in kwargs.items()}
    inputs = (*args, *kwargs.values())
    record: Record = {"model": name, "type": str(dtype), "exports": True, "imports": False}
    start = time.process_time()
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            net = morphs.from_torch(module, kwargs or args)
    except MorphError as error:
        return {**record, **_exported(module, args, kwargs), "error": str(error)[:300]}
    ours = [str(w.message)[:80] for w in told if w.category.__module__.startswith("morphs")]
    record |= {"imports": True, "import_s": time.process_time() - start, "told": ours, **_shares(net)}
    for mode in ("eval", "train"):
        record[f"difference_{mode}"] = _difference(
            module, net.to_torch(), (args, kwargs), inputs, mode == "train"
        )
    del module
    gc.collect()  # traced modules refer to themselves; large ones don't fit into memory twice
    record |= _tried(lambda: _round_trip(net, inputs), "round_trip")
    gc.collect()
    return record | _tried(lambda: _grown(net, inputs), "chain")


def _without_zeros(module: nn.Module) -> nn.Module:
    """With numbers where parameters start at zero, as heads of vision transformers do: nothing hides behind them."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not bool(parameter.any()):
                parameter.normal_(0, 0.02)
    return module


def _in_type(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype) if x.is_floating_point() else x


def _tried(work: Any, name: str) -> Record:
    """What `work` finds, or why it failed; a failure of one part leaves the others."""
    try:
        return work()
    except Exception as error:
        return {f"{name}_error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


def _exported(module: nn.Module, args: Any, kwargs: Any) -> Record:
    """Whether torch exports what was not imported; an import begins with an export."""
    try:
        torch.export.export(copy.deepcopy(module).eval(), args, kwargs, strict=False)
    except Exception as error:
        return {"exports": False, "export_error": " ".join(str(error).split())[:200]}
    return {"exports": True}


def _shares(net: morphs.Network) -> Record:
    """The share of nodes, and of parameters, of the vocabulary's ops that read or write a width that is free; and of
    parameters with those in layers that some other move changes or replaces.
    """
    widths = channel_groups(net.graph)
    free = {number for number, group in enumerate(widths.groups) if group.fixed is None}
    movable: set[str] = set()
    inner = [node for node in net.graph if not node.op.is_end]
    for node in inner:
        along = (spans for name in (node.name, *node.inputs) for spans in widths.axes[name])
        known = node.op.kind not in ("aten", "tensor")
        if known and any(span.group in free for spans in along for span in spans or ()):
            movable |= {node.name, node.owner}
    sizes = {key: net.weights[key].numel() for key, param in net.graph.params.items() if param.trainable}
    whole = sum(sizes.values()) or 1
    named = {site.node for move in morphs.MOVES if move.name in CHANGING for site in move.sites(net)}
    changing = movable | named | {net.graph[name].owner for name in named}
    return {"nodes": len(inner), "aten": sum(node.op.kind == "aten" for node in inner), "parameters": whole,
            "nodes_share": sum(node.name in movable for node in inner) / max(len(inner), 1),
            "parameters_share": sum(size for key, size in sizes.items() if key[0] in movable) / whole,
            "changing_share": sum(size for key, size in sizes.items() if key[0] in changing) / whole}  # fmt: skip


def _difference(module: nn.Module, twin: nn.Module, given: Any, inputs: Any, train: bool) -> float:
    """The largest relative difference of any output, random numbers replaced by ones."""
    outputs: list[list[torch.Tensor]] = []
    for each, (args, kwargs) in ((module, given), (twin, (inputs, {}))):
        each.train(train)
        with torch.no_grad(), NoChance():
            returned = each(*args, **kwargs)
        leaves = torch.utils._pytree.tree_leaves(dict(returned) if hasattr(returned, "keys") else returned)
        outputs.append([leaf for leaf in leaves if isinstance(leaf, torch.Tensor)])
    return max(float((one - other).abs().max() / one.abs().max().clamp(min=torch.finfo(torch.float32).tiny))
               for one, other in zip(*outputs, strict=False))  # fmt: skip


def _round_trip(net: morphs.Network, inputs: Any) -> Record:
    """Whether an export runs in a process of its own, and the copy's copy is the same graph."""
    same = morphs.from_torch(net.to_torch(), inputs).graph == net.graph
    with tempfile.TemporaryDirectory() as folder:
        morphs.export(net, Path(folder) / "out", inputs)
    return {"round_trip": True, "same_graph": same}


def _grown(net: morphs.Network, probe: tuple[torch.Tensor, ...]) -> Record:
    """Drift after a chain of random exact moves; some training steps of what it made."""
    draw, made, moves = random.Random(net.graph.fingerprint), net, list[str]()
    limits = morphs.Limits(params=int(GROWTH * net.graph.totals.weights) + 5000)
    kinds = [move for move in morphs.MOVES if move.name not in ("compact", "insert_dropout", "narrow")]
    kinds += [morphs.Widen] * 4
    for _ in range(6 * MOVES):
        move = draw.choice(kinds)
        sites = [site for _, site in zip(range(100), move.sites(made, limits), strict=False)]
        sites = [site for site in sites if site.preserves is Preserves.EXACT]
        if sites and len(moves) < MOVES:
            site = draw.choice(sites)
            made = morphs.apply(made, site, measure=False).network
            moves.append(str(site))
    drift = morphs.drift(net, made, probe if len(probe) > 1 else probe[0])
    module = made.to_torch().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-6)
    for _ in range(STEPS):
        optimizer.zero_grad()
        leaves = torch.utils._pytree.tree_leaves(module(*probe))
        sum(leaf.square().mean() for leaf in leaves if leaf.is_floating_point()).backward()
        optimizer.step()
    dead = [name for name, p in module.named_parameters() if p.grad is None]
    return {
        "moves": len(moves),
        "chain": moves,
        "drift": max(drift.eval, drift.train),
        "without_gradient": len(dead),
    }
