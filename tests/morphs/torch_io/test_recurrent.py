"""Recurrent layers: their units are a width, whichever way the forward takes what they write."""

import pytest
from copied_modules import Calls, check_widenings, copied, normal
from torch import nn

import morphs
from morphs.errors import IllegalMove


def at_the_end(m, x):
    return m.out(m.cells(m.first(x))[0][:, -1])


def everywhere(m, x):
    return m.out(m.cells(m.first(x))[0])


def last_state(m, x):
    state = m.cells(m.first(x))[1]
    state = state[0] if isinstance(state, tuple) else state
    return m.out(state[-1])


def squeezed(m, x):
    return m.out(m.cells(m.first(x))[1][0].squeeze(0))


def tokens_first(m, x):
    written, state = m.cells(m.first(x).transpose(0, 1))
    return m.out(written[-1] + state[-1])


def module(forward, cells: nn.Module) -> nn.Module:
    return Calls(forward, first=nn.Linear(3, 4), cells=cells, out=nn.Linear(cells.hidden_size, 2))


CASES = {
    "lstm": (at_the_end, lambda: nn.LSTM(4, 5, batch_first=True)),
    "two layers": (everywhere, lambda: nn.LSTM(4, 4, 2, batch_first=True, dropout=0.3)),
    "gru": (last_state, lambda: nn.GRU(4, 5, num_layers=2, batch_first=True)),
    "last state": (last_state, lambda: nn.LSTM(4, 5, batch_first=True, bias=False)),
    "squeezed": (squeezed, lambda: nn.LSTM(4, 5, batch_first=True)),
    "tokens first": (tokens_first, lambda: nn.RNN(4, 5, nonlinearity="relu")),
}


@pytest.mark.parametrize("case", CASES)
def test_units_widen_exactly(case, tmp_path):
    forward, cells = CASES[case]
    net, x = copied(module(forward, cells()), normal(3, 6, 3)), normal(3, 6, 3)
    (node,) = (node.name for node in net.graph if node.op.kind == "recurrent")
    assert node == "cells"
    assert morphs.from_torch(net.to_torch(), x).graph == net.graph
    check_widenings(net)
    child = morphs.apply(net, "widen(node=cells, to=9, how=replicate)").network
    again = morphs.apply(child, "widen(node=cells, to=11, how=zero)")
    assert max(again.drift.eval, again.drift.train) <= 1e-12
    assert again.network.to_torch().cells.hidden_size == 11
    morphs.export(again.network, tmp_path / "out", x)


def test_a_layer_of_as_many_units_as_inputs_in_a_residual_widens():
    def forward(m, x):
        y = m.first(x)
        return m.out(y + m.cells(y)[0])

    net = copied(module(forward, nn.GRU(4, 4, batch_first=True)), normal(3, 6, 3))
    for how in ("replicate", "zero", "paired"):
        child = morphs.apply(net, f"widen(node=cells, to=6, how={how})")
        assert max(child.drift.eval, child.drift.train) <= 1e-12
    narrow = morphs.apply(net, "narrow(node=cells, to=3)").network
    assert narrow.graph.shape("cells") == (6, 3)


def test_new_units_learn():
    net = copied(module(at_the_end, nn.LSTM(4, 5, batch_first=True)), normal(3, 6, 3))
    made = morphs.apply(net, "widen(node=cells, to=7, how=zero)").network.to_torch()
    made(normal(3, 6, 3)).square().sum().backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in made.parameters())
    with pytest.raises(IllegalMove, match="cells"):
        morphs.apply(net, "widen(node=cells, to=7, how=gradient)")


@pytest.mark.parametrize(
    "cells", [nn.LSTM(4, 5, batch_first=True, bidirectional=True), nn.LSTM(4, 5, proj_size=3)]
)
def test_other_kinds_stay_operators(cells):
    layers = {"first": nn.Linear(3, 4), "cells": cells, "out": nn.Linear(10 if cells.bidirectional else 3, 2)}
    net = copied(Calls(everywhere, **layers), normal(3, 6, 3)) if cells.batch_first else None
    assert net is None or "recurrent" not in {node.op.kind for node in net.graph}


def test_a_state_that_is_given_stays():
    def forward(m, x):
        y = m.first(x)
        return m.out(m.cells(y, y[:, :1].transpose(0, 1).contiguous())[0])

    net = copied(module(forward, nn.GRU(4, 4, batch_first=True)), normal(3, 6, 3))
    assert "recurrent" not in {node.op.kind for node in net.graph}


def test_dropout_needs_several_layers():
    with pytest.raises(morphs.errors.ShapeError, match="recurrent"):
        morphs.parse_graph(
            "x = input(size=[4, 3]); r = recurrent(x, features=5, dropout=0.2); out = output(r)"
        )
