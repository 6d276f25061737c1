"""Search spaces: each is one short function of (input shape, number of classes)."""

from collections.abc import Mapping
from types import MappingProxyType

from search_spaces.cifar_quick import cifar_quick
from search_spaces.digits import digits
from search_spaces.from_model import from_model
from search_spaces.lenet import lenet
from search_spaces.mlp import mlp
from search_spaces.nash import nash
from search_spaces.residual import residual
from search_spaces.space import Shape, Space, SpaceFunction

SPACES: Mapping[str, SpaceFunction] = MappingProxyType(
    {
        "digits": digits,
        "mlp": mlp,
        "cifar_quick": cifar_quick,
        "nash": nash,
        "lenet": lenet,
        "residual": residual,
    }
)

__all__ = [
    "SPACES",
    "Shape",
    "Space",
    "SpaceFunction",
    "cifar_quick",
    "digits",
    "from_model",
    "lenet",
    "mlp",
    "nash",
    "residual",
]
