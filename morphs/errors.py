"""Every exception of morphs, in one tree.

    MorphError
    ├── GraphError             a graph breaks a rule of well-formedness (names node and rule)
    │   ├── ShapeError         an op can't take the tensors it is given
    │   └── CodecError         a text or JSON is not a graph
    ├── ActivationError        a function can't be registered as an activation
    ├── WeightsError           weights are missing, have the wrong shape, are not finite, or can't be made
    ├── LimitsError            limits are not positive numbers (a ValueError too)
    ├── MoveError
    │   ├── ParseError         a text is not a move, or options are not its menu
    │   ├── IllegalMove        the move can't be applied at this site
    │   │   └── NoFactoring    no exact factoring with these channels and kernels exists
    │   ├── LimitExceeded      the child would break a limit
    │   ├── NeedsData          the move looks at data and was given none, or too little
    │   └── DriftExceeded      the child does not compute what the move declares
    ├── ExportError            a network can't be exported
    ├── ContractBroken         a move does not keep the contract of moves
    └── UnsupportedModule      a torch module that can't be copied

and one warning, TrainingOutputs: a module returns more in train mode than its copy does.

Every message is one line: fact, place, remedy.
"""


class MorphError(Exception):
    """Root of everything morphs raises on purpose."""


class GraphError(MorphError):
    """A graph breaks a rule of well-formedness."""


class ShapeError(GraphError):
    """An op can't take the tensors it is given."""


class CodecError(GraphError):
    """A text or JSON document is not a graph."""


class ActivationError(MorphError):
    """A function can't be registered as an activation."""


class WeightsError(MorphError):
    """Weights are missing, superfluous, of the wrong shape, not finite, or can't be made."""


class LimitsError(MorphError, ValueError):
    """Limits are not positive numbers."""


class MoveError(MorphError):
    """A move can't be read or applied."""


class ParseError(MoveError):
    """A text is not a move, or options are not its menu."""


class IllegalMove(MoveError):
    """The move can't be applied at this site."""


class NoFactoring(IllegalMove):
    """No exact factoring with these channels and kernels exists."""


class LimitExceeded(MoveError):
    """The child would break a limit."""


class NeedsData(MoveError):
    """The move looks at data and was given none, or too little."""


class DriftExceeded(MoveError):
    """The child does not compute what the move declares."""


class ExportError(MorphError):
    """A network can't be exported, or what was written computes something else."""


class ContractBroken(MorphError):
    """A move does not keep the contract of moves; see `morphs.testing`."""


class UnsupportedModule(MorphError):
    """A torch module that can't be copied."""


class TrainingOutputs(UserWarning):
    """A module returns more in train mode than its copy does."""
