"""Activation functions of your own: checked once, then used like the ones of the vocabulary."""

import re
from collections.abc import Callable
from math import log10, prod

import torch
from torch import Tensor, nn

from morphs.errors import ActivationError
from morphs.graph.activations import ACTIVATIONS, PRELU, REGISTERED, ActivationTraits, keep
from morphs.graph.codec import OP_BY_KIND
from morphs.textform import JSON_WORDS

NAME = re.compile(r"[A-Za-z_]\w{0,79}", re.ASCII)
NEAR, FAR = 30.0, 1e4  # φ must be finite up to the one, and a number up to the other
HALVINGS = 40  # of the intervals in which a jump is looked for


def register_activation(
    name: str,
    function: Callable[[Tensor], Tensor],
    *,
    idempotent: bool | None = None,
    nonnegative: bool | None = None,
    zero_at_zero: bool | None = None,
) -> None:
    """Make the continuous elementwise `function` usable under `name` in this process.

    From then on graphs, P-activations, moves, text and JSON forms take the name as they take `relu`. A graph
    keeps the name alone: every process that reads it registers the function first, under the same name.

    function: maps a floating tensor of any shape to one of the same shape and type; it has no parameters, and
    other arguments are bound beforehand (`lambda x: F.celu(x, 0.5)`). idempotent: φ(φ(x)) = φ(x), so that a
    move may insert φ itself where φ came before. nonnegative: φ(x) ≥ 0. zero_at_zero: φ(0) = 0. What is left
    out is found on the probe points; False is always safe.

    Raises ActivationError where the name is taken or not valid; where φ, on some thousand points, is found to
    change the shape, to depend on an element's place or neighbours, to draw random numbers, to write into its
    argument, to jump, or to give NaN, infinity or no gradient; and where it contradicts a trait. Registering the
    same function again is allowed.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _refused(name, "it is not a valid name", "give a text")
    if name in REGISTERED and REGISTERED[name] is function:
        return
    _check_name(name)
    try:
        values = _check_values(name, function)
        _check_jumps(name, function)
        _check_gradient(name, function)
    except ActivationError:
        raise
    except Exception as error:
        fact = f"it raised {type(error).__name__} ({' '.join(str(error).split())[:200]})"
        raise _refused(name, fact, "give a function of one tensor") from error
    found = {
        "idempotent": torch.equal(function(values), values),
        "nonnegative": bool((values >= 0).all()),
        "zero_at_zero": not bool(function(torch.zeros(1, dtype=torch.float64)).any()),
    }
    declared = {"idempotent": idempotent, "nonnegative": nonnegative, "zero_at_zero": zero_at_zero}
    for trait, said in declared.items():
        if said and not found[trait]:
            raise _refused(name, f"it is declared {trait} and is not", f"leave out {trait}")
    traits = {trait: found[trait] if said is None else said for trait, said in declared.items()}
    keep(name, function, ActivationTraits((), **traits))


def _refused(name: str, fact: str, remedy: str) -> ActivationError:
    return ActivationError(f"register_activation: {name!s:.80}: {fact}; {remedy}")


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or name in JSON_WORDS:
        raise _refused(name, "it is not a valid name", "use letters, digits and underscores")
    if name in ACTIVATIONS or name in OP_BY_KIND or name == PRELU:
        raise _refused(name, "the name is taken", "choose another name")


def _points(dtype: torch.dtype = torch.float64) -> Tensor:
    """4321 points from −NEAR to NEAR, 0 among them."""
    return torch.arange(-2160, 2161, dtype=dtype) * NEAR / 2160


def _check_values(name: str, function: Callable[[Tensor], Tensor]) -> Tensor:
    """φ of probe points, close ones around 0, in float64 [n]."""
    if isinstance(function, nn.Module) and next(function.parameters(), None) is not None:
        raise _refused(name, "it has parameters", "register a function without any")
    for dtype in (torch.float64, torch.float32):
        near = _points(dtype)
        far = torch.logspace(1, log10(FAR), 20, dtype=dtype)
        _check_elements(name, function, near)
        if not bool(torch.isfinite(function(near.clone())).all()):
            fact = f"it is not finite for some x within ±{NEAR:g}, in {dtype}"
            raise _refused(name, fact, "write it in a stabler form")
        if bool(torch.isnan(function(torch.cat([-far, far]))).any()):
            fact = f"it gives NaN for some x within ±{FAR:g}, in {dtype}"
            raise _refused(name, fact, "write it in a stabler form")
    small = torch.logspace(-15, 0, 200, dtype=torch.float64)
    return function(torch.cat([_points(), small, -small]))


def _check_elements(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Same shape and type, nothing written or drawn; an element's place and neighbours don't matter."""
    given = x.clone()
    whole = _called(name, function, given)
    if not torch.equal(given, x):
        raise _refused(name, "it writes into its argument", "give a function that leaves it alone")
    if not torch.equal(torch.nan_to_num(function(x.clone())), torch.nan_to_num(whole)):
        raise _refused(name, "two calls give two results", "give a function without randomness")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    for shape in ((4320,), (24, 180), (2, 3, 4, 6), (1,)):
        picked = order[: prod(shape)]
        got = _called(name, function, x[picked].reshape(shape))
        if not torch.allclose(got, whole[picked].reshape(shape), rtol=1e-5, atol=1e-6, equal_nan=True):
            fact = "what it makes of an element depends on its place or on others"
            raise _refused(name, fact, "give a function that acts on each element alone")


def _called(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    y = function(x)
    if not isinstance(y, Tensor) or y.shape != x.shape or y.dtype != x.dtype:  # pyright: ignore
        fact = f"it doesn't keep shape {tuple(x.shape)} and {x.dtype}"
        raise _refused(name, fact, "give a function that acts on each element")
    return y


def _check_jumps(name: str, function: Callable[[Tensor], Tensor]) -> None:
    """Halve every interval between probe points towards its larger change: that of a jump stays as it is."""
    points = _points()
    low, high = points[:-1], points[1:]
    first = (function(high.clone()) - function(low.clone())).abs()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        value = function(middle.clone())
        left = (value - function(low.clone())).abs() > (function(high.clone()) - value).abs()
        low, high = torch.where(left, low, middle), torch.where(left, middle, high)
    last = (function(high.clone()) - function(low.clone())).abs()
    floor = 1e-9 * (1 + function(low.clone()).abs())
    jumps = (last > 1e-3 * first) & (last > floor)
    if bool(jumps.any()):
        raise _refused(name, f"it jumps at x = {float(low[jumps][0]):.4g}", "give a continuous function")


def _check_gradient(name: str, function: Callable[[Tensor], Tensor]) -> None:
    x = _points().requires_grad_()
    y = function(x.clone())
    if not y.requires_grad:
        raise _refused(name, "it has no gradient", "write it in differentiable functions")
    (slope,) = torch.autograd.grad(y.sum(), x)
    if not bool(torch.isfinite(slope).all()) or not bool(slope.any()):
        fact = f"its gradient is zero everywhere, or not finite for some x within ±{NEAR:g}"
        raise _refused(name, fact, "write it in a stabler form")
