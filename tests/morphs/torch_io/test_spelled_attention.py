"""Attention that a forward spells out is read as attention, whatever the way."""

import math

import pytest
import torch
from copied_modules import Calls, copied, difference, kinds, normal, returns
from torch import nn

import morphs

WIDTH, HEADS, TOKENS = 16, 4, 5


def scaled_after(q, k):
    return q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]))


def divided(q, k):
    return torch.matmul(q, k.mT) / math.sqrt(q.shape[-1])


def scaled_before(q, k):
    return (q * 0.5) @ (k / 2).transpose(-1, -2) * 2


def unscaled(q, k):
    return q @ k.transpose(-2, -1).contiguous()


def blocked(self, scores):
    return scores.masked_fill(self.seen[:, :, :TOKENS, :TOKENS] == 0, float("-inf"))


def added(self, scores):
    return scores + torch.triu(torch.full((TOKENS, TOKENS), float("-inf"), dtype=scores.dtype), 1)


def unmasked(self, scores):
    return scores


class Spelled(nn.Module):
    """Self-attention by hand. folded: the heads are in the batch, and products are `bmm`."""

    def __init__(self, product, mask=unmasked, folded=False, dropout=0.0) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.drop = nn.Dropout(dropout)
        self.register_buffer("seen", torch.tril(torch.ones(1, 1, TOKENS, TOKENS)))
        self.product, self.mask, self.folded = product, mask, folded

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = (
            part.view(batch, tokens, HEADS, width // HEADS).transpose(1, 2)
            for part in self.qkv(x).split(width, 2)
        )
        if self.folded:
            q, k, v = (part.reshape(batch * HEADS, tokens, -1) for part in (q, k, v))
        weights = self.drop(self.mask(self, self.product(q, k)).softmax(-1))
        found = torch.bmm(weights, v).view(batch, HEADS, tokens, -1) if self.folded else weights @ v
        return self.out(found.transpose(1, 2).reshape(batch, tokens, width))


def attention_of(net: morphs.Network):
    (op,) = [node.op for node in net.graph if node.op.kind == "attention"]
    return op


@pytest.mark.parametrize("product", [scaled_after, divided, scaled_before, unscaled])
@pytest.mark.parametrize("folded", [False, True])
def test_each_way_to_write_it(product, folded: bool) -> None:
    x = normal(3, TOKENS, WIDTH)
    net = copied(Spelled(product, folded=folded), x)
    assert attention_of(net).scale == pytest.approx(1.0 if product is unscaled else 0.5)
    assert "aten" not in kinds(net)
    returns(net, x)


@pytest.mark.parametrize("mask", [blocked, added])
def test_a_mask_of_numbers_or_of_places(mask) -> None:
    net = copied(Spelled(scaled_after, mask), normal(3, TOKENS, WIDTH))
    (node,) = [node for node in net.graph if node.op.kind == "attention"]
    assert len(node.inputs) == 4


@pytest.mark.parametrize("beta", [0, 1])
def test_a_product_and_a_mask_in_one_call(beta: int) -> None:
    """With beta = 0 what is added doesn't count, and alpha is the scale."""

    def product(q, k):
        later = torch.triu(torch.full((1, TOKENS, TOKENS), -3.0, dtype=q.dtype), 1)
        return torch.baddbmm(later, q, k.transpose(1, 2), beta=beta, alpha=0.5)

    net = copied(Spelled(product, folded=True), normal(3, TOKENS, WIDTH))
    (node,) = [node for node in net.graph if node.op.kind == "attention"]
    assert (node.op.scale, len(node.inputs)) == (0.5, 3 + beta)


@pytest.mark.parametrize(
    "mask",
    [
        lambda self, scores: (scores + self.seen[0]) * 2,  # the mask is scaled too
        lambda self, scores: scores + (self.seen[0] > 0),  # numbers 0 and 1, not places to leave out
        lambda self, scores: scores / torch.ones(1, 1, TOKENS, 1, dtype=scores.dtype),
    ],
)
def test_what_only_looks_like_it_stays_operators(mask) -> None:
    net = copied(Spelled(scaled_after, mask), normal(3, TOKENS, WIDTH))
    assert "attention" not in kinds(net)


def test_a_mask_of_its_own_for_each_head_leaves_operators() -> None:
    """Biases of relative positions, say: no op has them, and an opaque call would fix the widths."""

    class Biased(Spelled):
        def __init__(self) -> None:
            super().__init__(scaled_after, lambda self, scores: scores + self.bias)
            self.bias = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS))

    net = copied(Biased(), normal(3, TOKENS, WIDTH))
    assert "attention" not in kinds(net)
    assert not any(node.op.kind == "aten" and "scaled_dot" in node.op.operator for node in net.graph)


