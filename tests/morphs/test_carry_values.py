"""Values and moments that are carried through moves without an optimizer, and parameters that are new."""

import pytest
import torch
from carry_support import MOVES, OPTIMIZERS, TEXT, grown, step
from strategies import lively
from torch import nn

import morphs


@pytest.mark.parametrize("seed", range(4))
def test_values_are_carried_as_an_optimizers_momentum_is(seed: int) -> None:
    parent = morphs.init(
        morphs.parse_graph("""
        x = input(size=[3, 8, 8]); c1 = conv2d(x, channels=4, kernel=3, padding=1); b1 = batch_norm(c1); r1 = relu(b1)
        c2 = conv2d(r1, channels=6, kernel=3, padding=1); r2 = relu(c2); g = adaptive_avg_pool2d(r2); f = flatten(g)
        fc = linear(f, features=5); y = output(fc)
        """),
        seed=seed,
    )
    module = parent.to_torch()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
    optimizer.step()
    named = dict(module.named_parameters())
    momentum = {
        key: optimizer.state[named[".".join(key)]]["momentum_buffer"]
        if ".".join(key) in named
        else torch.zeros_like(weight)
        for key, weight in parent.weights.items()
    }
    for move in (
        "widen(node=c1, to=7, how=replicate)",
        "widen(node=c2, to=9, how=zero)",
        "deepen(node=r1, how=identity)",
    ):
        child = morphs.apply(parent, move, seed=seed)
        made = child.network.to_torch()
        carried = morphs.carry(optimizer, module, made, child)
        values = morphs.carry_values(momentum, child)
        for key, parameter in child.network.graph.params.items():
            if not parameter.trainable:
                continue
            state = carried.state.get(dict(made.named_parameters())[".".join(key)], {}).get("momentum_buffer")
            assert torch.equal(values[key], torch.zeros_like(values[key]) if state is None else state)
    with pytest.raises(morphs.errors.WeightsError):
        morphs.carry_values({}, child)


@pytest.mark.parametrize("move", MOVES)
def test_moments_apart_from_an_optimizer_are_carried_like_its_own(move: str) -> None:
    parent, optimizer, child, module, carried = grown(move, OPTIMIZERS["adamw"])
    for seed in range(30):  # by then a new entry would move by more than the rate
        step(parent, optimizer, seed)
    carried = morphs.carry(optimizer, parent, module, child)
    before, after = dict(parent.named_parameters()), dict(module.named_parameters())
    kept = {
        name: {
            (*path.split("."),): torch.full_like(p, float(state[name])) if name == "step" else state[name]
            for path, p in before.items()
            if (state := optimizer.state[p])
        }
        for name in ("exp_avg", "exp_avg_sq", "step")
    }
    for origin in child.origin.values():  # buffers, and what never had a gradient
        if origin.source is not None:
            for values in kept.values():
                values.setdefault(
                    origin.source, torch.zeros_like(parent.state_dict()[".".join(origin.source)])
                )
    found = morphs.carry_moments(*kept.values(), child)
    for key, param in child.network.graph.params.items():
        if param.trainable:
            state = carried.state.get(after[".".join(key)], {})
            for name, values in zip(kept, found, strict=True):
                wanted = state.get(name, torch.zeros(())).to(values[key].dtype).expand_as(values[key])
                assert torch.equal(values[key], wanted), (name, key)


def test_new_parameters_are_those_without_an_entry_of_the_parents():
    net = lively(morphs.parse_graph(TEXT))
    child = morphs.apply(net, "insert_block(node=r)")
    names = ["conv1.weight", "norm1.weight", "norm1.bias", "conv2.weight", "norm2.weight", "norm2.bias"]
    assert morphs.new_parameters(child) == tuple(names)
    module = child.network.to_torch()
    assert {*names} < {name for name, _ in module.named_parameters()}
    assert morphs.new_parameters(morphs.apply(net, "widen(node=c, to=8, how=paired)")) == ()


def test_new_parameters_are_named_as_in_the_module_of_a_users_model():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(64, 2))
    net = morphs.from_torch(model, torch.randn(2, 3, 6, 6))
    child = morphs.apply(net, morphs.SqueezeExcite("layer0.1", 4))
    assert {*morphs.new_parameters(child)} < dict(child.network.to_torch().named_parameters()).keys()
