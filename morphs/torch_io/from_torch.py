"""nn.Module → Network, through torch.export.

N batch, C channels, H height, W width, F features.
"""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Literal, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.lazy import LazyModuleMixin

from morphs.errors import TrainingOutputs, UnsupportedModule, WeightsError
from morphs.network import Network
from morphs.torch_io.build import Source, read_network
from morphs.torch_io.compare import compare
from morphs.torch_io.export import Examples, exported, in_mode, may_differ
from morphs.torch_io.functional import Misplaced, read_program
from morphs.torch_io.modes import aligned_outputs, flagged, merged
from morphs.torch_io.names import TAKEN
from morphs.torch_io.program import Frame, Program
from morphs.torch_io.reading import Refused
from morphs.torch_io.to_torch import NAMES


def from_torch(
    module: nn.Module,
    example_inputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    modes: Literal["both", "eval"] = "both",
) -> Network:
    """A copy of `module` as a Network: the same outputs in eval and in train mode.

    `module`: one that torch.export takes, for batches of any size. What the op vocabulary has no op for is kept as an
    `aten` op, an operator of PyTorch by name; channels next to it can't be morphed. Neither the module's weights nor
    its flags are touched, and the copy shares no memory with it. `example_inputs`: a tensor [N, C, H, W] or
    [N, F], or one for each positional argument of the forward, or a mapping of arguments' names to tensors; they give
    the shapes, and the copy must agree with the module on them, in both modes and to the bit, but for rounding where
    memory is laid out otherwise. modes: "eval" to copy what the module does in eval mode alone; its dropouts and
    batch norms still follow the mode.

    Nodes are named after the modules' own paths (`layer1.0.conv1`; `layer0` for the 0 of an unnamed Sequential),
    calls of functions after module and function (`layer1.0.add`), a second use `…_2`. Inputs are named after
    the forward's arguments, with `input1_` and so on before them where their order by name would be another;
    `to_torch()` and the export call the arguments by their names again. PReLU becomes a P-activation.
    Parameters keep the names and the order that they have in `module`, which the copy's `to_torch()` has too. A
    Network is a value without requires_grad: parameters that were frozen in `module` are not in the copy's
    `to_torch()`; freeze them again by their paths. Records that are dictionaries come back as plain dictionaries.

    Warns TrainingOutputs where train mode returns more than eval mode does (auxiliary classifiers), which is left out.
    Raises UnsupportedModule naming the module or function that can't be expressed, and what to do instead, and
    WeightsError where a tensor isn't finite.
    """
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):  # pyright: ignore
        raise UnsupportedModule(f"from_torch: {_not_a_module(module)}")
    module = getattr(module, "_orig_mod", module)  # of torch.compile
    _check_plain(module)
    if next(module.children(), None) is None and type(module).__module__.startswith("torch.nn.modules."):
        module = nn.Sequential(module)  # a single layer: a node is named after its place in something
    examples = _examples(module, example_inputs)
    source = _source(module)
    inputs = _input_names(module, examples)
    differs = modes == "both" and may_differ(module)
    # Its code may ask for the mode where nobody expects it.
    modes_read = (differs, True) if modes == "both" and not differs else (differs,)
    refused, attends = None, False
    for both, attention in product(modes_read, (True, False)):
        if not attention and not attends:
            continue  # there is no attention, whose rounding some networks amplify
        network = _copied(module, examples, source, inputs, both, attention)
        attends = any(node.op.kind == "attention" for node in network.graph)
        refused = _difference(module, network, examples, modes)
        if refused is None:
            return network
    assert refused is not None
    raise refused


def _copied(
    module: nn.Module, examples: Examples, source: Source, inputs: list[str], differs: bool, attention: bool
) -> Network:
    """attention: attention that is spelled out is read as attention."""
    program = _program(module, examples, differs)
    try:
        network = read_network(
            program, replace(source, tensors={**program.constants, **source.tensors}), inputs, attention
        )
    except Misplaced as error:
        raise _placed(error) from None
    if bad := network.nonfinite():
        node, name = bad[0]
        raise WeightsError(
            f'from_torch: tensor {name} of node "{node}" holds NaN or infinity; fix the module first'
        )
    return network


def _difference(
    module: nn.Module, network: Network, examples: Examples, modes: str
) -> UnsupportedModule | None:
    """What the copy computes otherwise; None if nothing."""
    device = next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    copy = network.to_torch().to(device)
    try:
        for training in (False, True) if modes == "both" else (False,):
            compare(module, copy, examples, training)
    except UnsupportedModule as error:
        return error
    return None


# -- the program ---------------------------------------------------------------------------------------


