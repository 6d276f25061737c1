"""Networks in folders: model.py, weights, torch.export's file, each computing the same in a process of its own."""

import importlib.util
import inspect

import pytest
import torch
from copied_modules import Calls, normal
from strategies import lively
from token_support import NETWORKS
from torch import nn

import morphs
from morphs.errors import ExportError, UnsupportedModule

FILES = ["model.py", "weights.safetensors", "graph.json", "model.pt2"]


def network() -> morphs.Network:
    """With a layer, a layer at a numbered place, a tensor of its own, a constant, operators and two outputs."""

    def forward(m, x):
        y = m.blocks(x) * m.factor + torch.tensor(0.5, dtype=x.dtype)
        tokens = y.flatten(2).transpose(1, 2).reshape(x.shape[0], -1, 2)
        return {"tokens": tokens.softmax(-1), "mean": y.mean((2, 3))}

    torch.manual_seed(0)
    module = Calls(
        forward, blocks=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Dropout2d(0.5))
    )
    module.factor = nn.Parameter(torch.full((4, 1, 1), 2.0))
    return morphs.from_torch(module.double(), normal(2, 3, 6, 6))


def test_an_export_needs_torch_alone_and_has_the_modules_state(tmp_path):
    net = network()
    files = morphs.export(net, tmp_path / "out")
    assert [path.name for path in files] == FILES
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in files)
    spec = importlib.util.spec_from_file_location("exported_model", files[0])
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    loaded, x = model.load(), normal(5, 3, 6, 6)
    wanted = net.to_torch().eval()
    assert all(torch.equal(value, wanted(x)[key]) for key, value in loaded(x).items())
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in wanted.named_parameters()]
    assert [*loaded.state_dict()] == [*wanted.state_dict()]
    text = files[0].read_text()
    assert "import morphs" not in text
    assert "torch.ops.aten.softmax.int" in text


@pytest.mark.parametrize("name", ["gpt", "vit", "signal"])
def test_networks_on_tokens_and_signals_are_exported(name, tmp_path):
    net = lively(morphs.parse_graph(NETWORKS[name]))
    files = morphs.export(net, tmp_path / "out")  # which runs each file and compares what it computes
    assert [path.name for path in files] == FILES


def test_files_have_the_arguments_of_the_forward(tmp_path):
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x, mask):
            return self.conv(x) * mask

    net = morphs.from_torch(Masked().double(), (normal(2, 3, 4, 4), normal(2, 1, 4, 4)))
    folder = morphs.export(net, tmp_path / "out")[0].parent
    assert "def forward(self, x: Tensor, mask: Tensor) -> Tensor:" in (folder / "model.py").read_text()
    program = torch.export.load(folder / "model.pt2")
    assert program.graph_signature.user_inputs == ("x", "mask")
    again = morphs.from_program(program)
    assert again.graph.inputs == net.graph.inputs
    assert [*inspect.signature(again.to_torch().forward).parameters] == ["x", "mask"]
    assert morphs.load(folder).graph == net.graph


def test_an_export_is_of_an_empty_folder_and_of_known_code(tmp_path):
    (tmp_path / "taken").write_text("")
    for place in (tmp_path, tmp_path / "taken"):
        with pytest.raises(ExportError, match="in use"):
            morphs.export(network(), place)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_onnx_is_checked_by_onnxruntime(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = morphs.init(
        morphs.parse_graph("x = input(size=[3, 6, 6]); c = conv2d(x, channels=4, kernel=3); out = output(c)")
    )
    assert morphs.export(net, tmp_path / "out", onnx=True)[-1].name == "model.onnx"


def test_a_module_is_refused_with_how_to_make_a_network_of_it(tmp_path):
    with pytest.raises(UnsupportedModule, match="from_torch"):
        morphs.export(torch.nn.Linear(2, 2), tmp_path / "out")  # pyright: ignore
    assert not (tmp_path / "out").exists()
