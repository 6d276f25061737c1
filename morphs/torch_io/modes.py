"""One program for both modes: what is the same in eval and in train mode, and what differs by an argument."""

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from morphs.torch_io.chance import DROPOUTS
from morphs.torch_io.functional import Misplaced
from morphs.torch_io.program import Call, Modes, Program, Value, mapped, values_in
from morphs.torch_io.reading import Refused

FLAGS = {"dropout": "train", "feature_dropout": "train", "alpha_dropout": "train", "feature_alpha_dropout": "train",
         "batch_norm": "training", "instance_norm": "use_input_stats",
         "lstm": "train", "gru": "train", "rnn_tanh": "train", "rnn_relu": "train"}  # fmt: skip
FLAGGED = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)  # pyright: ignore[reportPrivateUsage]


def flagged(program: Program, live: Mapping[str, bool]) -> list[Call]:
    """Give the layers of torch that are on in train mode alone both values of their flags.

    live: of each module, whether it is in training when the whole is. Returns the calls with a flag that belong to
    no such layer: what those do in train mode must be looked at.
    """
    unsure: list[Call] = []
    for call in program.calls:
        name = FLAGS.get(call.name)
        if name is None or call.args[name] is not False:
            continue
        if not call.frame.cls.startswith("torch.nn.modules."):
            unsure.append(call)
        elif live[call.frame.path]:
            call.args[name] = Modes(False, True)
    return unsure


def merged(evaluated: Program, trained: Program) -> Program:
    """The program of train mode, its arguments giving both values where the modes differ.

    Stochastic depth, which eval mode leaves out, becomes a call of its own. Raises Misplaced for anything else that
    one mode does and the other doesn't.
    """
    return _Merge(evaluated, trained).run()


def aligned_outputs(evaluated: Program, trained: Program) -> bool:
    """Cut what train mode alone returns, if it comes after what eval mode returns. Whether anything was cut."""
    if len(trained.outputs) <= len(evaluated.outputs):
        return False
    trained.outputs, trained.form = trained.outputs[: len(evaluated.outputs)], evaluated.form
    return True


