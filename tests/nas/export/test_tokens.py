"""The source of networks on tokens, signals and volumes computes what they do."""

import pytest
import torch
from export_support import source_of, state
from strategies import lively
from token_support import NETWORKS

import morphs
from morphs.examples import random_inputs


@pytest.mark.parametrize("name", NETWORKS)
def test_the_source_computes_what_the_network_computes(name):
    net = lively(morphs.parse_graph(NETWORKS[name]), dtype=torch.float32)
    text = source_of(net)
    space: dict[str, object] = {"__file__": "model.py"}
    exec(compile(text, "model.py", "exec"), space)
    module = space["Network"]()
    module.load_state_dict(state(net))
    inputs = random_inputs(net.graph, 3, torch.Generator().manual_seed(0), torch.float32)
    torch.testing.assert_close(module.eval()(*inputs), net.to_torch().eval()(*inputs), rtol=0, atol=0)
