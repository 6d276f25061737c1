"""What from_torch refuses: by name, in one line, with a remedy, and without touching the module."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import morphs
from morphs.errors import UnsupportedModule, WeightsError
from morphs.torch_io.layers import PActivation

X = torch.ones(2, 3, 6, 6)


class Calls(nn.Module):
    """A module around a function of (self, x), with a convolution `conv` that keeps the shape."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.factor = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x):
        return self.function(self, x)


class Inside(nn.Module):
    """A module `block` around another."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x)


def refusal(module, inputs=X) -> str:
    """The message, which is one line with a fact and a remedy; flags and attributes stay as they were."""
    flags = (
        [(part.training, set(vars(part))) for part in module.modules()]
        if isinstance(module, nn.Module)
        else None
    )
    with pytest.raises(UnsupportedModule) as caught:
        morphs.from_torch(module, inputs)
    message = str(caught.value)
    assert message.startswith("from_torch: ")
    assert "\n" not in message
    assert "; " in message
    assert len(message) < 400
    if flags is not None:
        assert [(part.training, set(vars(part))) for part in module.modules()] == flags
    return message


LAYERS = {
    "GroupNorm": nn.GroupNorm(1, 3), "Softmax": nn.Softmax(1), "Dropout2d": nn.Dropout2d(),
    "ConvTranspose2d": nn.ConvTranspose2d(3, 3, 2), "LogSigmoid": nn.LogSigmoid(),
    "Upsample": nn.Upsample(scale_factor=2),
    "GELU": nn.GELU(approximate="tanh"), "Softplus": nn.Softplus(beta=2), "Hardtanh": nn.Hardtanh(),
    "AvgPool2d": nn.AvgPool2d(2, divisor_override=3), "MaxPool2d": nn.MaxPool2d(2, return_indices=True),
    "Conv2d": nn.Conv2d(3, 3, 2, padding="same"), "Flatten": nn.Flatten(2),
    "LazyConv2d": nn.LazyConv2d(3, 3), "SyncBatchNorm": nn.SyncBatchNorm(3), "BatchNorm2d": nn.BatchNorm2d(4),
    "PActivation": PActivation(nn.Softmax(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_outside_of_the_vocabulary_is_named_with_its_path(name):
    assert f'module "block" ({name})' in refusal(Inside(LAYERS[name]))


CALLS = {
    "softmax": lambda m, x: torch.softmax(m.conv(x), 1),
    "interpolate": lambda m, x: F.interpolate(x, scale_factor=2),
    "conv2d": lambda m, x: F.conv2d(x, m.conv.weight),
    "pow": lambda m, x: x**2,
    "truediv": lambda m, x: x / 2,
    "mul": lambda m, x: x * 0.5,
    "add": lambda m, x: x + 1,
    "sub": lambda m, x: x - m.conv(x),
    "mean": lambda m, x: x.mean(1),
    "view": lambda m, x: x.view(2, -1),
    "reshape": lambda m, x: x.flatten(1).reshape(x.size(0), 3, 6, 6),
    "flatten": lambda m, x: torch.flatten(x),
    "cat": lambda m, x: torch.cat([x, x], 2),
    "squeeze": lambda m, x: x.mean((2, 3), True).squeeze(),
    "dropout": lambda m, x: F.dropout(x),
    "max_pool2d_with_indices": lambda m, x: F.max_pool2d(x, 2, return_indices=True)[0],
    "leaky_relu": lambda m, x: F.leaky_relu(x, m.factor),
    "getattr": lambda m, x: x * x.device,
    "size": lambda m, x: x.view(x.size(7), -1),
    "floordiv": lambda m, x: x.view(x.size(0) // 2, -1),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_outside_of_the_vocabulary_is_named_with_its_module(name):
    message = refusal(Inside(Calls(CALLS[name])))
    assert any(f'{kind} {name} in module "block"' in message for kind in ("function", "method")) or (
        'parameter or buffer "block.' in message
    )


def test_parameters_outside_of_layers_are_named():
    assert 'parameter or buffer "factor"' in refusal(Calls(lambda m, x: m.conv(x) * m.factor))
    assert '"_tensor_constant0"' in refusal(Calls(lambda m, x: x + torch.rand(3, 6, 6)))


def test_control_flow_that_depends_on_the_data():
    def by_value(m, x):
        return x if x.sum() > 0 else m.conv(x)

    def by_rank(m, x):
        return m.conv(x) if x.dim() == 4 else x

    for function in (by_value, by_rank, lambda m, x: next(m.conv(row) for row in x)):
        assert 'module "block"' in refusal(Inside(Calls(function)))
    assert "(boom)" in refusal(Calls(lambda m, x: {}["x"] if x is None else boom()))


def boom():
    raise RuntimeError("boom")


def test_hooks_parametrisations_and_changed_forwards_are_not_silently_lost():
    hooked = Inside(nn.Conv2d(3, 3, 1))
    handle = hooked.block.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert all(name in refusal(hooked) for name in ('module "block" (Conv2d)', "hook"))
    handle.remove()
    assert len(morphs.from_torch(hooked, X).graph) == 3
    hooked.register_forward_pre_hook(lambda module, inputs: None)
    assert "hook" in refusal(hooked)
    normed = Inside(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)))
    assert "remove_parametrizations" in refusal(normed)

    class Standardised(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight - self.weight.mean(), self.bias)

    assert '"block.weight"' in refusal(Inside(Standardised(3, 3, 1)))
    patched = Inside(nn.Conv2d(3, 3, 1))
    patched.block.forward = lambda x: 2 * x
    assert 'module "block" (Conv2d)' in refusal(patched)


def test_what_the_trace_does_not_show_is_found_by_running_both():
    class Counting(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x + x if self.calls > 1 else x

    with pytest.raises(UnsupportedModule) as caught:
        morphs.from_torch(Counting(), X)
    assert "trace" in str(caught.value)


def test_examples_that_are_none():
    with pytest.raises(UnsupportedModule, match=r"example_inputs.*NoneType"):
        morphs.from_torch(nn.Conv2d(3, 3, 1), None)


def test_tied_weights_are_refused_since_a_copy_would_tear_them_apart():
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    module[1].weight = module[0].weight
    assert all(name in refusal(module) for name in ('module "1"', "weight", 'module "0"'))


def test_a_batch_norm_whose_statistics_were_switched_off_later():
    norm = nn.BatchNorm2d(3)
    norm.track_running_stats = False
    assert "track_running_stats" in refusal(Inside(norm))


def test_views_of_what_is_written_in_place_later():
    def stale(m, x):
        y = m.conv(x)
        flat = y.flatten(1)
        F.relu_(y)
        return flat

    def stale_read(m, x):
        y = m.conv(x)
        kept = F.dropout(y, training=m.training)
        y += x
        return kept + y

    assert "inplace=True" in refusal(Calls(stale))
    assert "inplace=True" in refusal(Calls(stale_read))
    assert "function add" in refusal(Calls(lambda m, x: (torch.add(x, x, out=x), m.conv(x))[1]))
    unknown = refusal(Calls(lambda m, x: (x.clamp_(0), m.conv(x))[1]))
    assert "method clamp_" in unknown, "an unread result may still have changed what is read"


def test_sums_of_different_shapes_and_unknown_outputs():
    assert "function add" in refusal(Calls(lambda m, x: x + x.mean((2, 3), True)))
    assert "function mul" in refusal(Calls(lambda m, x: x * x.mean((2, 3))))
    assert "tuple" in refusal(Calls(lambda m, x: (x, m.conv(x))))
    assert "dict" in refusal(Calls(lambda m, x: {"y": m.conv(x)}))
    assert "NoneType" in refusal(Calls(lambda m, x: None))
    assert " 3;" in refusal(Calls(lambda m, x: x.size(1)))


def test_inputs():
    conv = nn.Sequential(nn.Conv2d(3, 2, 1))
    assert "(3, 6, 6)" in refusal(conv, X[0])
    assert "(0, 3, 6, 6)" in refusal(conv, X[:0])
    assert "str" in refusal(conv, ("x",))
    assert "(input) and 2" in refusal(conv, (X, X))
    assert " 0 " in refusal(conv, ())
    assert "(2, 4, 1, 1)" in refusal(conv, torch.ones(2, 4, 6, 6))
    assert " type " in refusal(nn.Conv2d)

    class Two(nn.Module):
        def forward(self, x, y):
            return x + x

    assert 'input "y"' in refusal(Two(), (X, X))


def test_weights_that_are_not_there():
    with torch.device("meta"):
        empty = nn.Sequential(nn.Conv2d(3, 2, 1))
    assert "weight" in refusal(empty)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    nn.init.constant_(module[1].running_mean, value)
    with pytest.raises(WeightsError, match=r'running_mean.*"layer1"'):
        morphs.from_torch(module, torch.zeros(2, 3))
