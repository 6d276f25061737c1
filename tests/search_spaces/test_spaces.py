"""Every space: its seed network, its moves, its description."""

from random import Random
from typing import Any

import pytest
import torch
from copied_modules import along

import morphs
from morphs.errors import ShapeError
from search_spaces import SPACES, Shape, from_model
from search_spaces.stages import RECEPTIVE_FIELD, three_stages

SHAPES: dict[str, list[Shape]] = {
    "digits": [(1, 8, 8), (1, 28, 28), (3, 32, 32)],
    "mlp": [(1, 8, 8), (1, 28, 28), (3, 20, 48), (13,), (200,)],
    "cifar_quick": [(1, 28, 28), (3, 32, 32), (3, 64, 64)],
    "nash": [(1, 8, 8), (1, 28, 28), (3, 20, 48), (3, 32, 32)],
    "lenet": [(1, 8, 8), (1, 28, 28), (3, 32, 32)],
    "residual": [(1, 8, 8), (1, 28, 28), (3, 48, 20), (3, 32, 32)],
    "conv1d": [(1, 5), (6, 30), (2, 128)],
    "transformer": [(1,), (7,), (64,)],
    "auto": [(1, 3, 9), (13,), (6, 30), (3, 48, 20)],
}
TOKENS: dict[str, dict[str, int]] = {"transformer": {"tokens": 50}}
BUILT = [(name, shape) for name, shapes in SHAPES.items() for shape in shapes]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_space_of_a_model_grows_kernels_and_depth_of_signals_maps_and_volumes(rank: int) -> None:
    space = from_model(morphs.from_torch(*along(rank)).graph)
    kernels = {"grow_kernel": "to", "deepen": "kernel"}
    found = {
        move.name: {getattr(site, kernels[move.name]) for site in move.sites(space.seed, None, menu)}
        for move, menu in space.moves
        if move.name in kernels
    }
    assert found == {"grow_kernel": {(5,) * rank}, "deepen": {(3,) * rank}}


def test_every_space_is_tested() -> None:
    assert SHAPES.keys() == SPACES.keys()


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_described_in_its_first_line(name: str) -> None:
    first = (SPACES[name].__doc__ or "").splitlines()[0]
    assert first.endswith(".")
    assert 20 <= len(first) <= 120


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize(("name", "shape"), BUILT)
def test_a_space_fits_its_data(name: str, shape: Shape, classes: int) -> None:
    space = SPACES[name](shape, classes, **TOKENS.get(name, {}))
    graph = space.seed
    (entry,) = [node.name for node in graph if node.op.kind == "input"]
    (out,) = [node.name for node in graph if node.op.kind == "output"]
    assert tuple(graph.shape(entry)) == shape
    assert tuple(graph.shape(out)) == (classes,)
    assert space.limits.violation(graph) is None
    assert SPACES[name](shape, classes, **TOKENS.get(name, {})) == space
    assert all(move in morphs.MOVES for move, _ in space.moves)


def reachable(name: str, shape: Shape, steps: int) -> set[int]:
    """The moves of a space, by their index, that have a legal site within `steps` random moves of the seed."""
    space = SPACES[name](shape, 10, **TOKENS.get(name, {}))
    found: set[int] = set()
    for attempt in range(8):
        draw = Random(attempt)
        graph = space.seed
        for _ in range(steps + 1):
            sites: list[Any] = []
            for index, (kind, options) in enumerate(space.moves):
                here = list(kind.sites(graph, None, options))
                if here:
                    found.add(index)
                    sites.append(here)
            if len(found) == len(space.moves) or not sites:
                return found
            graph = draw.choice(draw.choice(sites)).reshape(graph)
    return found


@pytest.mark.parametrize("name", SPACES)
def test_every_move_of_a_space_is_legal_somewhere_near(name: str) -> None:
    space = SPACES[name](SHAPES[name][-1], 10, **TOKENS.get(name, {}))
    found = reachable(name, SHAPES[name][-1], 3)
    assert [str(space.moves[i]) for i in range(len(space.moves)) if i not in found] == []


@pytest.mark.parametrize("name", SPACES)
def test_the_menu_of_a_move_is_one_it_knows(name: str) -> None:
    """Every site obeys the menu: a choice that a move does not read would be found here only if it raised."""
    space = SPACES[name](SHAPES[name][-1], 10, **TOKENS.get(name, {}))
    for kind, options in space.moves:
        for move in kind.sites(space.seed, None, options):
            if "how" in options:
                assert move.how in options["how"]  # type: ignore[attr-defined]


def test_the_receptive_field_of_the_three_stages() -> None:
    """By the gradient of one output in the middle of the last stage."""
    net = morphs.init(three_stages((1, 64, 64), 3, 8), seed=0).to_torch().eval()
    stage: dict[str, torch.Tensor] = {}
    net.get_submodule("r3").register_forward_hook(lambda *call: stage.update(last=call[2]))
    x = torch.rand(1, 1, 64, 64, requires_grad=True)
    net(x)
    stage["last"][0, :, 8, 8].sum().backward()
    assert x.grad is not None
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == RECEPTIVE_FIELD


def test_residual_blocks_are_for_images_beyond_the_receptive_field() -> None:
    small, large = (SPACES["residual"]((3, n, n), 10).moves for n in (RECEPTIVE_FIELD, 2 * RECEPTIVE_FIELD))
    assert [move.name for move, _ in small] == ["widen_all"]
    assert {move.name for move, _ in large} == {"widen_all", "insert_block"}


def test_tokens_get_a_transformer() -> None:
    assert SPACES["auto"]((16,), 3, tokens=20) == SPACES["transformer"]((16,), 3, tokens=20)
    for shape, tokens in (((16,), None), ((2, 16), 20)):
        with pytest.raises(ShapeError, match="tokens"):
            SPACES["transformer"](shape, 3, tokens=tokens)
    space = SPACES["transformer"]((16,), 3, tokens=20)
    network = morphs.init(space.seed, seed=0)
    for kind, options in space.moves:
        for move in kind.sites(space.seed, None, options):
            drift = morphs.apply(network, move, seed=0).drift
            assert drift is not None
            assert drift.eval < 1e-6
