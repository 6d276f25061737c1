"""Optimizer state through a change of shapes."""

import pytest
import torch
from carry_support import MOVES, OPTIMIZERS, TEXT, grouped, grown, step
from copied_modules import along
from strategies import lively
from torch import nn

import morphs
from morphs.errors import WeightsError


def test_there_is_a_case_for_every_move():
    on_tokens = {"add_block"}  # see test_tokens.py
    assert {text.partition("(")[0] for text in MOVES} | on_tokens == {move.name for move in morphs.MOVES}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_carried_optimizer_steps_every_parameter_of_the_child(move, name):
    _, optimizer, _, module, carried = grown(move, OPTIMIZERS[name])
    assert type(carried) is type(optimizer)
    assert carried.defaults == optimizer.defaults
    stepped = [id(p) for group in carried.param_groups for p in group["params"]]
    assert sorted(stepped) == sorted(id(p) for p in module.parameters())
    for old, new in zip(optimizer.param_groups, carried.param_groups, strict=True):
        assert {k: v for k, v in old.items() if k != "params"} == {
            k: v for k, v in new.items() if k != "params"
        }
        assert all((p.dim() >= 2) == (new["weight_decay"] > 0) for p in new["params"])
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    step(module, carried, seed=1)
    moved = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert {"c.weight", "e.weight", "l.weight", "l.bias"} <= moved


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize(
    ("name", "entry"),
    [("sgd", "momentum_buffer"), ("adam", "exp_avg"), ("adam", "max_exp_avg_sq"), ("adamw", "exp_avg_sq")],
)
def test_kept_entries_keep_their_momentum_and_new_ones_start_at_zero(move, name, entry):
    parent, optimizer, child, module, carried = grown(move, OPTIMIZERS[name])
    old, new = dict(parent.named_parameters()), dict(module.named_parameters())
    for key, origin in child.origin.items():
        path = ".".join(key)
        if path not in new:
            continue
        state = carried.state.get(new[path], {})
        if origin.source is None:
            assert not state
            continue
        moment = optimizer.state[old[".".join(origin.source)]][entry]
        assert torch.equal(state[entry], origin.gather(moment))
        assert state[entry].data_ptr() != moment.data_ptr()
        if name != "sgd":
            assert state["step"] == 1
            assert state["step"] is not optimizer.state[old[".".join(origin.source)]]["step"]


def test_a_replaced_parameter_stays_in_its_group():
    _, _, _, module, carried = grown(
        "deepen(node=d, how=netmorph, channels=5, kernel=[3, 3])", OPTIMIZERS["sgd"],
        lambda m: [{"params": [p], "lr": 0.1 * (i + 1)} for i, p in enumerate(m.parameters())],
    )  # fmt: skip
    (group,) = [g for g in carried.param_groups if any(p is module.d.weight for p in g["params"])]
    names = [name for name, _ in lively(morphs.parse_graph(TEXT)).to_torch().named_parameters()]
    assert group["lr"] == pytest.approx(0.1 * (names.index("d.weight") + 1))


def test_frozen_parameters_stay_out_and_groups_stay_in_line():
    def only_linear(module):
        return [{"params": [module.c.weight], "lr": 1.0}, {"params": [module.l.weight, module.l.bias]}]

    _, _, _, module, carried = grown("widen(node=d, to=6)", OPTIMIZERS["sgd"], only_linear)
    assert [[id(p) for p in g["params"]] for g in carried.param_groups] == [
        [id(module.c.weight)],
        [id(module.l.weight), id(module.l.bias)],
    ]


def test_schedulers_find_their_groups():
    _, optimizer, child, module, _ = grown("widen(node=d, to=6)", OPTIMIZERS["sgd"])
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    parent = lively(morphs.parse_graph(TEXT)).to_torch()
    fresh = OPTIMIZERS["sgd"](grouped(parent))
    torch.optim.lr_scheduler.CosineAnnealingLR(fresh, 10)
    carried = morphs.carry(fresh, parent, module, child)
    assert [g["initial_lr"] for g in carried.param_groups] == [0.05, 0.001]


