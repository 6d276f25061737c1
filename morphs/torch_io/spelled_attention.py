"""Attention that a forward spells out: softmax(scale · q kᵀ + mask) v as one call, but for rounding.

h heads, T queries, S keys, D numbers of each.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

from morphs.torch_io.lazy import EXPANDED, RESHAPES, lengths, maker, permutation
from morphs.torch_io.program import Call, Modes, Reads, Value

PRODUCTS = {"matmul": ("self", "other"), "bmm": ("self", "mat2"), "baddbmm": ("batch1", "batch2")}


@dataclass(frozen=True)
class Scores:
    """scale · query keyᵀ + mask, query [N, h, T, D] or [N·h, T, D]. blocked: the mask tells which are left out."""

    query: Value
    key: Value
    scale: float
    mask: Value | None = None
    blocked: bool = False


def with_attention(calls: Iterable[Call], read: Reads) -> list[Call]:
    """The calls, attention that is spelled out as one of `scaled_dot_product_attention`, unless its weights are wanted;
    keys and values that are repeated for several queries as grouped ones.

    What it was made of is left there, for whoever else reads it.
    """
    return [_grouped(made) for call in calls for made in _attention(call, read) or (call,)]


def _grouped(call: Call) -> Call:
    """Attention whose keys and values are repeated as attention of fewer ones, each shared by some queries."""
    if call.name != "scaled_dot_product_attention" or call.args["enable_gqa"]:
        return call
    (key, times), (value, again) = (_unrepeated(call.args[name]) for name in ("key", "value"))
    if times == again > 1:
        call.args = {**call.args, "key": key, "value": value, "enable_gqa": True}
    return call


def _unrepeated(value: Value) -> tuple[Value, int]:
    """What a value [N, h, T, D] repeats, head by head, and how often; itself and 1 where it repeats nothing."""
    made, sizes = maker(value), value.sizes
    if made is None or len(sizes) != 4:
        return value, 1
    a = made.args
    if made.name == "repeat_interleave" and isinstance(a.get("repeats"), int) and a["dim"] in (1, -3):
        return a["self"], a["repeats"]
    spread = maker(a["self"]) if made.name in RESHAPES else None
    once = maker(spread.args["self"]) if spread is not None and spread.name in EXPANDED else None
    if spread is None or once is None or once.name != "unsqueeze":
        return value, 1
    source, wide = once.args["self"], spread.out.sizes
    same = len(wide) == 5 and source.sizes == (*wide[:2], *wide[3:]) and once.out.sizes[2] == 1
    return (source, wide[2]) if same and sizes == (wide[0], wide[1] * wide[2], *wide[3:]) else (value, 1)


def _attention(call: Call, read: Reads) -> list[Call]:
    """The calls for a product of attention weights with values; none for other calls."""
    if call.name not in ("matmul", "bmm"):
        return []
    weights, value = (call.args[name] for name in PRODUCTS[call.name])
    made, dropped = _dropout(maker(weights))
    if made is None or read[id(weights)] > 1 or read[id(made.out)] > 1:
        return []
    if made.name != "softmax" or made.args["dim"] not in (-1, len(made.out.sizes) - 1):
        return []
    scores = _scores(made.args["self"])
    if scores is None or made.args.get("dtype") is not None:
        return []
    leading = {tensor.sizes[:-2] for tensor in (scores.query, scores.key, value, call.out)}
    heads = _heads(scores.query.sizes)
    if len(leading) > 1 or heads is None or not scores.query.dtype == scores.key.dtype == value.dtype:
        return []
    if scores.mask is not None and not _shared(scores.mask, heads):
        return []
    return _Writer(call).calls(scores, value, heads, dropped)


def _heads(sizes: tuple[int, ...]) -> int | None:
    """The number of heads of a query; None where its leading axes aren't the batch and the heads."""
    if len(sizes) == 4 and sizes[0] == -1 and sizes[1] > 0:
        return sizes[1]
    return -sizes[0] if len(sizes) == 3 and sizes[0] < 0 else None


def _shared(mask: Value, heads: int) -> bool:
    """Whether all heads have the same mask [(N or 1,) (h or 1,) T, S] or [N·h or 1, T, S]; others have no op."""
    sizes, made = mask.sizes, mask.call
    apart = sizes[1:2] if len(sizes) == 4 else sizes[:1] if len(sizes) == 3 else (1,)
    if heads == 1 or apart == (1,):
        return True
    if made is None:
        return False
    if made.name == "add":
        return all(
            isinstance(one, Value) and _shared(one, heads) for one in (made.args["self"], made.args["other"])
        )
    source = made.args.get("self")
    return (
        (made.name in RESHAPES or made.name in EXPANDED)
        and isinstance(source, Value)
        and _shared(source, heads)
    )


