"""What from_torch refuses: by name, in one line, with a remedy, and without touching the module."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import morphs
from morphs.errors import UnsupportedModule, WeightsError

X = torch.ones(2, 3, 6, 6)


class Calls(nn.Module):
    """A module around a function of (self, x), with a convolution `conv` that keeps the shape."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

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


CALLS = {
    "dropout": lambda m, x: F.dropout(x),
    "rand_like": lambda m, x: x + torch.rand_like(x),
    "add_": lambda m, x: (m.conv(x), m.steps.add_(1))[0],
    "clamp_": lambda m, x: _written(m.conv(x)),
    "__ior__": lambda m, x: _joined(m.conv(x)),
}  # fmt: skip


def _written(x):
    x.detach().clamp_(0, 0.1)
    return x


def _joined(x):
    mask = x > 0
    mask |= x < -1
    return x * mask


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_can_not_be_kept_is_named_with_its_module(name):
    module = Calls(CALLS[name])
    module.register_buffer("steps", torch.zeros(()))
    message = refusal(Inside(module))
    assert f'function {name} in module "block"' in message or '"block.steps"' in message


def test_a_batch_whose_size_the_forward_fixes():
    for forward in (lambda m, x: x.view(2, -1), lambda m, x: x.reshape(2, 3, -1)):
        assert "(2, 3, 6, 6)" in refusal(Calls(forward))


def test_control_flow_that_depends_on_the_data():
    def by_value(m, x):
        return x if x.sum() > 0 else m.conv(x)

    message = refusal(Inside(Calls(by_value)))
    assert "test_from_torch_refusals.py, line" in message
    assert "in by_value" in message
    assert "(boom)" in refusal(Calls(lambda m, x: {}["x"] if x is None else boom()))


def boom():
    raise RuntimeError("boom")


def test_what_torch_prints_of_a_failure_is_not_printed(capfd):
    refusal(Calls(lambda m, x: x if x.sum() > 0 else m.conv(x)))
    refusal(Calls(lambda m, x: m.conv(x) @ x[:, :, :5]))
    assert capfd.readouterr() == ("", "")


