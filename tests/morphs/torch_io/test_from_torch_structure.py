"""Modules as image_networks: sharing, in-place calls, several inputs, names, types, the round trip."""

import inspect
from types import MethodType

import pytest
import torch
import torch.nn.functional as F
from copied_modules import Calls, copied, difference, normal, shaken
from hypothesis import given
from strategies import image_networks, lively
from torch import nn

import morphs
from morphs.torch_io.source import model_source


def test_a_shared_module_has_one_owner():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()
            self.again = self.conv

        def forward(self, x):
            self.conv(x)  # a result that nobody uses
            y = self.relu(self.norm(self.conv(x)))
            return self.relu(self.norm(self.again(y))) + y

    net = copied(Twice(), normal(3, 3, 5, 5))
    assert {node.name: node.owner for node in net.graph if node.owner != node.name} == {
        "conv_2": "conv", "norm_2": "norm",
    }  # fmt: skip
    assert net.graph.is_shared("conv")
    assert not net.graph.is_shared("relu")


def test_in_place_calls_write_into_what_others_read():
    """fx records values, torch tensors: whoever holds a tensor that is written over sees the new numbers."""

    def shortcut(m, x):
        y = m.conv(x)
        z = m.relu(y)  # in place: y is now z
        return z + y

    def accumulate(m, x):
        total = m.conv(x)
        alias = m.identity(total)
        kept = total.clone()
        total += x
        total *= kept
        F.relu(alias, inplace=True)  # the result is dropped, its effect is not
        return total + alias + kept

    for forward in (shortcut, accumulate):
        module = Calls(forward, conv=nn.Conv2d(3, 3, 1), relu=nn.ReLU(inplace=True), identity=nn.Identity())
        net = copied(module, normal(2, 3, 4, 4))
    assert net.graph["output"].inputs == ("add_3",)


def test_several_inputs_keep_the_order_of_the_forward():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 1), nn.Linear(3, 4)

        def forward(self, pixels, facts, scale=None):
            if scale is not None:
                pixels = pixels * scale
            return self.a(pixels).mean((2, 3)) + self.b(facts)

    net = copied(Two(), normal(2, 2, 4, 4), normal(2, 3))
    assert [node.name for node in net.graph.inputs] == ["input1_pixels", "input2_facts"]
    assert [node.op.size for node in net.graph.inputs] == [(2, 4, 4), (3,)]


def arguments(module: nn.Module) -> list[str]:
    return [*inspect.signature(module.forward).parameters]


class Masked(nn.Module):
    """With two arguments, of these names."""

    def __init__(self, image: str = "image", mask: str = "mask") -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        made: dict = {}
        exec(
            f"def forward(self, {image}, {mask}):\n"
            f"    ones = {image}.new_ones({image}.shape[0], 4, 1, 1)\n"
            f"    return self.conv({image}) * {mask} + ones",
            made,
        )
        self.forward = MethodType(made["forward"], self)


NAMES = {
    ("image", "mask"): ("image", "mask"),
    ("x", "mask"): ("x", "mask"),
    ("mask", "image"): ("mask", "image"),
    ("input", "add"): ("input", "add"),
    ("input1_ids", "input2_mask"): ("input1_ids", "input2_mask"),
    ("input1_ids", "input2_ids"): ("input1_ids", "input2_ids"),
    ("batch", "batch_"): ("batch", "batch_"),
    ("torch", "device"): ("torch_", "device_"),
    ("next", "next_"): ("next_", "next__"),
}


@pytest.mark.parametrize("given", NAMES, ids="-".join)
def test_what_is_given_back_has_the_arguments_of_the_forward(given, tmp_path):
    image, mask = normal(2, 3, 4, 4), normal(2, 1, 4, 4)
    module = Masked(*given).double().eval()
    net = morphs.from_torch(module, (image, mask))
    wanted = [*NAMES[given]]
    copy = net.to_torch().eval()
    assert arguments(copy) == wanted
    out = copy(**dict(zip(wanted, (image, mask), strict=True)))
    assert torch.equal(out, module(image, mask))
    assert morphs.from_torch(copy, (image, mask)).graph == net.graph
    child = morphs.apply(net, "deepen(node=conv, kernel=[3, 3])").network
    morphs.save(child, tmp_path / "saved")
    back = morphs.load(tmp_path / "saved").to_torch()
    assert arguments(back) == wanted
    assert morphs.from_torch(back, (image, mask)).graph == child.graph
    source = model_source(net.graph, net.state_keys())
    made: dict = {"__name__": "made", "__file__": str(tmp_path / "model.py")}
    exec(compile(source, "model.py", "exec"), made)
    written = made["Network"]().double()
    written.load_state_dict(copy.state_dict())
    assert arguments(written) == wanted
    assert torch.equal(written.eval()(image, mask), out)


