"""A child is a value that can be stored and copied."""

import copy
import pickle

import pytest
import torch
from strategies import lively, some_batches

import morphs

NET = lively(
    morphs.parse_graph("""
    x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3, padding=1); r = relu(c)
    g = adaptive_avg_pool2d(r); f = flatten(g); l = linear(f, features=3); out = output(l)
    """)
)


@pytest.mark.parametrize("again", [lambda child: pickle.loads(pickle.dumps(child)), copy.deepcopy, copy.copy])
@pytest.mark.parametrize("move", ["widen(node=c, to=7)", "compact(node=l, channels=6, keep=0.5, rows=8)"])
def test_a_child_comes_back_whole(move, again):
    child = morphs.apply(NET, move, batches=some_batches(NET))
    back = again(child)
    assert back.network.digest == child.network.digest
    assert (back.move, back.drift, back.notes) == (child.move, child.drift, child.notes)
    assert type(back.notes) is type(child.notes)
    assert list(back.origin) == list(child.origin)
    for key, origin in child.origin.items():
        assert back.origin[key].source == origin.source
        if origin.source is not None:
            old = NET.weights[origin.source]
            assert torch.equal(back.origin[key].gather(old), origin.gather(old))
    parent = NET.to_torch()
    optimizer = torch.optim.SGD(parent.parameters(), lr=0.1)
    assert morphs.carry(optimizer, parent, back.network.to_torch(), back).param_groups
