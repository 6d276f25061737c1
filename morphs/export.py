"""A network in a folder for those who have torch and no morphs: source, weights, torch.export's file, ONNX.

Each is run in a process of its own and compared with the network before it is announced.
"""

import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from morphs.errors import ExportError
from morphs.examples import random_inputs
from morphs.graph.activations import REGISTERED
from morphs.network import Network
from morphs.torch_io.source import model_source

CHECK = """
import sys, torch
from pathlib import Path
kind, folder = sys.argv[1], Path(sys.argv[2])
held = torch.load(folder / "examples.pt", weights_only=True)
given, wanted = held["given"], held["wanted"]
if kind == "model.py":
    import importlib.util
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
        got = module.load()(*given)
elif kind == "model.pt2":
    with torch.no_grad():
        got = torch.export.load(folder / "model.pt2").module()(*given)
else:
    import onnxruntime
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    got = [torch.from_numpy(value) for value in session.run(None, dict(zip(names, (x.numpy() for x in given))))]
leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(got) if isinstance(leaf, torch.Tensor)]
worst = 0.0
for one, other in zip(wanted, leaves, strict=True):
    assert one.shape == other.shape and one.dtype == other.dtype, (one.shape, other.shape, one.dtype, other.dtype)
    if one.is_floating_point():
        worst = max(worst, float((one - other).abs().max() / one.abs().max().clamp(min=1e-30)))
    else:
        assert torch.equal(one, other)
print(worst)
"""


def export(
    network: Network,
    folder: str | os.PathLike[str],
    examples: Tensor | Sequence[Tensor] | None = None,
    onnx: bool = False,
) -> tuple[Path, ...]:
    """Write model.py with weights.safetensors, model.pt2 and, if asked for, model.onnx into a new or empty folder.

    model.py needs torch alone: `load()` returns an nn.Module whose state_dict is that of `network.to_torch()`.
    examples: a tensor [N, ...] for each input, by default standard normal ones; on them each file, run in a process
    of its own, must return in eval mode what the network does: bit for bit, ONNX within 1e-3 of the largest output.
    onnx: needs the packages onnx, onnxscript and onnxruntime.

    Returns the files' paths. Raises ExportError naming the file that computes something else or can't be made, or
    where the folder is in use.
    """
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ExportError(f"export: {place} is in use; name a new or an empty folder")
    for node in network.graph:
        if getattr(node.op, "fn", None) in REGISTERED:
            raise ExportError(
                f'export: node "{node.name}" uses a registered activation, whose code no file would hold; '
                "use morphs.save"
            )
    given = _examples(network, examples)
    module = network.to_torch().eval()
    place.parent.mkdir(parents=True, exist_ok=True)
    stage = place.parent / f".export-{secrets.token_hex(6)}"
    stage.mkdir()
    try:
        with torch.no_grad():
            returned = module(*(x.clone() for x in given))
        wanted = [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]
        torch.save({"given": list(given), "wanted": wanted}, stage / "examples.pt")
        names = _write(network, module, given, stage, onnx)
        for name in names:
            if name != "weights.safetensors":
                _check(name, stage)
        (stage / "examples.pt").unlink()
        place.mkdir(exist_ok=True)
        for entry in stage.iterdir():
            entry.rename(place / entry.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return tuple(place / name for name in names)


def _examples(network: Network, examples: Tensor | Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    if examples is not None:
        return (examples,) if isinstance(examples, Tensor) else tuple(examples)
    generator = torch.Generator().manual_seed(0)
    return random_inputs(network.graph, 2, generator, network.dtype)


def _write(
    network: Network, module: nn.Module, given: tuple[Tensor, ...], stage: Path, onnx: bool
) -> list[str]:
    (stage / "model.py").write_text(model_source(network.graph, dict(network.state_keys())), encoding="utf-8")
    state = {**dict(module.named_buffers()), **module.state_dict()}
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, stage / "weights.safetensors")
    names = ["model.py", "weights.safetensors", "model.pt2"]
    batch = {0: torch.export.Dim.AUTO}
    try:
        program = torch.export.export(module, given, dynamic_shapes=tuple(batch for _ in given))
        torch.export.save(program, stage / "model.pt2")
        if onnx:
            lacking = [
                p for p in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(p) is None
            ]
            if lacking:
                raise ExportError(f"export: ONNX needs {', '.join(lacking)}; install them, or leave out onnx")
            torch.onnx.export(program, (), str(stage / "model.onnx"), dynamo=True, verbose=False)
            names.append("model.onnx")
    except ExportError:
        raise
    except Exception as error:  # whatever the exporters of torch may raise
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"export: torch can't export the network ({reason}); use model.py of morphs.save"
        ) from None
    return names


def _check(name: str, stage: Path) -> None:
    """Raise ExportError where the file does something else than the network, in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-B", "-c", CHECK, name, str(stage)], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        reason = (ran.stderr.strip().splitlines() or ["it ended"])[-1][:200]
        raise ExportError(f"export: {name} can't be run ({reason}); report it, and use morphs.save meanwhile")
    worst = float(ran.stdout.split()[-1])
    if not worst <= (1e-3 if name.endswith("onnx") else 0.0):
        raise ExportError(
            f"export: {name} differs from the network by {worst:.3g}; use morphs.save meanwhile"
        )
