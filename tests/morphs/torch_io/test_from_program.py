"""Programs of torch.export, in memory and in files, as networks."""

import io
import json
import zipfile

import pytest
import torch
from copied_modules import Calls, normal
from strategies import lively
from token_support import NETWORKS
from torch import nn

import morphs
from morphs.errors import UnsupportedModule, WeightsError

BATCH = {0: torch.export.Dim.AUTO}


class Tied(nn.Module):
    """Tokens, scored by their own embedding."""

    def __init__(self):
        super().__init__()
        self.words, self.block = (
            nn.Embedding(11, 8),
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        )
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("places", torch.arange(5), persistent=False)
        self.start = nn.Parameter(torch.ones(5, 8))

    def forward(self, tokens):
        return self.head(self.block(self.words(tokens) + self.start[self.places]))


def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.PReLU(4)
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


MODULES = {
    "convolutions": (net, normal(2, 3, 6, 6).float()),
    "tied": (Tied, torch.randint(11, (2, 5))),
    "operators": (lambda: Calls(lambda m, x: {"a": m.fc(x).cumsum(1), "b": x.sort(-1)[0]}, fc=nn.Linear(4, 4)),
                  normal(2, 4).float()),
}  # fmt: skip


def program(module, *given, dynamic=True):
    shapes = tuple(BATCH for _ in given) if dynamic else None
    return torch.export.export(module.eval(), given, dynamic_shapes=shapes)


@pytest.mark.parametrize("name", MODULES)
def test_a_program_is_read_as_its_module_is(name, tmp_path):
    make, x = MODULES[name]
    module = make()
    torch.export.save(program(module, x), tmp_path / "net.pt2")
    for given in (program(module, x), tmp_path / "net.pt2"):
        found, wanted = morphs.from_program(given), morphs.from_torch(module, x)
        assert found.graph == wanted.graph
        assert [*found.to_torch().state_dict()] == [*wanted.to_torch().state_dict()]
        assert found.digest == wanted.digest


@pytest.mark.parametrize("name", ["gpt", "vit"])
def test_what_export_wrote_is_read_again(name):
    wanted = lively(morphs.parse_graph(NETWORKS[name]), dtype=torch.float32)
    inputs = morphs.examples.random_inputs(wanted.graph, 2, torch.Generator().manual_seed(0), torch.float32)
    module = wanted.to_torch().eval()
    found = morphs.from_program(program(module, *inputs))
    with torch.no_grad():
        torch.testing.assert_close(found.to_torch().eval()(*inputs), module(*inputs), rtol=0, atol=0)


def test_what_is_no_such_program_is_refused(tmp_path):
    x = normal(2, 3, 6, 6).float()
    (tmp_path / "text.pt2").write_text("no program")
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        archive.writestr("a", "b")
    for given, fact in (
        (program(net(), x, dynamic=False), "dynamic_shapes"),
        (torch.export.export(net().train(), (x,), dynamic_shapes=(BATCH,)), "module.eval"),
        (tmp_path / "text.pt2", "not a zip file"),
        (tmp_path / "other.pt2", "torch.export.save"),
        (tmp_path / "none.pt2", "No such file"),
    ):
        with pytest.raises(UnsupportedModule, match=fact) as caught:
            morphs.from_program(given)
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value)


class Runs:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return open, ("ran", "w")


@pytest.mark.parametrize("part", ["weights", "constants", "sample_inputs"])
def test_nothing_in_a_file_is_unpickled(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.export.save(program(net(), normal(2, 3, 6, 6).float()), "net.pt2")
    held = io.BytesIO()
    torch.save(Runs(), held)
    with zipfile.ZipFile("net.pt2") as old, zipfile.ZipFile("bad.pt2", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if f"/{part}/" in name and name.endswith((".json", ".pt")):
                known = {
                    "config": {"x": {"path_name": "custom_obj_0", "is_param": False, "use_pickle": True}}
                }
                data = held.getvalue() if name.endswith(".pt") else json.dumps(known).encode()
            new.writestr(name, data)
    with pytest.raises(UnsupportedModule):
        morphs.from_program("bad.pt2")
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_not_finite_are_named():
    module = net()
    nn.init.constant_(module[3].bias, float("nan"))
    with pytest.raises(WeightsError, match="bias"):
        morphs.from_program(program(module, normal(2, 3, 6, 6).float()))
