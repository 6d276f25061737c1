"""Search spaces: each is one short function of (input shape, number of outputs), and of how many tokens there are."""

from collections.abc import Mapping
from types import MappingProxyType

from search_spaces.auto import auto
from search_spaces.cifar_quick import cifar_quick
from search_spaces.conv1d import conv1d
from search_spaces.digits import digits
from search_spaces.from_model import from_model
from search_spaces.lenet import lenet
from search_spaces.mlp import mlp
from search_spaces.nash import nash
from search_spaces.residual import residual
from search_spaces.space import Shape, Space, SpaceFunction
from search_spaces.transformer import transformer

SPACES: Mapping[str, SpaceFunction] = MappingProxyType(
    {
        "digits": digits,
        "mlp": mlp,
        "cifar_quick": cifar_quick,
        "nash": nash,
        "lenet": lenet,
        "residual": residual,
        "conv1d": conv1d,
        "transformer": transformer,
        "auto": auto,
    }
)

__all__ = [
    "SPACES",
    "Shape",
    "Space",
    "SpaceFunction",
    "auto",
    "cifar_quick",
    "conv1d",
    "digits",
    "from_model",
    "lenet",
    "mlp",
    "nash",
    "residual",
    "transformer",
]
