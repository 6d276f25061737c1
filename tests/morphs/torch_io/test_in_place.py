"""Writes in place: the copy computes what the module does, and has its gradients."""

import pytest
import torch
import torch.nn.functional as F
from copied_modules import Calls, copied, normal, returns
from torch import nn


def assigned(h):
    h[:, 1:4] = h[:, 1:4] + torch.relu(h[:, :3])


def added(h):
    h[:, 1:4] += torch.relu(h[:, :3])


def masked(h):
    h[h < 0] = 0.0


def columns(h):
    h[:, [0, 2]] = 1.0


WRITES = {
    "assigned": assigned,
    "added": added,
    "masked": masked,
    "columns": columns,
    "copied": lambda h: h[:, 1:4].copy_(torch.relu(h[:, :3])),
    "copied from one column": lambda h: h[:, 1:4].copy_(h[:, :1]),
    "copied from another type": lambda h: h[:, 1:4].copy_(h[:, :3].float()),
    "swapped": lambda h: h[:, :2].copy_(h[:, :2].flip(1)),
    "filled": lambda h: h[:, 1:4].fill_(0.5),
    "zeroed": lambda h: h[:, 2].zero_(),
    "clamped": lambda h: h[:, :3].clamp_(0, 1),
    "every second": lambda h: F.relu_(h[:, ::2]),
    "added by index": lambda h: h.index_add_(1, torch.tensor([0, 1]), h[:, 2:4].clone()),
    "copied by index": lambda h: h.index_copy_(1, torch.tensor([0, 1]), h[:, 2:4].clone()),
}


@pytest.mark.parametrize("write", WRITES)
def test_the_copy_has_the_gradients_of_the_module(write):
    def forward(m, x):
        h = m.a(x).clone()
        WRITES[write](h)
        return m.b(h)

    made = Calls(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    net, x = copied(made, normal(3, 4)), normal(3, 4, seed=2)
    copy = net.to_torch()
    for module in (made, copy):
        module(x).square().sum().backward()
    for one, other in zip(made.parameters(), copy.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-12, atol=1e-14)
    returns(net, x)


def test_a_tensor_that_is_filled_in_has_the_gradients_too():
    def forward(m, x):
        h = torch.zeros(x.shape[0], 6, dtype=x.dtype)
        h[:, 1:4] = m.a(x)
        h[:, 5] = x[:, 0]
        return m.b(h)

    made = Calls(forward, a=nn.Linear(4, 3), b=nn.Linear(6, 2))
    copy = copied(made, normal(3, 4)).to_torch()
    x = normal(3, 4, seed=2)
    for module in (made, copy):
        module(x).square().sum().backward()
    assert torch.allclose(made.a.weight.grad, copy.a.weight.grad, rtol=1e-12)