def test_examples_by_name_are_in_the_order_of_the_forward():
    image, mask = normal(2, 3, 4, 4), normal(2, 1, 4, 4)
    module = Masked().double().eval()
    net = morphs.from_torch(module, {"mask": mask, "image": image})
    assert net.graph == morphs.from_torch(module, (image, mask)).graph
    assert torch.equal(net.to_torch().eval()(image, mask), module(image, mask))


def test_graphs_with_other_names_of_inputs_are_run_by_them():
    graph = morphs.parse_graph(
        "a.b = input(size=[3]); class = input(size=[3]); s = add(a.b, class); out = output(s)"
    )
    assert arguments(lively(graph).to_torch()) == ["a_b", "class_"]


def test_names_that_collide_or_are_no_names():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x, self.output, self.add = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
            self.add_module("1x1-conv", nn.Conv2d(2, 2, 1))
            self.blocks = nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU()))

        def forward(self, x):
            y = self.x(x) + self.output(x)
            return self.blocks(self.add(y) + self.get_submodule("1x1-conv")(y))

    net = copied(Named(), normal(2, 2, 3, 3))
    assert {node.name for node in net.graph} == {
        "x", "x_2", "output", "output_2", "add", "add_2", "add_3", "layer1x1_conv", "blocks.0.0", "blocks.0.1",
    }  # fmt: skip


def test_what_is_dead_needs_no_vocabulary():
    def forward(m, x):
        torch._assert(x.shape[1] == 3, "three channels")
        torch.softmax(m.conv(x), 1)
        return m.conv(x)

    assert (
        len(copied(Calls(forward, conv=nn.Conv2d(3, 2, 1), unused=nn.LSTM(2, 2)), normal(2, 3, 4, 4)).graph)
        == 3
    )


def test_a_compiled_module_is_read_as_the_module_it_holds():
    module = shaken(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()))
    x = normal(2, 3, 4, 4)
    assert morphs.from_torch(torch.compile(module), x).digest == morphs.from_torch(module, x).digest


def test_frozen_weights_other_dtypes_and_layouts_are_copied():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    module.requires_grad_(False)
    net = morphs.from_torch(module.bfloat16(), torch.zeros(2, 3, 8, 8))
    assert net.dtype == torch.bfloat16
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in net.weights.values())
    assert net.weights["layer1", "num_batches_tracked"].dtype == torch.int64


def test_a_grown_network_comes_back_and_can_be_grown_again():
    net = morphs.from_torch(
        shaken(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))),
        normal(2, 3, 6, 6),
    )
    for _ in range(2):
        child = morphs.apply(net, next(iter(morphs.Widen.sites(net))), seed=0)
        net = morphs.from_torch(child.network.to_torch(), normal(2, 3, 6, 6))
        assert net.digest == child.network.digest


def test_one_channel_of_pixels_keeps_its_place():
    net = lively(
        morphs.parse_graph("""
        x = input(size=[1, 4, 4]); c = conv2d(x, channels=4, kernel=1)
        r1 = reshape(c, size=[1, 2, 2, 4, 4], width=0); p1 = permute(r1, order=[0, 3, 1, 4, 2])
        r2 = reshape(p1, size=[1, 8, 8]); a = relu(r2); r3 = reshape(a, size=[1, 4, 2, 4, 2])
        p2 = permute(r3, order=[0, 2, 4, 1, 3]); r4 = reshape(p2, size=[4, 4, 4]); out = output(r4)""")
    )
    assert morphs.from_torch(net.to_torch(), normal(2, 1, 4, 4)).graph == net.graph


@given(net=image_networks())
def test_round_trip_through_torch(net):
    inputs = tuple(normal(3, *net.graph.shape(node.name)) for node in net.graph.inputs)
    module = net.to_torch()
    back = morphs.from_torch(module, inputs)
    assert difference(module, back.to_torch(), *inputs) <= 1e-12
    assert difference(module, back.to_torch(), *inputs, train=True) <= 1e-12
    assert back.graph == net.graph
    assert back.digest == net.digest
    assert [*back.to_torch().state_dict()] == [*module.state_dict()]
