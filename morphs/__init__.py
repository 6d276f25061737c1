"""morphs: architecture graphs and function-preserving moves on them, for your own PyTorch models."""

from morphs.activations import register_activation
from morphs.apply import Child, apply, apply_chain
from morphs.carry import carry, carry_moments, carry_values, new_parameters
from morphs.drift import Drift, drift
from morphs.export import export
from morphs.files import load, pack, save, unpack
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.cost import Cost, cost
from morphs.graph.draw import graph_to_svg
from morphs.graph.read import graph_from_json, parse_graph
from morphs.graph.widths import ChannelGroup, channel_groups
from morphs.init import init
from morphs.limits import Limits
from morphs.move import Move, Origin, Preserves, Refusal
from morphs.move_text import parse, parse_chain
from morphs.moves import (
    MOVES,
    AddBlock,
    AddSkip,
    Compact,
    Deepen,
    GrowKernel,
    InsertActivation,
    InsertBlock,
    InsertDropout,
    InsertNorm,
    MergeGroups,
    Narrow,
    RemoveLayer,
    Reparameterise,
    Retire,
    SplitGroups,
    SqueezeExcite,
    Subnet,
    Widen,
    WidenAll,
)
from morphs.network import Network
from morphs.torch_io.from_program import from_program
from morphs.torch_io.from_torch import from_torch
from morphs.training_memory import training_memory

__all__ = [
    "MOVES", "AddBlock", "AddSkip", "ArchGraph", "ChannelGroup", "Child", "Compact", "Cost", "Deepen",
    "Drift", "GrowKernel", "InsertActivation", "InsertBlock", "InsertDropout", "InsertNorm", "Limits",
    "MergeGroups", "Move", "Narrow", "Network", "Node", "Origin", "Preserves", "Refusal", "RemoveLayer",
    "Reparameterise", "Retire", "SplitGroups", "SqueezeExcite", "Subnet", "Widen", "WidenAll", "apply",
    "apply_chain", "carry", "carry_moments", "carry_values", "channel_groups", "cost", "drift", "export",
    "from_program", "from_torch", "graph_from_json", "graph_to_svg", "init", "load", "new_parameters", "pack", "parse",
    "parse_chain", "parse_graph", "register_activation", "save", "training_memory",
    "unpack",
]  # fmt: skip