def test_compiled_modules_are_carried_like_plain_ones():
    parent, optimizer, child, module, _ = grown("widen(node=d, to=6)", OPTIMIZERS["sgd"])
    carried = morphs.carry(
        optimizer, torch.compile(parent, backend="eager"), torch.compile(module, backend="eager"), child
    )
    assert torch.equal(
        carried.state[module.c.weight]["momentum_buffer"], optimizer.state[parent.c.weight]["momentum_buffer"]
    )


def test_modules_that_are_not_the_networks_are_refused():
    parent, optimizer, child, module, _ = grown("deepen(node=r, kernel=[3, 3])", OPTIMIZERS["sgd"])
    with pytest.raises(WeightsError, match=r"child.*conv1\.weight"):
        morphs.carry(optimizer, parent, parent, child)
    with pytest.raises(WeightsError, match=r"parent.*\.weight"):
        morphs.carry(optimizer, nn.Linear(2, 2), module, child)
    with pytest.raises(WeightsError, match=r"optimizer.*parent"):
        morphs.carry(optimizer, child.network.to_torch(), module, child)


@pytest.mark.parametrize(
    "move", ["deepen(node=r, kernel=[3, 3])", "narrow(node=d, to=2)", "widen(node=d, to=6)"]
)
def test_named_parameters_bear_the_names_of_the_child(move):
    def named(module):
        return [
            {"params": [(n, p) for n, p in module.named_parameters() if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [(n, p) for n, p in module.named_parameters() if p.dim() < 2]},
        ]

    _, optimizer, _, module, carried = grown(move, OPTIMIZERS["sgd"], named)
    names = {id(p): name for name, p in module.named_parameters()}
    for group in carried.param_groups:
        assert group["param_names"] == [names[id(p)] for p in group["params"]]
    assert "conv1.weight" not in optimizer.param_groups[0]["param_names"], "the parent's were written to"
    assert sum(len(group["param_names"]) for group in carried.state_dict()["param_groups"]) == len(names)


def test_a_named_group_that_lost_its_last_parameter_stays():
    def named(module):
        of_d = [(n, p) for n, p in module.named_parameters() if n.startswith("d.")]
        return [{"params": [(n, p) for n, p in module.named_parameters() if n[:2] != "d."]}, {"params": of_d}]

    _, _, _, _, carried = grown("remove_layer(node=d, instead=r)", OPTIMIZERS["sgd"], named)
    assert carried.param_groups[1]["params"] == carried.param_groups[1]["param_names"] == []


def test_factored_moments_start_anew_where_their_parameter_changed_its_shape():
    parent, optimizer, _, module, carried = grown("widen(node=c, to=7)", torch.optim.Adafactor)
    kept, changed = module.e.weight, module.d.weight
    assert torch.equal(carried.state[kept]["row_var"], optimizer.state[parent.e.weight]["row_var"])
    assert carried.state[kept]["row_var"] is not optimizer.state[parent.e.weight]["row_var"]
    assert not carried.state[changed]
    assert len(carried.state[module.n.weight]["variance"]) == 7  # of the parameter's shape: carried
    step(module, carried, seed=1)


@pytest.mark.parametrize("width", [1, 4])
def test_factored_moments_of_a_single_column_are_not_taken_for_ones_of_each_entry(width):
    net = lively(
        morphs.parse_graph(f"""
        x = input(size=[{width}]); h = linear(x, features=1); r = tanh(h)
        l = linear(r, features={width}); out = output(l)
        """)
    )
    parent = net.to_torch()
    optimizer = torch.optim.Adafactor(parent.parameters())
    inputs = torch.randn(5, width, dtype=torch.float64)
    parent(inputs).square().sum().backward()
    optimizer.step()
    child = morphs.apply(net.with_weights_from(parent), "widen(node=h, to=3)")
    module = child.network.to_torch()
    carried = morphs.carry(optimizer, parent, module, child)
    module(inputs).square().sum().backward()
    carried.step()


@pytest.mark.parametrize(
    ("make", "entry", "start"),
    [
        (lambda groups: torch.optim.Rprop(groups, lr=0.01), "step_size", 0.01),
        (lambda groups: torch.optim.Adagrad(groups, initial_accumulator_value=0.3), "sum", 0.3),
    ],
    ids=["rprop", "adagrad"],
)
def test_state_that_does_not_begin_at_zero_begins_as_in_a_fresh_optimizer(make, entry, start):
    parent, optimizer, child, module, carried = grown("widen(node=c, to=7)", make, lambda m: m.parameters())
    origin, moment = child.origin["c", "weight"], optimizer.state[parent.c.weight][entry]
    assert torch.equal(carried.state[module.c.weight][entry], origin.gather(moment, start))


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: torch.optim.Adam(groups, lr=0.01, foreach=True),
        lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=True),
        lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
        lambda groups: torch.optim.NAdam(groups, lr=0.01),
        lambda groups: torch.optim.ASGD(groups, lr=0.01),
        lambda groups: torch.optim.Adamax(groups, lr=0.01),
    ],
    ids=["foreach", "fused sgd", "fused adamw", "nadam", "asgd", "adamax"],
)
def test_the_carried_optimizer_steps_as_the_old_one_would(make):
    """After a move that changes no parameter, both make the same step."""
    parent, optimizer, _, module, carried = grown("insert_dropout(node=p)", make)
    for which in (parent, module):
        which.eval()
    step(parent, optimizer, seed=1)
    step(module, carried, seed=1)
    for old, new in zip(parent.parameters(), module.parameters(), strict=True):
        assert torch.equal(old, new)


