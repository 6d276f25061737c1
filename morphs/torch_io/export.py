"""torch.export of a module, with any batch size, in eval and in train mode; the module is left as it was."""

import inspect
import io
import logging
import re
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.func import functional_call

from morphs.errors import UnsupportedModule
from morphs.torch_io.layers import Attention

OWN = "morphs.torch_io."
NOT_OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))  # code that no user wrote
STANDARD = sysconfig.get_paths()["stdlib"]
NOISY = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
SYMBOL = re.compile(r"\bs\d+\b")  # how export writes the number of examples
SHORTEST, LONGEST = (
    2,
    2**15,
)  # examples in a batch: export takes two for granted; torch's kernels have bounds of theirs
RECURRENT = r"The tensor attributes? (self\.\S*_flat_weights\[\d+\],? )+w"  # which torch's own layers assign
LONG = 160  # characters of a reason
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
    line of the user's code: also where the module does something else for larger batches.
    """
    try:
        with _without_averages(module), _quiet():
            program = _export(module, examples)
    except Exception as error:  # whatever a forward may raise when it meets symbolic tensors
        check_runs(module, examples)
        try:
            with _quiet():
                program = _export(fx.symbolic_trace(module), examples)
        except Exception:
            raise UnsupportedModule(f"from_torch: {_reason(error)}") from None
    _check_lengths(program)
    return program


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
    with recurrent_layers_allowed():
        return torch.export.export(
            module, examples.args, dict(examples.kwargs), dynamic_shapes=shapes, strict=False
        )


@contextmanager
def recurrent_layers_allowed() -> Generator[None]:
    """Export warns of what torch's own recurrent layers assign to themselves, which does no harm."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", RECURRENT)
        yield


@contextmanager
def _quiet() -> Generator[None]:
    """Export prints and logs at length what it then raises; what it says where it raises nothing is passed on."""
    loggers = [logging.getLogger(name) for name in NOISY]
    flags = [logger.disabled for logger in loggers]
    held = io.StringIO()
    try:
        for logger in loggers:
            logger.disabled = True
        with redirect_stderr(held):
            yield
        if held.getvalue():
            sys.stderr.write(held.getvalue())
    finally:
        for logger, flag in zip(loggers, flags, strict=True):
            logger.disabled = flag


def _check_lengths(program: ExportedProgram) -> None:
    """Raise UnsupportedModule where the program is one for batches of some lengths only."""
    for symbol, known in program.range_constraints.items():
        lower, upper = known.lower, known.upper
        if str(symbol).startswith("s") and (lower > SHORTEST or upper < LONGEST):
            lengths = f"{lower} examples and more" if upper >= LONGEST else f"{lower} to {upper} examples"
            raise UnsupportedModule(
                f"from_torch: the forward does this only for batches of {lengths}, and something else for others, "
                "which a copy would not; let it not depend on the number of examples"
            )


def check_runs(module: nn.Module, examples: Examples) -> Any:
    """What `module` returns for the examples, its buffers left alone.

    Raises UnsupportedModule, with the line of the user's code, where it fails on them.
    """
    buffers = {name: tensor.clone() for name, tensor in module.named_buffers()}
    return run_with(module, buffers, examples)


def run_with(module: nn.Module, buffers: Mapping[str, Tensor], examples: Examples) -> Any:
    """As `check_runs`, writing into `buffers`."""
    given = examples.mapped(torch.clone)
    try:
        with torch.no_grad():
            return functional_call(module, dict(buffers), given.args, dict(given.kwargs))
    except Exception as error:  # whatever a forward may raise
        names = ["" for _ in examples.args] + [f'"{name}" ' for name in examples.kwargs]
        sizes = ", ".join(
            f"{name}{list(t.shape)} of {str(t.dtype).removeprefix('torch.')}"
            for name, t in zip(names, examples.tensors(), strict=True)
        )
        mode = "train" if module.training else "eval"
        raise UnsupportedModule(
            f"from_torch: the module itself fails on the example inputs, {sizes}, in {mode} mode ({_short(error)})"
            f"{_place(error)}; give inputs that it takes"
        ) from None


def _reason(error: Exception) -> str:
    """Why export failed, in one line: what was raised, the line of the module's code, and what to do there."""
    text = _short(error)
    if any(function == "_detect_is_causal_mask" for _, _, function in _frames(error)):
        text = "torch's transformer looks at the values of a mask to find out whether it is causal"
        remedy = "say so beside the mask: is_causal=, tgt_is_causal=, True or False"
    elif "data-dependent" in text or "DataDependent" in type(error).__name__:
        text = "it decides by the values of a tensor"
        remedy = "write it without control flow that depends on data, with torch.where for example"
    elif "numpy" in text:
        remedy = "compute with torch alone"
    elif "not a known type" in text:
        kind = re.search(r"<class '([^']*)'>", text)
        text = f"it returns a {kind[1] if kind else 'value'}"
        remedy = "let it return tensors, in tuples, lists or dictionaries"
    elif SYMBOL.search(text):
        text = SYMBOL.sub("B", text)
        remedy = "leave the number of examples B open: x.shape[0], or -1"
    else:
        remedy = "write that line otherwise, or leave the part outside the module"
    return f"torch.export can't trace the forward ({text}){_place(error)}; {remedy}"


def _short(error: Exception) -> str:
    text = f"no key {error}" if isinstance(error, KeyError) else str(error)
    text = " ".join(text.split("\n\n")[0].split())
    return (text if len(text) <= LONG else f"{text[:LONG]}…") or type(error).__name__


def _place(error: Exception) -> str:
    """The last line of code that is neither torch's, nor Python's, nor ours."""
    own = [frame for frame in _frames(error) if not _foreign(frame[0])]
    if not own:
        return ""
    file, line, function = own[-1]
    return f" at {Path(file).name}, line {line}, in {function}"


def _foreign(file: str) -> bool:
    ours = file.startswith(("<", *NOT_OURS))
    return ours or (file.startswith(STANDARD) and "site-packages" not in file)


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