class _Merge:
    def __init__(self, evaluated: Program, trained: Program) -> None:
        self.evaluated, self.trained = evaluated, trained
        self.twin: dict[int, Value] = {}  # of a value in train mode, that in eval mode
        self.instead: dict[int, Value] = {}  # of a value in train mode, the one in the result
        self.calls: dict[Any, list[Call]] = {}
        for mine, other in zip(trained.inputs, evaluated.inputs, strict=True):
            self.twin[id(mine)] = other
        self.copies: dict[int, Value] = {}  # of a value in eval mode, what it copies
        for call in evaluated.live():
            if _copies(call):
                self.copies[id(call.out)] = self._source(call.args["self"])
                continue
            self.calls.setdefault(self._key(call, lambda value: value), []).append(call)

    def _key(self, call: Call, find: Any) -> Any:
        """What two calls must have in common, whatever their other arguments are."""
        return call.target, tuple(self._identity(find(value)) for value in values_in(call.args))

    def _source(self, value: Value) -> Value:
        return self.copies.get(id(value), value)

    def _identity(self, value: Value | None) -> Any:
        if value is None:
            return None
        source = self._source(value)
        return source.key or id(source)

    def _find(self, value: Value) -> Value | None:
        return value if value.key else self.twin.get(id(value))

    def run(self) -> Program:
        calls: list[Call] = []
        for call in self.trained.live():
            if _copies(call) and (source := self._find(call.args["self"])) is not None:
                self.twin[id(call.out)] = source
                call.args = mapped(call.args, lambda value: self.instead.get(id(value), value))
                calls.append(call)
                continue
            twin = self._twin(call)
            if twin is not None:
                self.twin[id(call.out)] = twin.out
                args = {name: _both(twin.args[name], value) for name, value in call.args.items()}
                call.args = mapped(args, lambda value: self.instead.get(id(value), value))
                calls.append(call)
            elif (path := self._drop_path(call) or self._dropout(call)) is not None:
                calls.append(path)
        for mine, other in zip(self.trained.outputs, self.evaluated.outputs, strict=True):
            if self._identity(self._find(mine)) != self._identity(other):
                self._refuse()
        kept = {id(call.out) for call in calls}
        result = Program(self.trained.inputs, self.trained.tensors, calls, form=self.trained.form)
        result.constants = self.trained.constants
        result.outputs = [self.instead.get(id(value), value) for value in self.trained.outputs]
        for call in calls:
            if any(not v.key and not v.name and id(v) not in kept for v in call.reads()):
                self._refuse()
        return result

    def _twin(self, call: Call) -> Call | None:
        """The first call of eval mode that does the same, or differs by arguments that aren't tensors."""
        if any(self._find(value) is None for value in call.reads()):
            return None
        candidates = self.calls.get(self._key(call, self._find), [])
        candidates = [c for c in candidates if c.out.size == call.out.size and _comparable(c, call)]
        equal = [c for c in candidates if all(_alike(c.args[n], call.args[n]) for n in call.args)]
        chosen = equal[0] if equal else candidates[0] if candidates else None
        if chosen is not None:
            self.calls[self._key(call, self._find)].remove(chosen)
        return chosen

    def _dropout(self, call: Call) -> Call | None:
        """A dropout that eval mode doesn't even call."""
        source = (
            self._find(call.args["input"]) if call.name in DROPOUTS and call.args["train"] is True else None
        )
        if source is None:
            return None
        self.twin[id(call.out)] = source
        call.args = mapped(call.args, lambda value: self.instead.get(id(value), value))
        call.args["train"] = Modes(False, True)
        return call

    def _drop_path(self, call: Call) -> Call | None:
        """x times a mask of one number for each example, drawn by a chance that no tensor decides."""
        if call.name != "mul" or not isinstance(call.args["other"], Value):
            return None
        source, noise = cast(Value, call.args["self"]), call.args["other"]
        twin, drawn, scale = self._find(source), noise.call, None
        if drawn is not None and drawn.name == "div":
            scale, drawn = drawn.args["other"], drawn.args["self"].call
        if (
            twin is None
            or drawn is None
            or drawn.name != "bernoulli"
            or not isinstance(drawn.args.get("p"), float)
        ):
            return None
        keep, size = drawn.args["p"], noise.size or (0,)
        if any(n != 1 for n in size[1:]) or len(size) != len(source.size or ()) or size[0] not in (1, -1):
            return None
        if scale not in (None, keep) or call.out.size != source.size:
            return None
        self.twin[id(call.out)] = twin
        p = next((p for p in (round(1 - keep, 12), 1 - keep) if 1 - p == keep), 1 - keep)
        args = {"self": self.instead.get(id(source), source), "p": p, "mode": "batch" if size[0] == 1 else "row",
                "scaled": scale is not None}  # fmt: skip
        made = Call("morphs.drop_path", args, Value(source.size, source.dtype), call.scope)
        made.out.call = made
        self.instead[id(call.out)] = made.out
        return made

    def _refuse(self) -> None:
        """Raise for the first call of train mode that eval mode has no counterpart of."""
        alone = [c for c in self.trained.live() if self._find(c.out) is None]
        deciding = [c for c in alone if any(self._find(v) is not None and not v.key for v in c.reads())]
        call = next(iter(deciding or alone), None)
        error = Refused(
            "what it does in train mode and in eval mode is not the same, and a copy does one thing; take it out of "
            "the forward, or pass modes='eval' to copy what eval mode does"
        )
        raise Misplaced(call.name if call else "return", call.scope if call else (), error)


def _copies(call: Call) -> bool:
    """Whether it is the same numbers in memory of another layout, which the two modes may need at different places."""
    source = call.args.get("self")
    alike = isinstance(source, Value) and (source.size, source.dtype) == (call.out.size, call.out.dtype)
    return alike and call.name in ("contiguous", "clone")


def _both(evaluated: Any, trained: Any) -> Any:
    return trained if _alike(evaluated, trained) else Modes(_plain(evaluated), _plain(trained))


def _comparable(one: Call, other: Call) -> bool:
    """Whether the arguments that differ hold no tensors."""
    return all(_alike(one.args[n], value) or not [*values_in(value)] for n, value in other.args.items())


def _alike(one: Any, other: Any) -> bool:
    """Whether two arguments are equal, tensors aside."""
    return _plain(one) == _plain(other)


def _plain(value: Any) -> Any:
    return mapped(value, lambda _: None)
