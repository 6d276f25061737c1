"""Modules as networks: torchvision's families, and every layer and call form.

Names, sharing and the round trip are in test_from_torch_structure.py, what is refused in test_from_torch_refusals.py.
"""

import operator

import pytest
import torch
import torch.nn.functional as F
from copied_modules import Calls, copied, difference, normal, shaken, torch64
from strategies import lively
from token_support import NETWORKS
from torch import nn
from torchvision import models

import morphs
from morphs.errors import TrainingOutputs
from morphs.examples import random_inputs
from morphs.torch_io.layers import PActivation, Scale


def vgg(build) -> nn.Module:
    """VGG-11 with a narrow classifier, which is nine tenths of its memory otherwise."""
    module = build(weights=None, num_classes=10)
    module.classifier[0], module.classifier[3], module.classifier[6] = (
        nn.Linear(25088, 32), nn.Linear(32, 32), nn.Linear(32, 10),
    )  # fmt: skip
    return module


FAMILIES = {
    "vgg11": (lambda: vgg(models.vgg11), 32, "features.18"),
    "vgg11_bn": (lambda: vgg(models.vgg11_bn), 32, "features.26"),
    "resnet18": (lambda: models.resnet18(weights=None), 64, "layer3.0.downsample.1"),
    "resnet50": (lambda: models.resnet50(weights=None), 32, "layer4.2.conv3"),
    "densenet121": (lambda: models.densenet121(weights=None), 32, "features.denseblock4.denselayer16.norm2"),
    "mobilenet_v2": (lambda: models.mobilenet_v2(weights=None), 64, "features.17.conv.1.0"),
    "googlenet": (
        lambda: models.googlenet(weights=None, init_weights=False, aux_logits=False), 64, "inception4e.branch3.1.bn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_torchvision_families_come_out_as_they_are(family):
    build, size, path = FAMILIES[family]
    torch.manual_seed(0)
    module = build()
    net = copied(module, normal(2, 3, size, size))
    assert path in net.graph
    owners = {owner for owner, _ in net.graph.params}
    held = {key.rpartition(".")[0] for key in module.state_dict()}
    assert owners == held, "nodes with parameters are named after the modules' paths"
    assert morphs.cost(net.graph).params == sum(p.numel() for p in module.parameters())


def test_auxiliary_classifiers_are_for_training_alone():
    module = shaken(models.googlenet(weights=None, init_weights=False, aux_logits=True))
    x = normal(2, 3, 64, 64)
    with pytest.warns(TrainingOutputs, match="1 tensors"):
        net = morphs.from_torch(module.train(), x)
    assert not any(node.name.startswith("aux") for node in net.graph)
    assert difference(module, net.to_torch(), x) <= 1e-12


def test_a_resnet_block_is_named_after_its_module():
    net = morphs.from_torch(models.resnet18(weights=None, num_classes=5), torch.zeros(1, 3, 32, 32))
    names = [node.name for node in net.graph]
    assert names[:7] == ["x", "conv1", "bn1", "relu", "maxpool", "layer1.0.conv1", "layer1.0.bn1"]
    assert {"layer1.0.add", "layer1.0.relu", "layer1.0.relu_2", "avgpool", "flatten", "fc", "output"} <= {
        *names
    }
    assert net.graph["layer1.0.add"].inputs == ("layer1.0.bn2", "maxpool")
    assert net.dtype == torch.float32


ELEMENTWISE = {
    "relu": [F.relu, torch.relu, lambda x: x.relu(), lambda x: F.relu(x, inplace=True), nn.ReLU(), nn.ReLU(True)],
    "relu6": [F.relu6, nn.ReLU6(), nn.Hardtanh(0, 6), lambda x: F.hardtanh(x, 0.0, 6.0)],
    "leaky_relu": [F.leaky_relu, lambda x: F.leaky_relu(x, 0.2), nn.LeakyReLU(0.3, inplace=True)],
    "elu": [F.elu, lambda x: F.elu(x, alpha=0.5), nn.ELU(2.0)],
    "gelu": [F.gelu, nn.GELU()],
    "silu": [F.silu, nn.SiLU(inplace=True)],
    "hardswish": [F.hardswish, nn.Hardswish()],
    "mish": [F.mish, nn.Mish()],
    "tanh": [F.tanh, torch.tanh, lambda x: x.tanh(), lambda x: x.tanh_(), nn.Tanh()],
    "sigmoid": [F.sigmoid, torch.sigmoid, lambda x: x.sigmoid(), torch.sigmoid_, nn.Sigmoid()],
    "softplus": [F.softplus, nn.Softplus()],
}  # fmt: skip


@pytest.mark.parametrize("fn", ELEMENTWISE)
def test_activations_as_modules_functions_and_methods(fn):
    x = 4 * normal(2, 3, 4, 4)
    for phi in ELEMENTWISE[fn]:
        module = nn.Sequential(phi) if isinstance(phi, nn.Module) else Calls(lambda _, x, phi=phi: phi(x + x))
        net = copied(module, x)
        (act,) = [node.op for node in net.graph if node.op.kind == "activation"]
        assert act.fn == fn


SHAPING = {
    "max_pool2d": [
        nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.MaxPool2d((3, 2), dilation=(1, 2)),
        lambda x: F.max_pool2d(x, 2), lambda x: F.max_pool2d(x, (3, 3), 2, padding=1),
        lambda x: torch.max_pool2d(x, 2, 1),
    ],
    "avg_pool2d": [
        nn.AvgPool2d(2), nn.AvgPool2d(3, (2, 1), 1, ceil_mode=True, count_include_pad=False),
        lambda x: F.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, kernel_size=x.shape[2:]),
        lambda x: F.avg_pool2d(x, x.size(2)),
    ],
    "adaptive_avg_pool2d": [
        nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((None, 2)), lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: F.adaptive_avg_pool2d(x, (3, 2)), lambda x: x.mean((2, 3)), lambda x: x.mean([-1, -2], keepdim=True),
        lambda x: torch.mean(x, dim=(2, 3)),
    ],
    "adaptive_max_pool2d": [
        nn.AdaptiveMaxPool2d((2, 3)), lambda x: F.adaptive_max_pool2d(x, 1),
        lambda x: F.adaptive_max_pool2d(x, (None, 1)),
    ],
    "flatten": [
        nn.Flatten(), lambda x: x.flatten(1), lambda x: torch.flatten(x, 1), lambda x: torch.flatten(x, start_dim=-3),
        lambda x: x.view(x.size(0), -1), lambda x: x.view(x.shape[0], -1), lambda x: x.reshape(x.size()[0], -1),
        lambda x: x.view(-1, x.size(1) * x.size(2) * x.size(3)), lambda x: torch.reshape(x, (x.size(0), -1)),
        lambda x: x.contiguous().view(x.size(0), 3 * 6 * 6), lambda x: x.view(-1, 108),
        lambda x: x.view((len_of(x), -1)),
    ],
    "add": [
        lambda x: x + x, lambda x: torch.add(x, x), lambda x: x.add(x), lambda x: operator.iadd(x, x),
        lambda x: x.add_(x.clone()), lambda x: sum([x, x, x]), lambda x: x + x + x,
    ],
    "multiply": [
        lambda x: x * x, lambda x: torch.mul(x, x), lambda x: x.mul(x), lambda x: x * x.mean((2, 3), True),
        lambda x: operator.imul(x, x),
    ],
    "concat": [
        lambda x: torch.cat([x, x], 1), lambda x: torch.cat((x, x, x), dim=-3), lambda x: torch.concat([x], dim=1),
        lambda x: torch.cat([x.flatten(1), x.flatten(1)], -1),
    ],
    "dropout": [nn.Dropout(0.4), nn.Dropout(inplace=True)],
}  # fmt: skip


def len_of(x):
    """The batch size by way of unpacking, as squeeze-and-excitation modules write it."""
    b, _, _, _ = x.size()
    return b


@pytest.mark.parametrize("kind", SHAPING)
def test_pools_shapes_sums_and_joins_in_every_form(kind):
    x = normal(2, 3, 6, 6)
    for form in SHAPING[kind]:
        module = (
            nn.Sequential(form)
            if isinstance(form, nn.Module)
            else Calls(lambda _, x, form=form: form(x.relu()))
        )
        net = copied(module, x)
        assert kind in {node.op.kind for node in net.graph}


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4, momentum=None), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, eps=1e-3, momentum=0.3),
        nn.BatchNorm2d(4, track_running_stats=False),
    ],
    ids=str,
)  # fmt: skip
def test_batch_norms_keep_their_settings(norm):
    net = copied(nn.Sequential(nn.Conv2d(3, 4, 1), norm), normal(4, 3, 3, 3))
    op = net.graph["layer1"].op
    assert (op.eps, op.momentum, op.affine, op.track_running_stats) == (
        norm.eps, norm.momentum, norm.affine, norm.track_running_stats,
    )  # fmt: skip


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(
            4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2, padding_mode="reflect"
        ),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 4, (5, 3), padding="same", padding_mode="circular"),
        nn.Conv2d(4, 4, 2, padding="valid", padding_mode="replicate"),
    ],
    ids=str,
)
def test_convolutions_keep_their_settings(conv):
    net = copied(nn.Sequential(conv), normal(2, 4, 7, 8))
    op = net.graph["layer0"].op
    assert (op.kernel, op.groups, op.padding_mode) == (conv.kernel_size, conv.groups, conv.padding_mode)
    if conv.padding == "same":
        assert op.padding == tuple(d * (k // 2) for k, d in zip(op.kernel, op.dilation, strict=True))


def test_vectors_with_norm_and_dropout():
    mlp = nn.Sequential(
        nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(0.1), nn.Linear(7, 2)
    )
    net = copied(mlp, normal(4, 5))
    assert [node.op.kind for node in net.graph] == [
        "input", "linear", "batch_norm", "activation", "dropout", "linear", "output",
    ]  # fmt: skip


def test_learned_activations_and_factors():
    p, s = PActivation(nn.ELU(0.5), channels=3), Scale(3)
    with torch.no_grad():
        p.a.copy_(torch.tensor([0.1, 0.5, 0.9]))
        s.weight.copy_(torch.tensor([2.0, -1.0, 0.5]))
    module = nn.Sequential(nn.PReLU(), nn.PReLU(3, init=0.75), p, PActivation(nn.Tanh()), s, Scale())
    net = copied(module, normal(2, 3, 4, 4))
    assert net.graph["layer0"].op == morphs.graph.ops.PActivation("relu")
    assert net.graph["layer1"].op == morphs.graph.ops.PActivation("relu", per_channel=True)
    assert net.graph["layer2"].op == morphs.graph.ops.PActivation("elu", (0.5,), per_channel=True)
    assert net.weights["layer0", "a"].shape == ()
    assert torch.equal(net.weights["layer1", "a"], torch.full((3,), 0.75, dtype=torch64))


def test_a_single_layer_and_a_subclass_that_computes_the_same():
    class Same(nn.Conv2d):
        def __init__(self, channels: int) -> None:
            super().__init__(channels, channels, 3, padding=1)

    assert copied(nn.Linear(3, 2), normal(2, 3)).graph["layer0"].op.kind == "linear"
    assert copied(nn.Sequential(Same(3), nn.Identity()), normal(2, 3, 4, 4)).graph["layer0"].op.kernel == (
        3,
        3,
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_of_networks_on_tokens_signals_and_volumes_compute_the_same(name):
    net = lively(morphs.parse_graph(NETWORKS[name]))
    module = net.to_torch().eval()
    inputs = random_inputs(net.graph, 3, torch.Generator().manual_seed(0), torch.float64)
    with torch.no_grad():
        assert torch.equal(morphs.from_torch(module, inputs).to_torch().eval()(*inputs), module(*inputs))


def test_the_axes_of_our_own_layers_come_back():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[4, 6]); s = scale(x, per_channel=true, axis=-1); t = lerp(x, s, per_channel=true, axis=1)
        p = p_activation(t, fn=silu, per_channel=true, axis=-1); c = concat(p, s, axis=-1); out = output(c)""")
    )
    module = net.to_torch()
    assert morphs.from_torch(module, torch.randn(2, 4, 6, dtype=torch.float64)).graph == net.graph
