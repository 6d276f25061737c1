"""Recurrent layers, which return what they write and their last states: as one call that returns the first alone."""

from collections.abc import Iterable

from morphs.graph import ops
from morphs.torch_io.arguments import data, held
from morphs.torch_io.program import Call, Made, Modes, Value, values_in

RECURRENT = "morphs.recurrent.default"
CELLS = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "tanh", "rnn_relu": "relu"}


def with_recurrent(calls: Iterable[Call]) -> list[Call]:
    """The calls, those of recurrent layers of one direction that start at zeros as calls of one result each.

    The last state of the last layer is what it writes at the last token. Where anything else is read of them, or they
    are of another kind, they stay.
    """
    given = [*calls]
    readers: dict[int, list[Call]] = {}
    for call in given:
        for value in {id(value): value for value in call.reads()}.values():
            readers.setdefault(id(value), []).append(call)
    instead: dict[int, list[Call]] = {}
    for call in given:
        if call.name in CELLS and _plain(call):
            instead.update(_replaced(call, readers))
    return [made for call in given for made in instead.get(id(call), (call,))]


def recurrent(call: Call) -> Made:
    """The op of such a call."""
    a = call.args
    source, features = data(a["input"], 2), call.out.shape[-1]
    per, bias = (4, True) if a["has_biases"] else (2, False)
    names = [
        f"{name}_l{layer}"
        for layer in range(a["num_layers"])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[:per]
    ]
    tensors = held(**dict(zip(names, a["params"], strict=True)))
    op = ops.Recurrent(features, a["cell"], a["num_layers"], bias, a["dropout"])
    return Made((op,), (source,), tensors)


def _plain(call: Call) -> bool:
    """Whether it goes one way, from a state of zeros, and drops nothing out in eval mode."""
    a = call.args
    states = [*values_in(a["hx"])]
    train = a["train"]
    quiet = a["dropout"] == 0 or train is False or (isinstance(train, Modes) and not train.eval)
    zeros = all(state.call is not None and state.call.name == "zeros" for state in states)
    projected = call.name == "lstm" and len(a["params"]) % (4 if a["has_biases"] else 2)
    return quiet and zeros and not a["bidirectional"] and not projected and isinstance(a["input"], Value)


def _replaced(call: Call, readers: dict[int, list[Call]]) -> dict[int, list[Call]]:
    """What takes the place of `call` and of those that read it; nothing where something else is read of it."""
    a, found = call.args, dict[int, list[Call]]()
    source, hidden = a["input"], a["params"][1].sizes[-1]
    batch = 0 if a["batch_first"] else 1
    if source.size is None or len(source.size) != 3 or source.size[batch] != -1:
        return {}
    sizes = (*source.size[:2], hidden)
    items = readers.get(id(call.out), [])
    wanted = [item for item in items if item.args["index"] == 0 or readers.get(id(item.out))]
    parts: list[Call] = []
    written = next((item.out for item in wanted if item.args["index"] == 0), Value(sizes, source.dtype))
    for item in wanted:
        if item.args["index"] == 0:
            continue
        if item.args["index"] != 1:
            return {}
        for last in readers[id(item.out)]:
            picks = (
                last.name == "select"
                and last.args["dim"] == 0
                and last.args["index"] in (-1, a["num_layers"] - 1)
            )
            drops = last.name == "squeeze" and last.args.get("dim") == 0 and a["num_layers"] == 1
            if not (picks or drops):
                return {}
            args = {"self": written, "dim": 1 - batch, "index": -1}
            parts.append(Call("aten.select.int", args, last.out, last.scope, 3))
            last.out.call = parts[-1]
            found[id(last)] = [parts[-1]]
    return {**found, **{id(item): [] for item in items}, id(call): _made(call, source, written, sizes)}


def _made(call: Call, source: Value, written: Value, sizes: tuple[int, ...]) -> list[Call]:
    a = call.args
    train, dropout = a["train"], float(a["dropout"])
    args = {
        "params": a["params"], "has_biases": a["has_biases"], "num_layers": a["num_layers"], "cell": CELLS[call.name],
        "dropout": dropout if train is not False and a["num_layers"] > 1 else 0.0,
    }  # fmt: skip
    if a["batch_first"]:
        written.call = Call(RECURRENT, {"input": source, **args}, written, call.scope)
        return [written.call]
    steps: list[Call] = []

    def turned(value: Value, out: Value) -> Value:
        out.call = Call("aten.transpose.int", {"self": value, "dim0": 0, "dim1": 1}, out, call.scope[:-1], 3)
        steps.append(out.call)
        return out

    sizes_first, given = (sizes[1], sizes[0], sizes[2]), source.sizes
    first = turned(source, Value((given[1], given[0], given[2]), source.dtype))
    out = Value(sizes_first, source.dtype)
    out.call = Call(RECURRENT, {"input": first, **args}, out, call.scope)
    steps.append(out.call)
    turned(out, written)
    return steps