NUMBERS = {
    "item": lambda m, x: m.conv(x) * x.max().item(),
    "int": lambda m, x: m.conv(x).narrow(3, 0, 1).expand(-1, -1, -1, int(x.max())),
    "tolist": lambda m, x: m.conv(x) + x[0, 0, 0].tolist()[1],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_taken_out_of_a_tensor(name):
    message = refusal(Inside(Calls(NUMBERS[name])))
    assert any(fact in message for fact in ("keep it a tensor", "values of a tensor", "another size"))
    assert (
        len(morphs.from_torch(Calls(lambda m, x: (x.max().item(), m.conv(x))[1]), X).graph) == 3
    )  # nobody reads it


def test_batches_of_another_length_that_are_treated_otherwise():
    few = Calls(lambda m, x: m.conv(x) if x.shape[0] > 5 else x + x)
    assert "batches of 2 to 5 examples" in refusal(few)
    assert "batches of 6 examples and more" in refusal(few, torch.ones(7, 3, 6, 6))


REASONS = {
    "compute with torch alone": lambda m, x: m.conv(torch.from_numpy(x.detach().numpy() + 1)),
    "returns a object": lambda m, x: {"x": x, "y": object()},
    "autocast": lambda m, x: _cast(m, x),
}


def _cast(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return m.conv(x)


@pytest.mark.parametrize("fact", REASONS)
def test_what_export_refuses_or_a_copy_lacks_is_told_with_a_remedy(fact):
    assert fact in refusal(Calls(REASONS[fact]))


def test_hooks_parametrisations_and_changed_forwards_are_not_silently_lost():
    hooked = Inside(nn.Conv2d(3, 3, 1))
    handle = hooked.block.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert all(name in refusal(hooked) for name in ('module "block" (Conv2d)', "hook"))
    handle.remove()
    assert len(morphs.from_torch(hooked, X).graph) == 3
    hooked.register_forward_pre_hook(lambda module, inputs: None)
    assert "hook" in refusal(hooked)
    learned = Inside(nn.Conv2d(3, 3, 1))
    learned.block.weight.register_hook(lambda gradient: 2 * gradient)
    assert all(name in refusal(learned) for name in ('module "block" (Conv2d)', "weight", "hook"))


def test_autocast_in_a_forward_is_refused_by_name():
    def forward(m, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m.conv(x)

    assert "autocast" in refusal(Calls(forward))


def test_what_the_trace_does_not_show_is_found_by_running_both():
    class Counting(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x + x if self.calls % 2 else x

    with pytest.raises(UnsupportedModule) as caught:
        morphs.from_torch(Counting(), X)
    assert "trace" in str(caught.value)


def test_examples_that_are_none():
    with pytest.raises(UnsupportedModule, match=r"example_inputs.*NoneType"):
        morphs.from_torch(nn.Conv2d(3, 3, 1), None)


def test_a_batch_norm_whose_statistics_were_switched_off_later():
    norm = nn.BatchNorm2d(3)
    norm.track_running_stats = False
    assert "track_running_stats" in refusal(Inside(norm))


def test_outputs_that_are_no_tensors():
    assert "no tensor" in refusal(Calls(lambda m, x: None))
    assert "no tensor" in refusal(Calls(lambda m, x: x.size(1)))


def test_inputs():
    conv = nn.Sequential(nn.Conv2d(3, 2, 1))
    assert "(3, 6, 6)" in refusal(conv, X[0])
    assert "(0, 3, 6, 6)" in refusal(conv, X[:0])
    assert "str" in refusal(conv, ("x",))
    assert "(input) and 2" in refusal(conv, (X, X))
    assert " 0 " in refusal(conv, ())
    assert "4 channels" in refusal(conv, torch.ones(2, 4, 6, 6))
    assert "complex" in refusal(conv, X.to(torch.complex64))
    assert "Conv2d is a class" in refusal(nn.Conv2d)
    assert "sparse" in refusal(conv, X.to_sparse())
    assert "meta" in refusal(conv, X.to("meta"))


FAILING = {
    "[2, 3, 6, 6] of int64": (nn.Sequential(nn.Conv2d(3, 2, 1)), X.long()),
    "[2, 3, 6, 6] of uint8": (nn.Sequential(nn.Conv2d(3, 2, 1)), X.byte()),
    "[2, 4, 6, 6] of float32": (nn.Sequential(nn.Conv2d(3, 2, 1)), torch.ones(2, 4, 6, 6)),
    "[2, 3, 2, 2] of float32": (nn.Sequential(nn.Conv2d(3, 2, 3)), X[..., :2, :2]),
    "[2, 3, 7, 7] of float32": (nn.Sequential(nn.Flatten(), nn.Linear(108, 2)), torch.ones(2, 3, 7, 7)),
    "[3, 6, 6] of float32": (nn.Sequential(nn.BatchNorm2d(3)), X[0]),
    "[2, 3] of float32": (nn.Sequential(nn.Embedding(5, 4)), torch.ones(2, 3)),
    "[2, 3] of int64": (nn.Sequential(nn.Embedding(5, 4)), torch.full((2, 3), 7)),
    "[2, 3] of float16": (nn.Sequential(nn.Linear(3, 3).half(), nn.Linear(3, 3)), torch.ones(2, 3)),
}


@pytest.mark.parametrize("given", FAILING)
def test_examples_that_the_module_does_not_take(given):
    message = refusal(*FAILING[given])
    assert given in message
    assert "the module itself fails" in message
    assert "control flow" not in message


def test_examples_of_several_lengths_and_without_numbers():
    class Two(nn.Module):
        def forward(self, x, y):
            return x.mean(0, keepdim=True) + y

    assert "2 and 3 examples" in refusal(Two(), (torch.ones(2, 4), torch.ones(3, 4)))
    assert "not finite" in refusal(nn.Sequential(nn.Linear(3, 3)), torch.full((2, 3), float("nan")))


class Named(nn.Module):
    def forward(self, image, mask, scale=None):
        return {"product": image * mask if scale is None else image * mask * scale}


class Free(nn.Module):
    def forward(self, image, **more):
        return image * more["mask"]


class Record(nn.Module):
    def forward(self, record):
        return record["image"] * record["mask"]


KEYS = {  # the key that is wrong or missing, and those that are known
    "unknown": (Named(), {"image": X, "maks": X}, ('"maks"', "image, mask, scale")),
    "missing": (Named(), {"image": X}, ('"mask"', "image, mask, scale")),
    "no name": (Named(), {"image": X, "mask": X, 3: X}, ('"3"', "image, mask, scale")),
    "missing beside any": (Free(), {"mask": X}, ('"image"',)),
    "unknown among any": (Free(), {"image": X, "maks": X}, ("'mask'", '"image"', '"maks"', "line")),
    "keys of a record": (Record(), {"image": X, "mask": X}, ('"image"', "record")),
    "a record by itself": (Record(), {"record": {"image": X, "mask": X}}, ('"record"', "dict")),
    "a number": (Named(), {"image": X, "mask": 3}, ('"mask"', "int")),
}


@pytest.mark.parametrize("case", KEYS)
def test_a_wrong_or_missing_key_is_named_with_the_known_ones(case):
    module, given, parts = KEYS[case]
    message = refusal(module, given)
    assert all(part in message for part in parts)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_modules_of_half_precision_are_copied_as_they_are(dtype):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).to(dtype).eval()
    net = morphs.from_torch(module, X)
    assert net.dtype == dtype
    assert torch.equal(net.to_torch().eval()(X.to(dtype)), module(X.to(dtype)))

    class Two(nn.Module):
        def forward(self, x, y):
            return x + x

    assert 'input "y"' in refusal(Two(), (X, X))


def test_weights_that_are_not_there():
    with torch.device("meta"):
        empty = nn.Sequential(nn.Conv2d(3, 2, 1))
    assert "weight" in refusal(empty)
    norm = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False, device="meta"))
    assert all(name in refusal(norm) for name in ('module "1" (BatchNorm2d)', "running_mean"))
    mixed = nn.Module()
    mixed.register_buffer("phase", torch.ones(3, dtype=torch.complex64))
    assert "phase is complex" in refusal(mixed)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    nn.init.constant_(module[1].running_mean, value)
    with pytest.raises(WeightsError, match=r'running_mean.*"layer1"'):
        morphs.from_torch(module, torch.zeros(2, 3))


class Wraps(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.DataParallel(nn.Linear(4, 2))

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (nn.DataParallel(nn.Linear(4, 2)), "pass module.module"),
        (torch.optim.swa_utils.AveragedModel(nn.Linear(4, 2)), "pass module.module"),
        (Wraps(), "inner.module"),
        (nn.Linear(4, 2).state_dict(), "load it into its model"),
        (nn.Linear, "an instance"),
    ],
)
def test_a_wrapper_and_what_is_no_module_are_named_with_what_to_pass(given, remedy):
    with pytest.raises(UnsupportedModule) as error:
        morphs.from_torch(given, torch.zeros(2, 4))
    assert remedy in str(error.value)


@pytest.mark.parametrize("name", ["meta", "graph", "code", "self"])
def test_names_that_a_copy_uses_itself_are_told_and_fine_further_inside(name):
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(name, nn.Conv2d(3, 3, 1))

        def forward(self, x):
            return self.get_submodule(name)(x)

    assert f'"{name}"' in refusal(Named())
    inside = Inside(Named()).eval()
    copy = morphs.from_torch(inside, X).to_torch().eval()
    assert torch.equal(copy(X), inside(X))
    assert [*copy.state_dict()] == [*inside.state_dict()]
