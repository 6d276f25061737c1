"""A user's model that trains on a GPU is grown: networks are kept on the CPU, modules and data may be on the GPU."""

from typing import Any

import pytest
import torch
from strategies import ripe
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import morphs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def step(module: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> Tensor:
    """One step in place; the loss."""
    loss = cross_entropy(module(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@pytest.fixture(scope="module")
def trained() -> Any:
    """A user's model on the GPU as a network, its module and optimizer, and the batch that they have seen."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).cuda()  # fmt: skip
    images, labels = torch.randn(64, 3, 8, 8, device="cuda"), torch.randint(10, (64,), device="cuda")
    net = morphs.from_torch(model.eval(), images[:2])
    module = net.to_torch().cuda()
    assert torch.equal(module.eval()(images), model(images))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    for _ in range(3):
        step(module.train(), optimizer, images, labels)
    return net.with_weights_from(module), module, optimizer, images, labels


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
def test_a_model_on_the_gpu_grows_and_trains_on(move: type[morphs.Move], trained: Any) -> None:
    net, parent, optimizer, images, labels = trained
    copied = move.check_weights is morphs.Move.check_weights
    net = net if copied else ripe(net)
    site = next(iter(move.sites(net)), None)
    if site is None:
        pytest.skip(f"{move.name} has no site in this model")
    child = morphs.apply(net, site, batches=[(images, labels)], loss=cross_entropy)
    module = child.network.to_torch().cuda()
    if site.preserves is not morphs.Preserves.APPROXIMATE:
        expected = net.to_torch().cuda().eval()(images)
        assert torch.allclose(module.eval()(images), expected, rtol=1e-2, atol=1e-2)  # TF32
    if copied:
        optimizer = morphs.carry(optimizer, parent, module, child)
        state = next(iter(optimizer.state.values()))
        assert state["exp_avg"].device.type == "cuda"
    else:
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    assert bool(step(module.train(), optimizer, images, labels).isfinite())
