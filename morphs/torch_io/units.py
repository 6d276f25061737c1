"""morphs' own layers, each read as the one op that it is, whatever calls its forward makes."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from morphs.graph import ops
from morphs.graph.activations import ACTIVATIONS
from morphs.graph.ops import Op
from morphs.torch_io import layers
from morphs.torch_io.program import Call, Frame, Made, Program, Value
from morphs.torch_io.reading import Refused

OWN = "morphs.torch_io."
UNIT = "morphs.unit"


def _p_activation(module: layers.PActivation) -> Op:
    phi = module.phi
    names = {cls: fn for fn, cls in layers.ACTIVATION_MODULES.items()}
    if isinstance(phi, layers.RegisteredActivation):
        return ops.PActivation(phi.activation_name, (), module.a.dim() == 1, module.axis)
    fn = names.get(type(phi))
    if fn is None or not _usual(phi, fn):
        raise Refused(
            f"its phi is a {type(phi).__name__}; use an activation function with its usual settings"
        )
    wanted = ACTIVATIONS[fn].args
    given = tuple(float(getattr(phi, name)) for name, _ in wanted)
    usual = tuple(default for _, default in wanted)
    return ops.PActivation(fn, () if given == usual else given, module.a.dim() == 1, module.axis)


def _usual(phi: nn.Module, fn: str) -> bool:
    """Whether the attributes of φ's module that are no argument of the op are as torch makes them."""
    arguments = {name for name, _ in ACTIVATIONS[fn].args} | {"inplace", "training"}
    plain = vars(type(phi)())
    return all(value == plain[name] for name, value in vars(phi).items() if name not in arguments and name in plain
               and isinstance(value, (int, float, str)))  # fmt: skip


UNITS: Mapping[str, Callable[[Any], Op]] = {
    "PActivation": _p_activation,
    "Scale": lambda module: ops.Scale(module.weight.dim() == 1, module.axis),
    "Lerp": lambda module: ops.Lerp(module.a.dim() == 1, module.axis),
    "RegisteredActivation": lambda module: ops.Activation(module.activation_name),
    "Projection": lambda module: ops.Projection(module.weight.shape[1], module.bias is not None),
    "Sum": lambda module: ops.Add(),
    "Product": lambda module: ops.Multiply(),
    "Join": lambda module: ops.Concat(module.axis if module.axis < 0 else module.axis - 1),
}


def unit_of(scope: tuple[Frame, ...]) -> Frame | None:
    """The frame of one of our layers, if a call belongs to one."""
    return next((f for f in scope if f.cls.startswith(OWN) and f.cls.rpartition(".")[2] in UNITS), None)


def with_units(program: Program) -> list[Call]:
    """The live calls, those of each call of one of our layers drawn together in one."""
    calls = program.live()
    groups: dict[Frame, list[Call]] = {}
    for call in calls:
        if (frame := unit_of(call.scope)) is not None:
            groups.setdefault(frame, []).append(call)
    result: list[Call] = []
    for call in calls:
        frame = unit_of(call.scope)
        if frame is None:
            result.append(call)
        elif groups[frame][-1] is call:
            inside = {id(one.out) for one in groups[frame]}
            reads = [v for one in groups[frame] for v in one.reads() if id(v) not in inside]
            given = [value for value in reads if not value.key]
            tensors = {v.key.rpartition(".")[2]: v for v in reads if v.key.rpartition(".")[0] == frame.path}
            at = next(i for i, f in enumerate(call.scope) if f is frame or f == frame)
            args = {"tensors": given, "held": tensors}
            made = Call(UNIT, args, call.out, call.scope[: at + 1])
            call.out.call = made
            result.append(made)
    return result


def read_unit(call: Call, module: nn.Module) -> Made:
    """What one of our layers is."""
    op = UNITS[call.frame.cls.rpartition(".")[2]](module)
    given: list[Value] = call.args["tensors"]
    if op.arity[1] is not None:
        given = list(dict.fromkeys(given)) if len(given) > op.arity[1] else given
        given = given[: op.arity[1]] if len(given) >= op.arity[1] else given * op.arity[1]
    return Made((op,), tuple(given), call.args["held"])
