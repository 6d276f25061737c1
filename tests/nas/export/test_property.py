"""Any network: the exported code computes what the network computes, and is formatted."""

import tempfile
from pathlib import Path
from types import ModuleType

import torch
from export_support import images_for, source_of, state
from hypothesis import assume, given
from safetensors.torch import save_file
from strategies import image_networks

from morphs import Network, Node
from morphs.graph.ops import Flatten


def as_classifier(net: Network) -> Network:
    """`net` with its output flattened, where that is a feature map."""
    out = net.graph.output
    if len(net.graph.shape(out.name)) == 1:
        return net
    name = net.graph.fresh("flat")
    return Network(
        net.graph.update(Node(name, Flatten(), out.inputs), Node(out.name, out.op, (name,))), net.weights
    )


@given(image_networks(dtype=torch.float32))
def test_exported_code_computes_what_the_network_computes(net: Network) -> None:
    assume(len(net.graph.inputs) == 1)
    net = as_classifier(net)
    with tempfile.TemporaryDirectory() as place:
        to = Path(place)
        save_file(state(net), to / "weights.safetensors")
        module = ModuleType("exported")
        module.__file__ = str(to / "model.py")
        exec(compile(source_of(net), module.__file__, "exec"), module.__dict__)
        x = module.normalise(images_for(net.graph))
        exported, plain = module.load(), net.to_torch().eval()
        with torch.no_grad():
            torch.testing.assert_close(exported(x), plain(x), rtol=0, atol=0)
        assert sum(p.numel() for p in exported.parameters()) == sum(p.numel() for p in plain.parameters())
        assert module.load().state_dict().keys() == exported.state_dict().keys()
