"""ExportedProgram → Network: what torch.export wrote, in a file (.pt2) or in memory, without the module's code."""

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from morphs.errors import UnsupportedModule, WeightsError
from morphs.network import Network
from morphs.torch_io.build import Source, read_network
from morphs.torch_io.compare import compare
from morphs.torch_io.export import OWN, Examples
from morphs.torch_io.functional import Misplaced, read_program
from morphs.torch_io.modes import flagged
from morphs.torch_io.program import Program
from morphs.torch_io.reading import Refused

SAVE_AGAIN = "name a function that returns the module instead, or save it again with torch.export.save"


def from_program(program: ExportedProgram | str | os.PathLike[str]) -> Network:
    """A copy of an exported program as a Network: the same outputs in eval mode.

    program: what torch.export.export returned, of a module in eval mode and with its first axis dynamic
    (`dynamic_shapes`), or a file that torch.export.save wrote of one. Its dropouts and batch norms follow the mode, as
    those of a module do; what a program of eval mode doesn't show, such as the dropout inside an attention, is not in
    the copy. The copy must agree with the program on the program's own example inputs. Nothing is
    unpickled: a file that would need it is refused.

    Nodes and parameters are named as `from_torch` names those of the module. Raises UnsupportedModule, with the remedy,
    for what is no such program, and WeightsError where a tensor isn't finite.
    """
    exported = program if isinstance(program, ExportedProgram) else _opened(Path(program))
    network = _read(exported, attention=True)
    try:
        _compare(exported, network)
    except UnsupportedModule:
        if not any(node.op.kind == "attention" for node in network.graph):
            raise
        network = _read(exported, attention=False)  # some networks amplify the rounding of attention
        _compare(exported, network)
    return network


def _read(exported: ExportedProgram, attention: bool) -> Network:
    """attention: attention that is spelled out is read as attention."""
    try:
        read = read_program(exported)
        _check_program(read)
        _as_plain(read)
        flagged(read, {call.frame.path: True for call in read.calls})
        source = _source(exported)
        _canonical(read, source.tensors)
        names = [value.name for value in read.inputs]
        network = read_network(
            read, replace(source, tensors={**read.constants, **source.tensors}), names, attention
        )
    except Refused as error:
        raise UnsupportedModule(f"from_program: {error}") from None
    except Misplaced as error:
        place = f' in module "{error.scope[-1].path}"' if error.scope and error.scope[-1].path else ""
        raise UnsupportedModule(f"from_program: function {error.name}{place}: {error}") from None
    if bad := network.nonfinite():
        raise WeightsError(
            f"from_program: tensor {'.'.join(bad[0])} holds NaN or infinity; fix the module first"
        )
    return network


def _check_program(program: Program) -> None:
    for value in program.inputs:
        if value.size is None or value.size[:1] != (-1,):
            raise Refused(
                f'its input "{value.name}" has a first axis of fixed length; export the module again with '
                "dynamic_shapes, {0: torch.export.Dim.AUTO} for each input"
            )
    for key in program.written:
        raise Refused(
            f'it writes to its tensor "{key}", as a module in train mode does; export it after module.eval()'
        )


def _as_plain(program: Program) -> None:
    """Layers of ours are read by the calls that they make: the modules that say more are not in a program."""
    for call in program.calls:
        call.scope = tuple(
            frame._replace(cls="exported") if frame.cls.startswith(OWN) else frame for frame in call.scope
        )


def _source(exported: ExportedProgram) -> Source:
    signature = exported.graph_signature
    tensors: dict[str, Tensor] = {**exported.state_dict, **_constants(exported)}
    kinds = {
        **dict.fromkeys(signature.parameters, "parameter"),
        **dict.fromkeys(signature.buffers, "buffer"),
        **dict.fromkeys(signature.non_persistent_buffers, "constant"),
    }
    for key, tensor in tensors.items():
        if tensor.is_complex():
            raise Refused(f"its tensor {key} is complex, which no op of a copy is; use real weights")
    dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.get_default_dtype())
    return Source(nn.Module(), tensors, kinds, tuple(tensors), {}, dtype)


def _canonical(program: Program, tensors: Mapping[str, Tensor]) -> None:
    """Give a tensor that the state holds under several keys the first of them."""
    first: dict[tuple[int, torch.Size], str] = {}
    for key, tensor in tensors.items():
        if tensor.numel():
            first.setdefault((tensor.data_ptr(), tensor.shape), key)
    for value in program.tensors.values():
        tensor = tensors.get(value.key)
        if tensor is not None and tensor.numel():
            value.key = first[tensor.data_ptr(), tensor.shape]


def _constants(exported: ExportedProgram) -> dict[str, Tensor]:
    return {key: value for key, value in exported.constants.items() if isinstance(value, Tensor)}


def _compare(exported: ExportedProgram, network: Network) -> None:
    if exported.example_inputs is None:
        return
    args, kwargs = exported.example_inputs
    doubled = Examples(tuple(args), dict(kwargs)).mapped(_at_least_two)
    compare(exported.module(), network.to_torch(), doubled, training=False)


def _at_least_two(example: Any) -> Any:
    return torch.cat([example, example]) if isinstance(example, Tensor) and len(example) == 1 else example


# -- files ---------------------------------------------------------------------------------------------


def _opened(path: Path) -> ExportedProgram:
    try:
        for fact in _unsafe(path):
            raise UnsupportedModule(f"from_program: {path} {fact}; {SAVE_AGAIN}")
        return torch.export.load(path)
    except (OSError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnsupportedModule(f"from_program: {path} can't be read ({reason}); {SAVE_AGAIN}") from None
    except UnsupportedModule:
        raise
    except Exception as error:  # whatever its reader may raise for a damaged file, or one of another version
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UnsupportedModule(f"from_program: {path} can't be read ({reason}); {SAVE_AGAIN}") from None


def _unsafe(path: Path) -> Iterator[str]:
    """Why reading the file would run code that is in it: torch's reader unpickles what it finds pickled."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if not any("/models/" in name for name in names):
            yield "is not a program that this version of torch.export.save writes"
        for name in names:
            if "/aotinductor/" in name:
                yield "holds machine code"
            elif name.endswith(".json") and ("/weights/" in name or "/constants/" in name):
                if '"use_pickle":true' in "".join(archive.read(name).decode(errors="replace").split()):
                    yield f"holds a pickled object ({Path(name).name})"
            elif "/sample_inputs/" in name and archive.getinfo(name).file_size:
                try:
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                except Exception:  # of many classes
                    yield "holds example inputs that are not tensors"