def _program(module: nn.Module, examples: Examples, differs: bool) -> Program:
    """What the module does, in both modes; train mode is traced where its code may ask for it."""
    try:
        with in_mode(module, True) as live:
            pass
        with in_mode(module, False):
            program = read_program(exported(module, examples))
        _check_written(program, {})
        _canonical(program, module)
        _check_norms(program, module)
        if differs:
            with in_mode(module, True):
                trained = read_program(exported(module, examples))
            _canonical(trained, module)
            _check_norms(trained, module)
            _check_written(trained, live)
            if aligned_outputs(program, trained):
                kept = len(program.outputs)
                warnings.warn(
                    f"from_torch: in train mode the module returns more than the {kept} tensors of eval mode, which "
                    "are left out; add such heads to the copy again where you need them",
                    TrainingOutputs,
                    stacklevel=3,
                )
            program = merged(program, trained)
        else:
            flagged(program, live)
    except Misplaced as error:
        raise _placed(error) from None
    except Refused as error:
        raise UnsupportedModule(f"from_torch: the module's forward: {error}") from None
    return program


def _canonical(program: Program, module: nn.Module) -> None:
    """Give a tensor that the module holds under several keys the first of them."""
    first: dict[int, str] = {}
    named = (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    for key, tensor in (pair for pairs in named for pair in pairs):
        first.setdefault(id(tensor), key)
    where = {
        key: first[id(tensor)]
        for pairs in (
            module.named_parameters(remove_duplicate=False),
            module.named_buffers(remove_duplicate=False),
        )
        for key, tensor in pairs
    }
    for value in program.tensors.values():
        value.key = where.get(value.key, value.key)


def _check_written(program: Program, live: Mapping[str, bool]) -> None:
    """Refuse a forward that changes the module's state otherwise than by counting the batches of its norms."""
    norms = {call.frame.path for call in program.calls if call.name == "batch_norm"}
    for key, path in program.written.items():
        if not (live and key.endswith(".num_batches_tracked") and path in norms):
            mode = "train" if live else "eval"
            raise Refused(
                f'in {mode} mode it writes to its tensor "{key}", which a copy would not; leave that outside'
            )


def _check_norms(program: Program, module: nn.Module) -> None:
    """Batch norms that average over all batches have None for their momentum, which no trace shows."""
    for call in program.calls:
        norm: Any = module.get_submodule(call.frame.path)
        if call.name != "batch_norm" or not isinstance(norm, nn.modules.batchnorm._BatchNorm):  # pyright: ignore
            continue
        if norm.track_running_stats != (norm.running_mean is not None):
            fact = (
                "track_running_stats was changed after it was built; build it with the value it should have"
            )
            raise Misplaced(call.name, call.scope, Refused(fact))
        if norm.momentum is None:
            call.args["momentum"] = None


def _placed(error: Misplaced) -> UnsupportedModule:
    where = (
        f'module "{error.scope[-1].path}"' if error.scope and error.scope[-1].path else "the module's forward"
    )
    kind = f" ({_short(error.scope[-1])})" if error.scope and error.scope[-1].path else ""
    remedy = "" if "; " in str(error) else "; write it otherwise, or leave the part outside"
    return UnsupportedModule(f"from_torch: function {error.name} in {where}{kind}: {error}{remedy}")


def _short(frame: Frame) -> str:
    return frame.cls.rpartition(".")[2]


# -- what is given -------------------------------------------------------------------------------------


def _examples(module: nn.Module, given: Any) -> Examples:
    """The examples in the module's type, at least two of each."""
    if isinstance(given, Mapping):
        args, kwargs = (), dict(cast(Mapping[str, Any], given))
    elif isinstance(given, Tensor):
        args, kwargs = (given,), {}
    else:
        try:
            args, kwargs = tuple(given), {}
        except TypeError:
            raise UnsupportedModule(
                f"from_torch: example_inputs is a {type(given).__name__}; give a tensor, or a tuple of tensors"
            ) from None
    places = {name: place for place, name in enumerate(inspect.signature(module.forward).parameters)}
    kwargs = dict(sorted(kwargs.items(), key=lambda pair: places.get(pair[0], len(places))))
    for name, example in (*enumerate(args, 1), *((f'"{name}"', example) for name, example in kwargs.items())):
        _check_example(name, example)
    _check_lengths([len(example) for example in (*args, *kwargs.values())])
    _check_arguments(module, len(args), kwargs)
    kind = next(
        (t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()), torch.zeros(())
    )

    def fitting(example: Tensor) -> Tensor:
        dtype = kind.dtype if example.is_floating_point() else example.dtype
        example = example.detach().to(device=kind.device, dtype=dtype)
        return torch.cat([example, example]) if len(example) == 1 else example

    return Examples(args, kwargs).mapped(fitting)


def _check_example(name: int | str, example: Any) -> None:
    if isinstance(example, (Mapping, list, tuple)):
        raise UnsupportedModule(
            f"from_torch: example input {name} is a {type(example).__name__}, and each argument must be a tensor; give "
            "a module around it that takes the tensors one by one"
        )
    if not isinstance(example, Tensor) or example.dim() < 1 or not example.numel() or example.is_complex():
        shape = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        kind = f" of {example.dtype}" if isinstance(example, Tensor) and example.is_complex() else ""
        raise UnsupportedModule(
            f"from_torch: example input {name} is {shape}{kind}; give a real tensor such as [N, C, H, W] or [N, F], "
            "batch axis included"
        )
    if example.is_meta or example.layout is not torch.strided or example.is_quantized:
        kind = "on the meta device" if example.is_meta else "quantized" if example.is_quantized else "sparse"
        raise UnsupportedModule(
            f"from_torch: example input {name} is {kind}; give a dense tensor of numbers, which the module is run on"
        )


def _check_lengths(lengths: list[int]) -> None:
    if len(set(lengths)) > 1:
        raise UnsupportedModule(
            f"from_torch: the example inputs hold {' and '.join(map(str, lengths))} examples; give as many for each, "
            "along the first axis"
        )


def _check_arguments(module: nn.Module, given: int, named: Mapping[str, Any]) -> None:
    """Refuse examples by names that the forward doesn't have, or too few, or too many."""
    parameters = [*inspect.signature(module.forward).parameters.values()]
    kinds = {p.kind for p in parameters}
    single = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    names = [p.name for p in single]
    unknown = [] if inspect.Parameter.VAR_KEYWORD in kinds else [name for name in named if name not in names]
    left = [p.name for p in single[given:] if p.default is p.empty and p.name not in named]
    known = ", ".join(names) or "nothing"
    if unknown:
        raise UnsupportedModule(
            f'from_torch: the forward has no argument "{unknown[0]!s:.80}"; it takes {known}: give a mapping of these '
            "to tensors, or a tuple of tensors in this order"
        )
    if left and named:
        raise UnsupportedModule(
            f'from_torch: the example inputs lack "{left[0]}"; the forward takes {known}: give one for each tensor'
        )
    most = given if inspect.Parameter.VAR_POSITIONAL in kinds else len(names)
    if left or given > most or not given + len(named):
        raise UnsupportedModule(
            f"from_torch: the forward takes ({', '.join(names)}) and {given + len(named)} example inputs are given; "
            "give one for each tensor"
        )


def _input_names(module: nn.Module, examples: Examples) -> list[str]:
    parameters = [*inspect.signature(module.forward).parameters.values()]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names += [f"input{number}" for number in range(len(names) + 1, len(examples.args) + 1)]
    return [*names[: len(examples.args)], *examples.kwargs]


def _source(module: nn.Module) -> Source:
    tensors: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    for key, tensor in module.named_parameters(remove_duplicate=False):
        tensors[key], kinds[key] = tensor, "parameter"
    persistent = module.state_dict(keep_vars=True)
    for key, tensor in module.named_buffers(remove_duplicate=False):
        tensors[key], kinds[key] = tensor, "buffer" if key in persistent else "constant"
    dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.get_default_dtype())
    order = (*persistent, *(key for key in tensors if key not in persistent))
    names = module.meta.get(NAMES, {}) if isinstance(module, fx.GraphModule) else {}
    return Source(module, tensors, kinds, order, names, dtype)


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


