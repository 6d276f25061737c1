"""A network, moves of every kind and optimizers, for the tests of what is carried through moves."""

import torch
from strategies import lively, ripe, some_batches
from torch import nn

import morphs

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
