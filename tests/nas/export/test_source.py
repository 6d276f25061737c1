import importlib.util
import struct
from pathlib import Path
from types import ModuleType

import pytest
import torch
from export_support import card_for, graph, network, source_of

from morphs import cost, init, parse_graph
from morphs.torch_io.source import layer_paths, variable_names
from nas.data import Split
from nas.data.batches import eval_batches
from nas.export import export


def module_of(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("exported_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_code_reads_like_a_persons() -> None:
    text = source_of(network("residual"))
    wanted = '''
    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(2, 4, kernel_size=3, padding=1, bias=False)
        self.n1 = nn.BatchNorm2d(4)
        self.r1 = nn.ReLU()
        self.c2 = nn.Conv2d(4, 4, kernel_size=(3, 1), padding=(1, 0))
        self.n2 = nn.BatchNorm2d(4, eps=0.001, momentum=None, affine=False)
        self.m = nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True)
        self.p = nn.AdaptiveAvgPool2d(output_size=1)
        self.f = nn.Flatten()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images [B, *INPUT_SHAPE] to scores (logits) [B, len(CLASSES)]."""
        # x: [B, 2, 8, 8]
        x = self.c1(x)  # [B, 4, 8, 8]
        x = self.n1(x)
        x = self.r1(x)
        y = self.c2(x)
        y = self.n2(y)
        x = x + y + x  # [B, 4, 8, 8]
        x = self.m(x)  # [B, 4, 4, 4]
        x = self.p(x)  # [B, 4, 1, 1]
        x = self.f(x)  # [B, 4]
        x = self.fc(x)  # [B, 3]
        return x
'''
    assert wanted in text
    assert "class PActivation" not in text
    assert "class Scale" not in text


def test_only_the_classes_in_use_are_written() -> None:
    text = source_of(network("activations"))
    assert "class PActivation(nn.Module)" in text
    assert "self.a3 = PActivation(nn.LeakyReLU(negative_slope=0.2), channels=4)" in text
    assert [line for line in text.splitlines() if line.startswith("class ")] == [
        "class Lerp(nn.Module):",
        "class PActivation(nn.Module):",
        "class Scale(nn.Module):",
        "class Network(nn.Module):",
    ]
    assert "class PActivation" not in source_of(network("names"))


def test_a_shared_module_is_one_attribute_called_twice() -> None:
    text = source_of(network("shared"))
    assert text.count("self.mine = ") == 1
    assert text.count("self.mine(") == 2
    assert "late" not in text


def test_layers_are_where_to_torch_has_them() -> None:
    net = network("names")
    paths = layer_paths(net.graph, net.state_keys())
    held = {
        name for name, part in net.to_torch().named_modules() if not [*part.children()] or name == "a_b_0"
    }
    assert set(paths.values()) <= held
    assert len(set(paths.values())) == len(paths)


def test_variables_are_reused_but_never_while_they_are_needed() -> None:
    names = variable_names(
        parse_graph(
            "x = input(size=[3]); a = relu(x); b = tanh(a); c = silu(a); d = add(a, b, c); e = mish(d); "
            "f = add(e, d); out = output(f)"
        )
    )
    assert names == {"x": "x", "a": "x", "b": "y", "c": "z", "d": "x", "e": "y", "f": "y", "out": "y"}


def test_class_names_cannot_break_out_of_the_source(tmp_path: Path) -> None:
    hostile = (
        '"""\nraise SystemExit',
        'it\'s "both"',
        "\\N{nope}",
        "naïve 猫 🐈",
        "\ud800",
        "{{ 7 }}",
        "\r\n# x",
    )
    net = init(parse_graph(f"x = input(size=[2]); fc = linear(x, features={len(hostile)}); out = output(fc)"))
    export(net, tmp_path / "to", card_for(net.graph, classes=hostile, dataset='"""', command="`x`\n```"))
    assert hostile == module_of(tmp_path / "to").CLASSES


def test_normalise_gives_what_training_saw(tmp_path: Path) -> None:
    net = network("branches")
    card = card_for(net.graph)
    export(net, tmp_path / "to", card)
    images = torch.arange(4 * 189, dtype=torch.int64).remainder(256).to(torch.uint8).reshape(4, 3, 9, 7)
    split = Split(images, torch.zeros(4, dtype=torch.int64))
    (x, _), *_ = eval_batches(split, 4, card.mean, card.std)
    torch.testing.assert_close(
        module_of(tmp_path / "to").normalise(images), x.contiguous(), rtol=1e-6, atol=1e-6
    )
    for wrong in (images / 255, images[0]):
        with pytest.raises(ValueError, match=r"torch\.uint8"):
            module_of(tmp_path / "to").predict(wrong)


def test_a_float64_network_is_exported_as_float32(tmp_path: Path) -> None:
    net = init(graph("residual"), seed=2, dtype=torch.float64)
    export(net, tmp_path / "to", card_for(net.graph))
    kinds = {tensor.dtype for tensor in module_of(tmp_path / "to").load().parameters()}
    assert kinds == {torch.float32}


def damage(data: bytes) -> dict[str, bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    head, body = data[8 : 8 + length], data[8 + length :]
    return {
        "empty": b"",
        "cut header": data[:20],
        "cut data": data[:-1],
        "more data": data + b"0000",
        "huge header": struct.pack("<Q", 2**63) + data[8:],
        "no JSON": data[:8] + b"x" * length + body,
        "no object": struct.pack("<Q", 2) + b"[]",
        "other type": data[:8] + head.replace(b"F32", b"F16", 1) + body,
        "unknown type": data[:8] + head.replace(b"F32", b"Q32", 1) + body,
        "other key": data[:8] + head.replace(b"shape", b"shade", 1) + body,
        "offset": data[:8] + head.replace(b"[0,", b"[9,", 1) + body,
    }


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    net = network("residual")
    export(net, tmp_path / "to", card_for(net.graph))
    module, path = module_of(tmp_path / "to"), tmp_path / "to" / "weights.safetensors"
    for name, data in damage(path.read_bytes()).items():
        bad = tmp_path / f"{name}.safetensors"
        bad.write_bytes(data)
        with pytest.raises(ValueError, match=rf"{name}\.safetensors"):
            module.load(bad)


def test_the_class_docstring_counts() -> None:
    costs = cost(graph("vectors"))
    text = source_of(network("vectors"))
    assert f'"""{costs.params:,} parameters, {costs.macs:,} multiply-adds for one example."""' in text