def _check_plain(module: nn.Module) -> None:
    """Refuse what a copy would lack: hooks, weights yet to come, weights without numbers, names that it uses itself."""
    held = (
        module.named_children(),
        module.named_parameters(recurse=False),
        module.named_buffers(recurse=False),
    )
    taken = next((name for pairs in held for name, _ in pairs if name in TAKEN), None)
    if taken is not None:
        raise UnsupportedModule(
            f'from_torch: the module has a part called "{taken}", as traced modules of PyTorch call one of their own; '
            "rename it, or put the module into another: torch.nn.Sequential(module)"
        )
    for path, part in module.named_modules():
        fact = _lacking(part)
        if _passes_on(part):
            remedy = f"put {path}.module in its place" if path else "pass module.module"
            fact = f"a {type(part).__name__} only passes its calls on to the model in it; {remedy}"
        if fact is not None:
            name = f'module "{path}" ({type(part).__name__})' if path else "the module itself"
            raise UnsupportedModule(f"from_torch: {name}: {fact}")


def _lacking(part: nn.Module) -> str | None:
    if isinstance(part, LazyModuleMixin) and part.has_uninitialized_params():  # pyright: ignore
        return "it has no weights yet; call the module once"
    if part._forward_hooks or part._forward_pre_hooks:  # pyright: ignore[reportPrivateUsage]
        return "it has a forward hook, which a copy would lack; remove the hook (or prune, weight_norm) first"
    if part._backward_hooks or part._backward_pre_hooks:  # pyright: ignore[reportPrivateUsage]
        return "it has a backward hook, which a copy would lack; remove the hook first"
    if isinstance(part, torch.jit.ScriptModule):
        return (
            "it is compiled by torch.jit, whose code can't be read; use the Python module that it was made of"
        )
    if type(part).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")):
        return "its weights are quantized, which no op of a copy is; use the float module"
    for name, tensor in part.named_buffers(recurse=False):
        if tensor.is_meta:
            return f"its {name} holds no numbers; load its state first"
        if tensor.is_complex():
            return f"its {name} is complex, which no op of a copy is; use real numbers"
    for name, tensor in part.named_parameters(recurse=False):
        if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
            return f"its {name} has a hook, which a copy would lack; remove the hook first"
        if tensor.is_meta:
            return f"its {name} holds no numbers; load its weights first"
        if tensor.is_complex():
            return f"its {name} is complex, which no op of a copy is; use real weights"
    return None
