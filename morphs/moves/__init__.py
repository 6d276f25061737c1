"""The moves, one to a file, and the registry: an explicit tuple."""

from morphs.move import Move
from morphs.moves.add_block import AddBlock
from morphs.moves.add_skip import AddSkip
from morphs.moves.compact import Compact
from morphs.moves.deepen import Deepen
from morphs.moves.groups import MergeGroups, SplitGroups
from morphs.moves.grow_kernel import GrowKernel
from morphs.moves.insert_activation import InsertActivation
from morphs.moves.insert_block import InsertBlock
from morphs.moves.insert_dropout import InsertDropout
from morphs.moves.insert_norm import InsertNorm
from morphs.moves.narrow import Narrow
from morphs.moves.remove_layer import RemoveLayer
from morphs.moves.reparameterise import Reparameterise
from morphs.moves.retire import Retire
from morphs.moves.squeeze_excite import SqueezeExcite
from morphs.moves.subnet import Subnet
from morphs.moves.widen import Widen
from morphs.moves.widen_all import WidenAll

MOVES: tuple[type[Move], ...] = (
    Deepen, Widen, GrowKernel, AddSkip, InsertNorm, InsertActivation, InsertDropout, MergeGroups, SplitGroups, Retire,
    Narrow, RemoveLayer, Subnet, SqueezeExcite, Reparameterise, Compact, InsertBlock, AddBlock, WidenAll,
)  # fmt: skip