def _dropout(made: Call | None) -> tuple[Call | None, Any]:
    """What a dropout reads, and its probability as an argument; the call itself and 0 where it is none."""
    if made is None or made.name != "dropout":
        return made, 0.0
    train, p = made.args["train"], made.args["p"]
    if isinstance(train, Modes) and (train.eval, train.train) == (False, True):
        return maker(made.args["input"]), Modes(0.0, p)
    return (maker(made.args["input"]), 0.0) if train is False else (None, 0.0)


def _scores(value: Value) -> Scores | None:
    """What is under the softmax; the mask comes last, over products that are scaled already."""
    made = maker(value)
    if made is None:
        return None
    a = made.args
    if made.name == "masked_fill" and a["value"] == float("-inf") and isinstance(a["mask"], Value):
        return _masked(_product(a["self"]), a["mask"], blocked=True)
    if made.name == "add" and a.get("alpha", 1) == 1:
        found = _masked(_product(a["self"]), a["other"])
        return found or _masked(_product(a["other"]), a["self"])
    return _product(value)


def _masked(scores: Scores | None, mask: Any, blocked: bool = False) -> Scores | None:
    """Scores that had no mask with one: of numbers of their type, or of places that are blocked."""
    if scores is None or scores.mask is not None or not isinstance(mask, Value):
        return None
    fits = mask.dtype == (torch.bool if blocked else scores.query.dtype)
    return replace(scores, mask=mask, blocked=blocked) if fits else None


def _product(value: Any) -> Scores | None:
    """A product of queries with keys, scaled by numbers before or after; of `baddbmm` with the mask that it adds."""
    value, scale = _unscaled(value)
    made = maker(value)
    if made is None or made.name not in PRODUCTS:
        return None
    query, turned = (made.args[name] for name in PRODUCTS[made.name])
    (query, first), (turned, second) = _unscaled(query), _unscaled(turned)
    flip, rank = maker(turned), len(turned.sizes)
    if flip is None or rank < 3 or permutation(flip) != [*range(rank - 2), rank - 1, rank - 2]:
        return None
    key, third = _unscaled(flip.args["self"])
    added = made.args.get("beta", 1) if made.name == "baddbmm" else 0
    factor = made.args.get("alpha", 1)
    scores = Scores(query, key, scale * factor * first * second * third)
    if added == 0:
        return scores
    return _masked(scores, made.args["self"]) if added == scale == 1 else None


def _unscaled(value: Value) -> tuple[Value, float]:
    """What a value is a multiple of, and by which number."""
    made, scale = maker(value), 1.0
    while made is not None and made.name in ("mul", "div") and made.args.get("rounding_mode") is None:
        source, number = made.args["self"], made.args["other"]
        if not isinstance(source, Value) or not isinstance(number, (int, float)) or number == 0:
            break
        scale = scale * number if made.name == "mul" else scale / number
        value, made = source, maker(source)
    return value, scale


class _Writer:
    """Writes the calls that come in the place of `call`, one after the other."""

    def __init__(self, call: Call) -> None:
        self.call, self.written = call, list[Call]()

    def calls(self, scores: Scores, value: Value, heads: int, dropped: Any) -> list[Call]:
        """The attention, and the views around it where the heads are folded into the batch."""
        folded = len(value.sizes) == 3
        q, k, v = (
            self._apart(tensor, heads) if folded else tensor for tensor in (scores.query, scores.key, value)
        )
        mask = scores.mask
        if mask is not None and folded and len(mask.sizes) == 3:
            first = mask.sizes[0]
            mask = (
                self._apart(mask, heads) if first == -heads else self._view(mask, (first, 1, *mask.sizes[1:]))
            )
        if mask is not None and scores.blocked:
            mask = self._emit("aten.logical_not.default", {"self": mask}, mask.sizes, mask)
        args = {
            "query": q, "key": k, "value": v, "attn_mask": mask, "dropout_p": dropped, "is_causal": False,
            "scale": scores.scale, "enable_gqa": False,
        }  # fmt: skip
        size = (*q.sizes[:-1], v.sizes[-1])
        if not folded:
            self._finish("aten.scaled_dot_product_attention.default", args, 3)
        else:
            made = self._emit("aten.scaled_dot_product_attention.default", args, size, q)
            self._finish("aten.view.default", {"self": made, "size": lengths(self.call.out.sizes)}, 2)
        return self.written

    def _apart(self, value: Value, heads: int) -> Value:
        """[N·h, …] as [N, h, …]."""
        return self._view(value, (-1, heads, *value.sizes[1:]))

    def _view(self, value: Value, size: tuple[int, ...]) -> Value:
        return self._emit("aten.view.default", {"self": value, "size": lengths(size)}, size, value)

    def _emit(self, target: str, args: dict[str, Any], size: tuple[int, ...], like: Value) -> Value:
        out = Value(size, like.dtype)
        out.call = Call(target, args, out, self.call.scope, len(args))
        self.written.append(out.call)
        return out

    def _finish(self, target: str, args: dict[str, Any], positional: int) -> None:
        """The last call, which writes what the replaced one wrote."""
        out = self.call.out
        out.call = Call(target, args, out, self.call.scope, positional)
        self.written.append(out.call)
