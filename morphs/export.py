"""A network in a folder for those who have torch and no morphs: source, weights, torch.export's file, ONNX.

A process of its own runs each file and compares it with the network before it is announced.
"""

import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from morphs.errors import ExportError
from morphs.examples import random_inputs
from morphs.files import GRAPH_FILE, WEIGHTS_FILE, metadata
from morphs.graph.activations import REGISTERED
from morphs.network import Network, check_network
from morphs.torch_io.export import recurrent_layers_allowed
from morphs.torch_io.source import More, model_source

STAGE = ".export-"  # begins the name of the hidden folder in which the files are written
EXAMPLES = "examples.pt"
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CHECK = """
import sys, torch
from pathlib import Path
folder, names = Path(sys.argv[1]), sys.argv[2:]
held = torch.load(folder / "examples.pt", weights_only=True)
given, wanted = held["given"], held["wanted"]
torch.set_num_threads(held["threads"])

def of_source():
    import importlib.util
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module
    spec.loader.exec_module(module)
    return module.load()(*given)

def of_program():
    return torch.export.load(folder / "model.pt2").module()(*given)

def of_onnx():
    import onnxruntime
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]
    return [torch.from_numpy(value) for value in session.run(None, dict(zip(inputs, (x.numpy() for x in given))))]

for name in names:
    with torch.no_grad():
        got = {"model.py": of_source, "model.pt2": of_program, "model.onnx": of_onnx}[name]()
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(got) if isinstance(leaf, torch.Tensor)]
    worst = 0.0
    for one, other in zip(wanted, leaves, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype, (one.shape, other.shape, one.dtype, other.dtype)
        if one.is_floating_point() and not torch.equal(one, other):
            worst = max(worst, float((one - other).abs().max() / one.abs().max().clamp(min=1e-30)))
        elif not one.is_floating_point():
            assert torch.equal(one, other)
    print(name, worst, flush=True)
"""


def export(
    network: Network,
    folder: str | os.PathLike[str],
    examples: Tensor | Sequence[Tensor] | None = None,
    onnx: bool = False,
) -> tuple[Path, ...]:
    """Write model.py with weights.safetensors, graph.json, model.pt2 and, if asked for, model.onnx into a new or empty
    folder.

    model.py needs torch alone: `load()` returns an nn.Module whose state_dict is that of `network.to_torch()`.
    `morphs.load(folder)` is the network again.
    examples: a tensor [N, ...] for each input, by default standard normal ones; on them each file, run in another
    process, must return in eval mode what the network does: bit for bit, ONNX within 1e-3 of the largest output.
    onnx: needs the packages onnx, onnxscript and onnxruntime.

    Returns the files' paths. Raises ExportError naming the file that computes something else or can't be made, or
    where the folder is in use.
    """
    check_network(network, "export")
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ExportError(f"export: {place} is in use; name a new or an empty folder")
    within = place if place.is_dir() else place.parent  # an existing folder may be a mount point
    within.mkdir(parents=True, exist_ok=True)
    stage = within / f"{STAGE}{secrets.token_hex(6)}"
    stage.mkdir()
    try:
        names = write_files(network, stage, examples, onnx)
        place.mkdir(exist_ok=True)
        for name in names:
            (stage / name).rename(place / name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return tuple(place / name for name in names)


def write_files(
    network: Network,
    folder: Path,
    examples: Tensor | Sequence[Tensor] | None = None,
    onnx: bool = False,
    more: More | None = None,
) -> tuple[str, ...]:
    """Write the files of `export` into an existing folder and check them there; return their names.

    more: what model.py holds besides the network. Raises ExportError.
    """
    for node in network.graph:
        fn = getattr(node.op, "fn", None)
        if fn in REGISTERED:
            raise ExportError(
                f'export: node "{node.name}" uses the registered activation {fn}, whose code no file would hold; '
                "use morphs.save, or network.to_torch() where it is registered"
            )
    given = _examples(network, examples)
    module = network.to_torch().eval()
    with torch.no_grad():
        returned = module(*(x.clone() for x in given))
    wanted = [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]
    names = _write(network, module, given, folder, onnx, more)
    held = {"given": list(given), "wanted": wanted, "threads": torch.get_num_threads()}
    torch.save(held, folder / EXAMPLES)
    try:
        _check([name for name in names if name.startswith("model")], folder)
    finally:
        (folder / EXAMPLES).unlink()
    return tuple(names)


def _examples(network: Network, examples: Tensor | Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    if examples is not None:
        return (examples,) if isinstance(examples, Tensor) else tuple(examples)
    generator = torch.Generator().manual_seed(0)
    return random_inputs(network.graph, 2, generator, network.dtype)


def _in_order(held: bytes) -> bytes:
    """`held` with the entries about the file in the order of their names: safetensors writes them in a random one."""
    start = 8 + int.from_bytes(held[:8], "little")
    header = json.loads(held[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + held[start:]


def _write(
    network: Network,
    module: nn.Module,
    given: tuple[Tensor, ...],
    folder: Path,
    onnx: bool,
    more: More | None,
) -> list[str]:
    keys = network.state_keys()
    source = model_source(network.graph, keys, more)
    (folder / "model.py").write_bytes(source.encode(errors="backslashreplace"))
    state = {**dict(module.named_buffers()), **module.state_dict()}
    tensors = {key: state[key].detach().contiguous() for key in keys.values()}
    about = {"format": "pt", "names": "state", **metadata(network)}
    (folder / WEIGHTS_FILE).write_bytes(_in_order(save(tensors, about)))
    (folder / GRAPH_FILE).write_text(network.graph.to_json(), encoding="ascii")
    names = ["model.py", WEIGHTS_FILE, GRAPH_FILE, "model.pt2"]
    batch = {0: torch.export.Dim.AUTO}
    try:
        with recurrent_layers_allowed():
            program = torch.export.export(module, given, dynamic_shapes=tuple(batch for _ in given))
        torch.export.save(program, folder / "model.pt2")
        if onnx:
            _write_onnx(program, folder)
            names.append("model.onnx")
    except ExportError:
        raise
    except Exception as error:  # whatever the exporters of torch may raise
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"export: torch can't export the network ({reason}); use morphs.save, or network.to_torch()"
        ) from None
    return names


def _write_onnx(program: Any, folder: Path) -> None:
    lacking = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
    if lacking:
        raise ExportError(f"export: ONNX needs {', '.join(lacking)}; install them, or leave out onnx")
    torch.onnx.export(program, (), str(folder / "model.onnx"), dynamo=True, verbose=False)


def _check(names: Sequence[str], folder: Path) -> None:
    """Raise ExportError where one of the files does something else than the network, in a process of its own."""
    command = [sys.executable, "-B", "-c", CHECK, str(folder), *names]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    found = dict(line.split() for line in ran.stdout.splitlines() if line.startswith("model."))
    for name in names:
        if name not in found:
            reason = (ran.stderr.strip().splitlines() or ["it ended"])[-1][:200]
            raise ExportError(
                f"export: {name} can't be run ({reason}); report it, and use morphs.save meanwhile"
            )
        worst = float(found[name])
        if not worst <= (1e-3 if name.endswith("onnx") else 0.0):
            raise ExportError(
                f"export: {name} differs from the network by {worst:.3g}; use morphs.save meanwhile"
            )
