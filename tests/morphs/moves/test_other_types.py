"""Moves beside tensors that are not in the floating type of the network's weights."""

import pytest
import torch
from copied_modules import Calls
from torch import nn

import morphs
from morphs.errors import IllegalMove, NeedsData, WeightsError
from morphs.graph.dtypes import foreign

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def positions(m, x):
    """A map of positions in single precision, put to the features in their type."""
    ones = torch.ones(x.shape[0], 6, 6, dtype=torch.bool)
    rows, columns = ones.cumsum(1, dtype=torch.float32), ones.cumsum(2, dtype=torch.float32)
    place = torch.stack([rows, columns, rows * columns, rows.sin()], 1)
    place = torch.cat([place[:, :2].relu(), place[:, 2:].relu()], 1)
    return m.out(m.first(x).relu() + place.to(x.dtype))


def unconverted(m, x):
    """Single precision mixed with the network's type."""
    place = torch.linspace(0, 1, 6).expand(x.shape[0], 4, 6, 6)
    return m.out((m.first(x) + place).relu().to(x.dtype))


def whole(m, x):
    """Truth values and whole numbers as maps."""
    y = m.first(x)
    above, best = torch.cat([y[:, :2] > 0, y[:, 2:] > 1], 1), y.argmax(1, keepdim=True)
    return m.out((y * above).relu() + torch.cat([best, best, best, best], 1) * y.sigmoid())


def spectrum(m, x):
    """Complex numbers between."""
    y = torch.fft.fft2(m.first(x).float())
    y = torch.cat([y[:, :2], y[:, 2:]], 1)
    return m.out((torch.fft.ifft2(y).real.relu() + y.abs()).to(x.dtype))


def convolutions(forward) -> nn.Module:
    torch.manual_seed(0)
    return Calls(forward, first=nn.Conv2d(3, 4, 3, padding=1), out=nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("forward", [positions, unconverted, whole, spectrum])
def test_whatever_is_listed_beside_numbers_of_another_type_works(forward, dtype):
    net = morphs.from_torch(convolutions(forward).to(dtype), X.to(dtype))
    others = foreign(net.graph)
    assert others
    assert not others & {"first", "out"}
    tried = 0
    for move in morphs.MOVES:
        for site in move.sites(net):
            try:
                child = morphs.apply(net, site).network
            except NeedsData:
                continue
            assert child.to_torch()(X.to(dtype)).dtype == dtype, site  # in the network's own type
            assert foreign(child.graph) <= others, site
            tried += 1
    assert tried > 10


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_an_insertion_beside_numbers_of_another_type_is_refused_by_name(dtype):
    net = morphs.from_torch(convolutions(positions).to(dtype), X.to(dtype))
    assert {site.node for site in morphs.SqueezeExcite.sites(net)} >= {"relu_3", "add"}
    if dtype is torch.float32:  # which those positions then follow
        assert foreign(net.graph) == {"ones"}
        return
    maps = [name for name in foreign(net.graph) if net.graph[name].op.kind in ("activation", "concat")]
    assert maps
    for name in maps:
        for move in (morphs.SqueezeExcite(name, 4), morphs.InsertBlock(name), morphs.InsertActivation(name)):
            assert move not in [*type(move).sites(net)]
            with pytest.raises(IllegalMove, match=f'{move.name}: node "{name}"'):
                morphs.apply(net, move)
    assert {refusal.move.node for refusal in morphs.SqueezeExcite.refused(net)} >= {*maps}


def test_what_a_network_is_converted_from_does_not_matter():
    net = morphs.from_torch(convolutions(positions), X).to(torch.bfloat16)
    for site in morphs.SqueezeExcite.sites(net):
        assert morphs.apply(net, site).network.to_torch()(X.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_constant_in_single_precision_is_not_what_the_network_computes_in(dtype):
    table = torch.rand(4, 1, 1)
    module = convolutions(lambda m, x: m.out((m.first(x) * table.to(x.dtype)).relu())).to(dtype)
    net = morphs.from_torch(module, X.to(dtype))
    assert net.dtype == dtype
    assert torch.equal(net.to_torch().eval()(X.to(dtype)), module.eval()(X.to(dtype)))
    for site in morphs.InsertBlock.sites(net):
        assert morphs.apply(net, site).network.to_torch()(X.to(dtype)).dtype == dtype


def test_drift_of_a_network_that_cannot_be_computed_in_float64_is_refused_by_name():
    def forward(m, x):
        place = (torch.arange(6) / 6).expand(x.shape[0], 6)  # in torch's default type, whatever the network's
        return m.out((m.first(x) + m.first(place)).relu())

    module = Calls(forward, first=nn.Linear(6, 6), out=nn.Linear(6, 2))
    net = morphs.from_torch(module, torch.randn(2, 6))
    with pytest.raises(WeightsError, match="float64"):
        morphs.apply(net, "widen(node=first, to=9, how=zero)")
    assert morphs.apply(net, "widen(node=first, to=9, how=zero)", measure=False).drift is None
