"""torch.export of a module, with any batch size, in eval and in train mode; the module is left as it was."""

import inspect
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from morphs.errors import UnsupportedModule
from morphs.torch_io.layers import Attention

OWN = "morphs.torch_io."
NOT_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))  # code that no user wrote
CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Examples:
    """What a forward is called with: tensors by place, and by name."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def tensors(self) -> list[Tensor]:
        """All of them, in order."""
        return [*self.args, *self.kwargs.values()]

    def mapped(self, change: Any) -> "Examples":
        """With each tensor changed."""
        return Examples(
            tuple(map(change, self.args)), {key: change(value) for key, value in self.kwargs.items()}
        )


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Generator[Mapping[str, bool]]:
    """The module in eval or train mode, as its own `train` has it; which of its parts are then in training, by path."""
    flags = {part: part.training for part in module.modules()}
    frozen = {parameter: parameter.requires_grad for parameter in module.parameters()}
    try:
        if training:
            module.train()
        else:
            for part in flags:
                part.training = False
        yield {path: part.training for path, part in module.named_modules(remove_duplicate=False)}
    finally:
        for part, flag in flags.items():
            part.training = flag
        for parameter, flag in frozen.items():
            parameter.requires_grad_(flag)


@contextmanager
def _without_averages(module: nn.Module) -> Generator[None]:
    """Batch norms that average all batches compute their momentum from a count, which can't be traced."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._NormBase)]  # pyright: ignore
    changed = [part for part in norms if part.momentum is None]
    try:
        for part in changed:
            part.momentum = 0.1
        yield
    finally:
        for part in changed:
            part.momentum = None


def exported(module: nn.Module, examples: Examples) -> ExportedProgram:
    """The program of `module` in the mode that it is in, for batches of any size.

    torch.fx is asked where export fails, and what it made exported. Raises UnsupportedModule with the reason and the
    line of the user's code.
    """
    try:
        with _without_averages(module):
            return _export(module, examples)
    except Exception as error:  # whatever a forward may raise when it meets symbolic tensors
        try:
            return _export(fx.symbolic_trace(module), examples)
        except Exception:
            raise UnsupportedModule(f"from_torch: {_reason(error)}") from None


def _export(module: nn.Module, examples: Examples) -> ExportedProgram:
    batch = {0: Dim.AUTO}
    signature = inspect.signature(module.forward)
    shapes: dict[str, Any] = {}
    for name, held in signature.bind(*examples.args, **examples.kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            shapes[name] = tuple(batch for _ in held)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            shapes[name] = dict.fromkeys(held, batch)
        else:
            shapes[name] = batch
    return torch.export.export(
        module, examples.args, dict(examples.kwargs), dynamic_shapes=shapes, strict=False
    )


def _reason(error: Exception) -> str:
    """Why export failed, in one line: what was raised, and the line of the module's code."""
    text = str(error).split("\n\n")[0]
    text = " ".join(text.split())[:160] or type(error).__name__
    own = [frame for frame in _frames(error) if not frame[0].startswith(("<", *NOT_OURS))]
    place = ""
    if own:
        file, line, function = own[-1]
        place = f" at {Path(file).name}, line {line}, in {function}"
    return f"torch.export can't trace the forward ({text}){place}; write it without control flow that depends on data"


def _frames(error: Exception) -> list[tuple[str, int, str]]:
    """File, line and function of each call that led to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    return [(frame.filename, frame.lineno or 0, frame.name) for frame in frames]


def may_differ(module: nn.Module) -> bool:
    """Whether code of this module or a part, other than torch's layers, asks for the mode, as far as the code shows."""
    return any(_asks(part) for part in module.modules())


def _asks(part: nn.Module) -> bool:
    name = f"{type(part).__module__}.{type(part).__qualname__}"
    if isinstance(part, fx.GraphModule):
        return "training" in part.code
    if isinstance(part, Attention):
        return part.dropout.p > 0
    if name.startswith(OWN):
        return name == f"{OWN}layers.DropPath" or (
            name == f"{OWN}aten_call.AtenCall" and "train" in part.extra_repr()
        )
    if name.startswith("torch.nn.modules.") and "forward" not in vars(part):
        return type(part) not in CONTAINERS and next(part.children(), None) is not None
    try:
        return any(
            "training" in inspect.getsource(cls) for cls in type(part).__mro__ if not _of_torch(cls)
        ) or ("forward" in vars(part))
    except (OSError, TypeError):
        return True


def _of_torch(cls: type) -> bool:
    return cls is object or cls.__module__.startswith("torch.")
