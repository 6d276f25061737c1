"""Optimizer state through a change of shapes."""

import pytest
import torch
from strategies import lively, ripe, some_batches
from torch import nn

import morphs
from morphs.errors import WeightsError

TEXT = """
    x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1, bias=false); n = batch_norm(c)
    r = relu(n); d = conv2d(r, channels=4, kernel=3, padding=1); p = p_activation(d, fn=relu)
    e = conv2d(p, channels=4, kernel=1, groups=4); f = flatten(e)
    l = linear(f, features=3); out = output(l)
"""

OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, amsgrad=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.02),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01, centered=True, momentum=0.5),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.01),
}
MOVES = (
    "widen(node=c, to=7)", "widen(node=c, to=7, how=zero)", "widen(node=d, to=6)", "grow_kernel(node=d, to=[5, 5])",
    "deepen(node=r, kernel=[3, 3])", "deepen(node=d, how=netmorph, channels=5, kernel=[3, 3])", "insert_norm(node=d)",
    "add_skip(source=r, target=p)", "add_skip(source=n, target=r, how=concat)",
    "add_skip(source=x, target=d, project=true)",
    "deepen(node=r, norm=true)", "insert_activation(node=c)", "insert_dropout(node=p)", "subnet(node=d)",
    "widen(node=d, to=8, how=paired)", "insert_block(node=r, how=paired)", "insert_block(node=d, kind=single)",
    "squeeze_excite(node=r, channels=2)", "merge_groups(node=e, groups=2)", "reparameterise(node=n, how=norm)",
    "narrow(node=d, to=2)", "remove_layer(node=d, instead=r)", "widen(node=c, to=7, how=gradient)",
    "split_groups(node=d, groups=2)", "retire(node=p, becomes=activation)",
    "compact(node=l, channels=6, keep=0.5, rows=8)", "widen_all(factor=1.5)", "widen_all(factor=2, how=zero)",
)  # fmt: skip


def grouped(module: nn.Module) -> list[dict]:
    """Weight decay on matrices and filters only, as training does."""
    params = list(module.parameters())
    return [
        {"params": [p for p in params if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0, "lr": 0.001},
    ]


def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int = 0) -> None:
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(8, 3, 6, 6, generator=g, dtype=torch.float64), torch.randint(0, 3, (8,), generator=g)
    optimizer.zero_grad()
    nn.functional.cross_entropy(module(x), y).backward()
    optimizer.step()


def grown(move: str, make, groups=grouped):
    net = lively(morphs.parse_graph(TEXT))
    parent = net.to_torch()
    optimizer = make(groups(parent))
    step(parent, optimizer)
    trained = net.with_weights_from(parent)
    if type(morphs.parse(move)).check_weights is not morphs.Move.check_weights:
        trained = ripe(trained)
    child = morphs.apply(trained, move, batches=some_batches(net))
    module = child.network.to_torch()
    return parent, optimizer, child, module, morphs.carry(optimizer, parent, module, child)


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
