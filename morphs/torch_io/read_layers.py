"""Torch modules as ops: the layer table of `layers`, read backwards.

C channels, F features, K kernel.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from morphs.graph import ops
from morphs.graph.ops import Op, Pair, Shape
from morphs.torch_io import read_calls as calls
from morphs.torch_io.layers import ACTIVATION_MODULES, Lerp, PActivation, RegisteredActivation, Scale
from morphs.torch_io.reading import Memory, OpChain, Ref, Refused, pair
from morphs.torch_io.reading import tensor as readable


def _conv2d(module: nn.Conv2d) -> Op:
    kernel, dilation = pair(module.kernel_size), pair(module.dilation)
    return ops.Conv2d(
        int(module.out_channels),
        kernel,
        pair(module.stride),
        _padding(module.padding, kernel, dilation),
        module.padding_mode,  # pyright: ignore[reportArgumentType]  # one of torch's four, which are ours
        dilation,
        int(module.groups),
        module.bias is not None,
    )


def _padding(padding: Any, kernel: Pair, dilation: Pair) -> Pair:
    if padding == "valid":
        return (0, 0)
    if padding != "same":
        return pair(padding)
    (top, odd_h), (left, odd_w) = (divmod(d * (k - 1), 2) for k, d in zip(kernel, dilation, strict=True))
    if odd_h or odd_w:
        raise Refused(
            f"padding='same' pads kernel {kernel} unevenly; use an odd kernel, or give the padding in pixels"
        )
    return (top, left)


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d) -> Op:
    tracked: Any = module.running_mean
    weight: Any = module.weight
    bias: Any = module.bias
    if module.track_running_stats != (tracked is not None):
        raise Refused(
            "track_running_stats was changed after it was built; build it with the value it should have"
        )
    if (weight is None) != (bias is None):
        raise Refused("it has one of weight and bias; build it with affine=True or affine=False")
    momentum = None if module.momentum is None else float(module.momentum)
    return ops.BatchNorm(float(module.eps), momentum, weight is not None, tracked is not None)


def _p_activation(module: PActivation) -> Op:
    made = read_layer(module.phi, Ref("phi", (1,))).ops
    phi = made[0] if made else None
    if not isinstance(phi, ops.Activation):
        raise Refused(f"its phi is a {type(module.phi).__name__}; use an activation function")
    return ops.PActivation(phi.fn, phi.args, module.a.dim() == 1)


WITH_TENSORS: Mapping[type[nn.Module], Callable[[Any], Op]] = {
    nn.Conv2d: _conv2d,
    nn.Linear: lambda module: ops.Linear(int(module.out_features), module.bias is not None),
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.PReLU: lambda module: ops.PActivation("relu", per_channel=module.num_parameters > 1),
    PActivation: _p_activation,
    Scale: lambda module: ops.Scale(module.weight.dim() == 1),
    Lerp: lambda module: ops.Lerp(module.a.dim() == 1),
    RegisteredActivation: lambda module: ops.Activation(module.activation_name),
}

# read as the function of the same name, with the module's attributes
AS_CALLS: Mapping[type[nn.Module], Callable[..., OpChain]] = {
    **{cls: calls.activation(fn) for fn, cls in ACTIVATION_MODULES.items()},
    nn.LeakyReLU: calls.leaky_relu,
    nn.ELU: calls.elu,
    nn.GELU: calls.gelu,
    nn.Softplus: calls.softplus,
    nn.Hardtanh: calls.hardtanh,
    nn.MaxPool2d: calls.max_pool2d,
    nn.AvgPool2d: calls.avg_pool2d,
    nn.AdaptiveAvgPool2d: calls.adaptive_avg_pool2d,
    nn.AdaptiveMaxPool2d: calls.adaptive_max_pool2d,
    nn.Flatten: calls.flatten,
    nn.Dropout: calls.dropout,
    nn.Identity: lambda input: OpChain((), (input,), Memory.SAME),
}

REMEDIES: Mapping[str, str] = {
    "SyncBatchNorm": "use nn.BatchNorm2d instead",
    "Softmax": "leave it to the loss",
    "LogSoftmax": "leave it to the loss",
    "Dropout2d": "use nn.Dropout",
    "Conv1d": "use nn.Conv2d",
}


def layer_class(module: nn.Module) -> type[nn.Module] | None:
    """The class of the vocabulary that `module` is, or derives from without computing anything else."""
    cls = type(module)
    for base in cls.__mro__:
        if base in WITH_TENSORS or base in AS_CALLS:
            same = all(
                getattr(cls, name, None) is getattr(base, name, None)
                for name in ("forward", "__call__", "_conv_forward")
            )
            return base if same and "forward" not in vars(module) else None
    return None


def read_layer(module: nn.Module, input: Ref, *others: Ref) -> OpChain:
    """What `module` does with `input`, and the `others`. Raises Refused for what the vocabulary lacks."""
    cls = layer_class(module)
    if cls is None:
        remedy = REMEDIES.get(type(module).__name__, "replace it, or leave the part that holds it outside")
        raise Refused(f"such a layer is not in the vocabulary; {remedy}")
    if len(others) != (cls is Lerp):
        raise Refused(f"it is called with {1 + len(others)} arguments; call it with one tensor")
    if cls in WITH_TENSORS:
        return OpChain((WITH_TENSORS[cls](module),), tuple(readable(ref) for ref in (input, *others)))
    reader = AS_CALLS[cls]
    wanted = [name for name in inspect.signature(reader).parameters if name != "input"]
    given = {name: getattr(module, name) for name in wanted if hasattr(module, name)}
    return reader(readable(input), **given)


def read_tensors(module: nn.Module, op: Op, shape: Shape) -> dict[str, Tensor]:
    """The parameters and buffers of `module` under the names that `op` has for them, for an input of `shape`."""
    found: dict[str, Tensor] = {}
    for name, param in op.params((shape,)).items():
        tensor: Any = getattr(module, "weight" if isinstance(module, nn.PReLU) else name, None)
        if tensor is None or tensor.is_meta:
            raise Refused(f"its {name} holds no numbers; load its weights first")
        if param.shape == () and tensor.numel() == 1:
            tensor = tensor.reshape(())
        if tuple(tensor.shape) != param.shape:
            raise Refused(
                f"its {name} has shape {tuple(tensor.shape)}, where an input of shape {shape} wants {param.shape}; "
                f"give example_inputs of the shape it is made for"
            )
        found[name] = tensor
    return found


def check_plain(module: nn.Module) -> None:
    """Refuse a module that computes more than its layers say: hooks, parametrisations, weights yet to come."""
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():  # pyright: ignore
        raise Refused("it has no weights yet; call the module once")
    if module._forward_hooks or module._forward_pre_hooks:  # pyright: ignore[reportPrivateUsage]
        raise Refused(
            "it has a forward hook, which a copy would lack; remove the hook (or prune, weight_norm) first"
        )
    if parametrize.is_parametrized(module):
        raise Refused(
            "its weights are parametrised; call torch.nn.utils.parametrize.remove_parametrizations first"
        )