def test_flags_are_kept_and_tensors_among_them_are_copies():
    def make(groups):
        return torch.optim.Adam(groups, lr=torch.tensor(0.01), capturable=True)

    parent = lively(morphs.parse_graph(TEXT)).to_torch()
    _, _, child, module, _ = grown("widen(node=d, to=6)", OPTIMIZERS["adam"])
    optimizer = make(parent.parameters())
    carried = morphs.carry(optimizer, parent, module, child)
    assert carried.param_groups[0]["capturable"] is carried.defaults["capturable"] is True
    carried.param_groups[0]["lr"].fill_(1.0)
    carried.defaults["lr"].fill_(1.0)
    assert optimizer.param_groups[0]["lr"] == optimizer.defaults["lr"] == torch.tensor(0.01)


def test_state_of_all_parameters_together_is_refused():
    net = lively(morphs.parse_graph(TEXT))
    parent, child = net.to_torch(), morphs.apply(net, "insert_dropout(node=p)")
    optimizer, module = torch.optim.LBFGS(parent.parameters()), child.network.to_torch()
    assert isinstance(morphs.carry(optimizer, parent, module, child), torch.optim.LBFGS)  # it has none yet

    def closure():
        optimizer.zero_grad()
        loss = parent(torch.ones(2, 3, 6, 6, dtype=torch.float64)).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with pytest.raises(WeightsError, match=r"LBFGS.*\(al\)") as caught:
        morphs.carry(optimizer, parent, module, child)
    assert "\n" not in str(caught.value)


def test_an_optimizer_goes_through_a_chain_child_by_child():
    net = lively(morphs.parse_graph(TEXT))
    parent = net.to_torch()
    optimizer = OPTIMIZERS["sgd"](grouped(parent))
    step(parent, optimizer)
    momentum = optimizer.state[parent.c.weight]["momentum_buffer"]
    chain = "widen(node=c, to=7); deepen(node=r, kernel=[3, 3]); widen(node=c, to=9)"
    children = list(morphs.apply_chain(net.with_weights_from(parent), chain))
    with pytest.raises(WeightsError, match=r"carry: .*\(\d.*\(\d"):
        morphs.carry(optimizer, parent, children[-1].network.to_torch(), children[-1])
    module, carried = parent, optimizer
    for child in children:
        before, module = module, child.network.to_torch()
        carried = morphs.carry(carried, before, module, child)
    for child in children:
        momentum = child.origin["c", "weight"].gather(momentum)
    assert torch.equal(carried.state[module.c.weight]["momentum_buffer"], momentum)
    step(module, carried, seed=1)


