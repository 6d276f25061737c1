"""Widths that heads, rotary positions, stacks and maps that are the same for each example leave free."""

import pytest
import torch
import torch.nn.functional as F
from copied_modules import Calls, check_widenings, copied, normal
from torch import nn

import morphs

attend = F.scaled_dot_product_attention


def heads(x, count):
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def rotated(x, table):
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
    return x * table.cos() + turned * table.sin()


def rotary(m, x):
    q, k, v = (heads(part, 3) for part in m.qkv(x).chunk(3, -1))
    y = attend(rotated(q, m.table), rotated(k, m.table), v)
    return m.out(y.transpose(1, 2).flatten(2))


def one_query(m, x):
    """Attention of one token to all, as of a class token."""
    q = m.q(x[:, 0]).unsqueeze(1)
    y = attend(*(heads(part, 2) for part in (q, m.k(x), m.v(x))))
    return m.out(y.transpose(1, 2).flatten(2))


def convolved(m, x):
    """Factored attention with depthwise convolutions of the values, of other sizes for other heads (CoaT)."""
    q, k, v = (heads(part, 4) for part in m.qkv(x).chunk(3, -1))
    y = q @ (k.softmax(2).transpose(-1, -2) @ v)
    parts = v.transpose(-1, -2).reshape(x.shape[0], 8, 2, 2).split([2, 6], 1)
    wide = torch.cat([m.small(parts[0]), m.large(parts[1])], 1).reshape(x.shape[0], 4, 2, 4).transpose(-1, -2)
    return m.out((y + q * wide).transpose(1, 2).flatten(2))


def aggregated(m, x):
    """Vectors of several scales, put together by a convolution across them."""
    y = torch.stack([m.one(x[:, 0]), m.two(x[:, 1]), m.three(x[:, 2])], 1)
    return m.out(m.mix(y).squeeze(1))


def placed(m, x):
    """A map of positions that layers compute from a constant."""
    place = m.project(torch.arange(8.0, dtype=x.dtype).reshape(1, 2, 2, 2).cos())
    return m.out(m.first(x) + place.repeat(x.shape[0], 1, 1, 1)).flatten(1)


def twice(m, x):
    """One layer, used in an order that its name doesn't show."""
    late = m.b(m.shared(m.a(x).relu()))
    return m.out(m.shared(late.tanh()) + late)


def conv(inside, outside, kernel, groups=1):
    return nn.Conv2d(inside, outside, kernel, padding=kernel // 2, groups=groups)


def rotary_module():
    module = Calls(rotary, qkv=nn.Linear(5, 36), out=nn.Linear(12, 2))
    module.register_buffer("table", normal(6, 4))
    return module, normal(2, 6, 5)


CASES = {
    "rotary": rotary_module,
    "one query": lambda: (
        Calls(one_query, q=nn.Linear(5, 6), k=nn.Linear(5, 6), v=nn.Linear(5, 6), out=nn.Linear(6, 2)),
        normal(2, 6, 5),
    ),
    "convolved": lambda: (
        Calls(
            convolved, qkv=nn.Linear(5, 24), small=conv(2, 2, 3, 2), large=conv(6, 6, 1, 6), out=nn.Linear(8, 2)
        ),
        normal(2, 4, 5),
    ),
    "aggregated": lambda: (
        Calls(
            aggregated, one=nn.Linear(4, 6), two=nn.Linear(4, 6), three=nn.Linear(4, 6), mix=nn.Conv1d(3, 1, 1),
            out=nn.Linear(6, 2),
        ),
        normal(2, 3, 4),
    ),
    "placed": lambda: (
        Calls(placed, project=conv(2, 6, 1), first=conv(3, 6, 3), out=conv(6, 2, 3)),
        normal(2, 3, 2, 2),
    ),
    "twice": lambda: (
        Calls(
            twice, shared=nn.Linear(6, 6), a=nn.Linear(4, 6), b=nn.Linear(6, 6), out=nn.Linear(6, 2)
        ),
        normal(2, 4),
    ),
}  # fmt: skip
NODES = {
    "rotary": {"qkv"}, "one query": {"q", "k", "v"}, "convolved": {"qkv", "small", "large"},
    "twice": {"a", "shared", "b"},
    "aggregated": {"one", "two", "three"}, "placed": {"project", "first"},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_widths_are_free_and_widen_exactly(case):
    module, x = CASES[case]()
    net = copied(module, x)
    assert morphs.from_torch(net.to_torch(), x).graph == net.graph
    widths = morphs.channel_groups(net.graph)
    free = set(widths.free())
    for name in NODES[case]:
        assert widths.spans[name]
        assert {span.group for span in widths.spans[name]} <= free, name
    check_widenings(net, 1.5, 2)


@pytest.mark.parametrize("case", CASES)
def test_exports_compute_the_same(case, tmp_path):
    module, x = CASES[case]()
    morphs.export(copied(module, x), tmp_path / "out", x)


def test_what_only_eval_mode_computes_for_nothing_does_not_stand_for_what_both_use():
    def forward(m, x):
        if not m.training:
            m.b(x[:, 1:])  # of the same part, and given to no one
        return m.a(x[:, 1:])

    net = copied(Calls(forward, a=nn.Linear(4, 3), b=nn.Linear(4, 3)), normal(2, 6, 4))
    assert [node.op.kind for node in net.graph] == ["input", "slice", "linear", "output"]


class Windows(nn.Module):
    """A convolution and a norm of windows that lie along the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.conv, self.norm, self.out = (
            conv(3, 4, 1),
            conv(4, 4, 3),
            nn.BatchNorm2d(4),
            conv(4, 2, 1),
        )

    def forward(self, x):
        y = self.first(x).reshape(-1, 4, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, 2, 2)
        y = self.norm(self.conv(y)).relu()
        y = y.reshape(-1, 2, 2, 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(-1, 4, 4, 4)
        return self.out(y)


def test_operators_on_windows_keep_their_names():
    x = normal(2, 3, 4, 4)
    net = copied(Windows(), x)
    assert morphs.from_torch(net.to_torch(), x).graph == net.graph
