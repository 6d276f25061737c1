"""A module of a user's: a move, a space, a policy, an objective and a data set, written outside this package."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OUTSIDE = '''
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from morphs import Move, Widen, parse_graph
from morphs.graph.arch import Node
from morphs.graph.ops import Activation
from nas.base.seeds import derive
from nas.ledger.view import rank
from nas.policies.policy import Proposal
from search_spaces import Space


@dataclass(frozen=True)
class Twice(Move):
    """Another ReLU after a ReLU, which changes nothing."""

    name: ClassVar[str] = "twice"
    summary: ClassVar[str] = "a ReLU once more"

    node: str

    @classmethod
    def candidates(cls, graph, options):
        return (cls(node.name) for node in graph if node.op == Activation("relu"))

    def reshape(self, graph):
        more = Node(graph.fresh("relu"), graph[self.node].op, (self.node,))
        return graph.update(*graph.rewired(self.node, more.name), more)

    def fill(self, parent, graph, context):
        return {}


def space(input_shape, classes):
    """A perceptron whose activations can be doubled."""
    seed = parse_graph(
        f"x = input(size={list(input_shape)}); f = flatten(x); a = linear(f, features=4); r = relu(a); "
        f"b = linear(r, features={classes}); o = output(b)"
    )
    return Space(seed, ((Twice, {}), (Widen, {"factor": (2,)})))


@dataclass(frozen=True)
class Patient:
    """A child of the best network by one move, one after the other."""

    config: object
    sampler: object
    generational: ClassVar[bool] = False

    def incumbent(self, view):
        return max((trial for trial in view.complete if trial.job.kind != "final"), key=rank)

    def propose(self, view, seed):
        born = sum(trial.job.kind == "child" for trial in view.trials)
        best = self.incumbent(view)
        child = self.sampler.draw(view, best, 1, derive(seed, born))
        return [Proposal(1 + born // 3, born % 3, best.key, child.moves, child.graph)] if child else []


def nodes(graph):
    """What a network costs."""
    return len(list(graph))


def data():
    draw = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (draw.integers(0, 100, (60, 8, 8)) + 100 * labels[:, None, None]).astype(np.uint8)
    return (images, labels), (images[:20], labels[:20])
'''


@contextmanager
def outside(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "outside") -> Iterator[Path]:
    """The module in `folder`, importable as `name`; forgotten at the end."""
    path = folder / f"{name}.py"
    path.write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(folder))
    try:
        yield path
    finally:
        sys.modules.pop(name, None)