def test_a_layer_of_torch_with_padding() -> None:
    layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x):
        padding = x[..., 0] > 1.0
        later = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
        return self.layer(x, x, x, attn_mask=later, key_padding_mask=padding)[0]

    x = normal(3, TOKENS, WIDTH)
    x[:, 0, 0] = 0  # the first token, which all see
    net = copied(Calls(forward, layer=layer), x)
    assert attention_of(net).scale == pytest.approx(0.5)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_of_torch_whose_weights_nobody_reads(batch_first: bool, masked: bool) -> None:
    """`MultiheadAttention` computes its weights unless it is told not to."""
    layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)

    def forward(self, x):
        mask = torch.triu(torch.full((TOKENS, TOKENS), float("-inf"), dtype=x.dtype), 1) if masked else None
        h = x if batch_first else x.transpose(0, 1)
        found, _ = self.layer(h, h, h, attn_mask=mask)
        return found if batch_first else found.transpose(0, 1)

    net = copied(Calls(forward, layer=layer), normal(3, TOKENS, WIDTH))
    assert attention_of(net).scale == pytest.approx(0.5)
    wider = morphs.apply(net, str(next(iter(morphs.Widen.sites(net)))))
    assert wider.drift is not None
    assert wider.drift.eval < 1e-10


def test_weights_that_are_returned_stay_operators() -> None:
    layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    net = copied(Calls(lambda self, x: self.layer(x, x, x)[1], layer=layer), normal(3, TOKENS, WIDTH))
    assert "attention" not in kinds(net)


@pytest.mark.parametrize("make", ["layer", "by hand"])
def test_dropout_of_the_weights(make: str) -> None:
    """The layer of torch calls no dropout at all in eval mode."""
    layer = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.3, batch_first=True)
    by_hand = Spelled(scaled_after, dropout=0.3)
    module = (
        Calls(lambda self, x: self.layer(x, x, x)[0], layer=layer) if make == "layer" else by_hand
    ).double()
    x = normal(3, TOKENS, WIDTH)
    net = morphs.from_torch(module, x)
    assert attention_of(net).dropout == 0.3
    copy = net.to_torch()
    assert difference(module, copy, x) <= 1e-12
    first, second = copy.train()(x), copy(x)
    assert not torch.allclose(first, second)


def test_a_product_that_is_not_attention_stays_one() -> None:
    def forward(self, x):
        return torch.sigmoid(x @ x.transpose(1, 2)) @ self.layer(x)

    net = copied(Calls(forward, layer=nn.Linear(WIDTH, WIDTH)), normal(3, TOKENS, WIDTH))
    assert "attention" not in kinds(net)


def test_where_rounding_is_amplified_the_operators_stay() -> None:
    """A copy must agree with its module: where one call rounds otherwise than several and that grows, they are kept."""

    def forward(self, x):
        return torch.sin(1e13 * self.layer(x))

    module = Calls(forward, layer=Spelled(scaled_after)).double()
    x = normal(3, TOKENS, WIDTH)
    net = morphs.from_torch(module, x)
    assert "attention" not in kinds(net)
    assert difference(module, net.to_torch(), x) <= 1e-12
    program = torch.export.export(module.eval(), (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    assert "attention" not in kinds(morphs.from_program(program))


def repeated(part):
    return part.repeat_interleave(2, dim=1)


def expanded(part):
    batch, heads, tokens, width = part.shape
    return part[:, :, None].expand(batch, heads, 2, tokens, width).reshape(batch, 2 * heads, tokens, width)


@pytest.mark.parametrize("repeat", [repeated, expanded])
@pytest.mark.parametrize("by_hand", [False, True])
def test_keys_that_are_repeated_are_shared_by_queries(repeat, by_hand: bool) -> None:
    def forward(self, x):
        batch, tokens, width = x.shape
        q = self.q(x).view(batch, tokens, HEADS, width // HEADS).transpose(1, 2)
        k, v = (
            repeat(part.view(batch, tokens, HEADS // 2, width // HEADS).transpose(1, 2))
            for part in self.kv(x).chunk(2, -1)
        )
        found = (
            scaled_after(q, k).softmax(-1) @ v
            if by_hand
            else nn.functional.scaled_dot_product_attention(q, k, v)
        )
        return self.out(found.transpose(1, 2).reshape(batch, tokens, width))

    parts = {"q": nn.Linear(WIDTH, WIDTH), "kv": nn.Linear(WIDTH, WIDTH), "out": nn.Linear(WIDTH, WIDTH)}
    net = copied(Calls(forward, **parts), normal(3, TOKENS, WIDTH))
    (node,) = [node for node in net.graph if node.op.kind == "attention"]
    assert [net.graph.shape(source)[0] for source in node.inputs] == [HEADS, HEADS // 2, HEADS // 2]
    assert "aten" not in kinds(net)
