"""The calls of a program, with each layer that takes several calls as one."""

from collections.abc import Mapping

from morphs.torch_io.patterns import spelled_out
from morphs.torch_io.program import Call, Program, reads
from morphs.torch_io.read_normed import with_weights
from morphs.torch_io.read_recurrent import with_recurrent
from morphs.torch_io.spelled_attention import with_attention
from morphs.torch_io.spelled_norms import with_norms
from morphs.torch_io.units import with_units


def whole_layers(program: Program, kinds: Mapping[str, str], attention: bool) -> list[Call]:
    """kinds: of the tensors of the module's state, "parameter", "buffer" or "constant". attention: also that."""
    calls = with_recurrent(with_units(program))
    read = reads(calls, program.outputs)
    calls = spelled_out(calls, read)
    if attention:
        calls = with_attention(calls, read)
    return with_weights(with_norms(kinds, calls))
