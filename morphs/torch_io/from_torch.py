"""nn.Module → Network, through torch.fx.

N batch, C channels, H height, W width, F features.
"""

import inspect
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from morphs.errors import UnsupportedModule, WeightsError
from morphs.graph.ops import Shape
from morphs.network import Network
from morphs.torch_io.read_layers import check_plain, layer_class
from morphs.torch_io.read_trace import read_trace
from morphs.torch_io.reading import Refused
from morphs.torch_io.trace import Trace, Tracer, module_place, record


def from_torch(module: nn.Module, example_inputs: Tensor | Sequence[Tensor]) -> Network:
    """A copy of `module` as a Network: the same outputs in eval mode and, dropout aside, in train mode.

    `module`: one that torch.fx can trace, made of the layers and calls of the op vocabulary. It is traced as in
    eval mode, whatever its training flags say, so that branches for training alone (auxiliary classifiers) are
    left out; neither its weights nor its flags are touched, and the copy shares no memory with it.
    `example_inputs`: a tensor [N, C, H, W] or [N, F], or one for each positional argument of the forward; they
    give the shapes, and the copy must agree with the module on them.

    Nodes are named after the modules' own paths (`layer1.0.conv1`; `layer0` for the 0 of an unnamed Sequential),
    calls of functions after module and function (`layer1.0.add`), a second use `…_2`. Inputs keep the names of
    the forward's arguments, numbered where their order by name would be another. PReLU becomes a P-activation,
    whose slope a training loop keeps within [0, 1]. A Network is a value without requires_grad: parameters that were
    frozen in `module` are not in the copy's `to_torch()`; freeze them again by their paths.

    Raises UnsupportedModule naming the module or function that can't be expressed, and what to do instead, and
    WeightsError where a tensor isn't finite.
    """
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):  # pyright: ignore
        raise UnsupportedModule(f"from_torch: {_not_a_module(module)}")
    module = getattr(module, "_orig_mod", module)  # of torch.compile
    try:
        examples = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    except TypeError:
        raise UnsupportedModule(
            f"from_torch: example_inputs is a {type(example_inputs).__name__}; give a tensor, or a tuple of tensors"
        ) from None
    sizes = [_size(number, example) for number, example in enumerate(examples, 1)]
    for path, part in module.named_modules():
        if _passes_on(part):
            fact = f"a {type(part).__name__} only passes its calls on to the model in it"
            remedy = f"put {path}.module in its place" if path else "pass module.module"
            raise UnsupportedModule(f"{module_place(path, part)}: {fact}; {remedy}")
        try:
            check_plain(part)
        except Refused as error:
            raise UnsupportedModule(f"{module_place(path, part)}: {error}") from None
    with _in_eval_mode(module), torch.no_grad():
        network = read_trace(_trace(module, len(examples)), sizes)
        if bad := network.nonfinite():
            node, name = bad[0]
            raise WeightsError(
                f'from_torch: tensor {name} of node "{node}" holds NaN or infinity; fix the module first'
            )
        _compare(module, network, examples)
    return network


def _not_a_module(given: object) -> str:
    """What was given in place of a module, and what to give."""
    if isinstance(given, type):
        return f"{given.__name__} is a class; give an instance of it, such as {given.__name__}(…)"
    if isinstance(given, Mapping):
        return f"a {type(given).__name__} has weights alone; load it into its model and give that"
    return f"a {type(given).__name__} is not a Python module; give the nn.Module itself"


def _passes_on(module: nn.Module) -> bool:
    """Whether `module` wraps one model, as DataParallel, DistributedDataParallel and AveragedModel do."""
    if [name for name, _ in module.named_children()] != ["module"]:
        return False
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.kind in kinds for p in inspect.signature(module.forward).parameters.values())


def _size(number: int, example: Any) -> Shape:
    if not isinstance(example, Tensor) or example.dim() not in (2, 4) or not example.numel():
        shape = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise UnsupportedModule(
            f"from_torch: example input {number} is {shape}; give a tensor [N, C, H, W] or [N, F], batch axis included"
        )
    return tuple(example.shape[1:])


@contextmanager
def _in_eval_mode(module: nn.Module) -> Generator[None]:
    """Every training flag off, and afterwards as it was."""
    flags = {part: part.training for part in module.modules()}
    try:
        for part in flags:
            part.training = False
        yield
    finally:
        for part, flag in flags.items():
            part.training = flag


# -- tracing -------------------------------------------------------------------------------------------


def _trace(module: nn.Module, inputs: int) -> Trace:
    """The trace of `module`, its first `inputs` arguments given and the others at their defaults."""
    if layer_class(module) is not None:  # a single layer: nothing to trace into
        module = nn.Sequential(module)
    tracer = Tracer()
    try:
        return record(module, tracer, _defaults(module, inputs))
    except UnsupportedModule:
        raise
    except Exception as error:  # whatever a forward may raise when it meets a proxy
        where = f'module "{tracer.failed}"' if tracer.failed else "the module's forward"
        raise UnsupportedModule(
            f"from_torch: {where} can't be traced ({_one_line(error)}); "
            f"write it without control flow that depends on the data or on types"
        ) from None


def _defaults(module: nn.Module, inputs: int) -> dict[str, Any] | None:
    """The default values of the arguments that no example is given for."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    arguments = [p for p in inspect.signature(module.forward).parameters.values() if p.kind not in kinds]
    needed = [p.name for p in arguments if p.default is p.empty]
    if not len(needed) <= inputs <= len(arguments):
        names = ", ".join(p.name for p in arguments)
        raise UnsupportedModule(
            f"from_torch: the forward takes ({names}) and {inputs} example inputs are given; give one for each tensor"
        )
    return {p.name: p.default for p in arguments[inputs:]} or None


# -- checking ------------------------------------------------------------------------------------------


def _compare(module: nn.Module, network: Network, examples: tuple[Tensor, ...]) -> None:
    """Run both on the examples: a trace can't see what a module does behind it."""
    state = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    kind = state[0] if state else torch.zeros(())
    given = [example.to(device=kind.device, dtype=kind.dtype) for example in examples]
    try:
        expected = module(*(example.clone() for example in given))
    except Exception as error:  # whatever a forward may raise
        raise UnsupportedModule(
            f"from_torch: the module itself fails on the example inputs ({_one_line(error)}); give inputs it takes"
        ) from None
    got = network.to_torch().eval().to(kind.device)(*given)
    same = tuple(got.shape) == tuple(expected.shape)
    if same and bool(torch.isfinite(expected).all()):  # there is nothing to compare with otherwise
        rounding = torch.finfo(expected.dtype).eps ** 0.5
        same = bool((got - expected).abs().max() <= rounding * expected.abs().max())
    if not same:
        raise UnsupportedModule(
            "from_torch: the module computes something that its trace doesn't show; take randomness, state and "
            "code outside of torch out of its forward"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