@pytest.mark.parametrize("make", [OPTIMIZERS["adam"], OPTIMIZERS["adamw"]], ids=["adam", "adamw"])
def test_a_new_entrys_first_step_is_no_larger_than_the_rate(make):
    net = lively(morphs.parse_graph(TEXT))
    parent = net.to_torch()
    optimizer = make([{"params": list(parent.parameters()), "weight_decay": 0.0}])
    for seed in range(300):
        step(parent, optimizer, seed)
    child = morphs.apply(net.with_weights_from(parent), "widen(node=d, to=6, how=zero)")
    module = child.network.to_torch()
    carried = morphs.carry(optimizer, parent, module, child)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    step(module, carried, seed=300)
    rate, largest = carried.param_groups[0]["lr"], 0.0
    for key, origin in child.origin.items():
        path = ".".join(key)
        if path in before and any(index is not None and (index < 0).any() for index in origin.axes):
            moved = (dict(module.named_parameters())[path].detach() - before[path]).abs()
            new = origin.gather(torch.zeros_like(parent.get_parameter(path)), 1.0) > 0
            largest = max(largest, float(moved[new].max()))
    assert 0 < largest <= rate * (1 + 1e-6)


def test_kept_entries_step_as_they_would_have_without_new_ones():
    """Fewer steps are counted, so that the moments forget faster, but their unbiased means stay."""
    net = lively(morphs.parse_graph(TEXT))
    parent = net.to_torch()
    optimizer = OPTIMIZERS["adam"](parent.parameters())
    for seed in range(300):
        step(parent, optimizer, seed)
    child = morphs.apply(net.with_weights_from(parent), "widen(node=d, to=6, how=zero)")
    module = child.network.to_torch()
    carried = morphs.carry(optimizer, parent, module, child)
    old, new = optimizer.state[parent.d.weight], carried.state[module.d.weight]
    assert 50 < new["step"] < old["step"] == 300
    for entry, beta in (("exp_avg", 0.9), ("exp_avg_sq", 0.999), ("max_exp_avg_sq", 0.999)):
        before = child.origin["d", "weight"].gather(old[entry]) / (1 - beta**300)
        after = new[entry] / (1 - beta ** int(new["step"]))
        assert torch.allclose(before, after, rtol=1e-5)
    assert carried.state[module.c.weight]["step"] == 300


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("move", [morphs.GrowKernel, morphs.Deepen])
def test_the_state_of_convolutions_of_signals_and_volumes_is_carried(rank, move):
    module, x = along(rank)
    module.double()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    module(x).square().sum().backward()
    optimizer.step()
    net = morphs.from_torch(module, x)
    for site in move.sites(net):
        if getattr(site, "how", "identity") != "identity":
            continue
        child = morphs.apply(net, site)
        grown = child.network.to_torch()
        carried = morphs.carry(optimizer, module, grown, child)
        old, new = net.state_keys(), child.network.state_keys()
        kept = 0
        for key, origin in child.origin.items():
            if not child.network.graph.params[key].trainable:
                continue
            state = carried.state.get(grown.get_parameter(new[key]), {})
            if origin.source is None:
                assert not state
                continue
            moment = optimizer.state[module.get_parameter(old[origin.source])]["exp_avg"]
            assert torch.equal(state["exp_avg"], origin.gather(moment))
            kept += 1
        assert kept == len([*module.parameters()])
        grown(x).square().sum().backward()
        carried.step()
        if move is morphs.GrowKernel:
            taps = (
                child.origin[site.node, "weight"].gather(torch.ones_like(net.weights[site.node, "weight"]))
                == 0
            )
            assert bool((grown.get_parameter(new[site.node, "weight"])[taps] != 0).any()), "new taps train"
