"""Every exception of the engine, in one tree.

    NasError
    ├── UserError              wrong input; the command line prints the message and exits with code 2
    │   ├── DataError          a data set is missing, unreadable or invalid
    │   └── RunError           a bad run folder, a locked run, a changed configuration
    │       └── LedgerDamaged  the ledger or a checkpoint differs from what was written
    ├── TrainingFailed         a child diverged (NaN, Inf)
    └── Refused                the request would not reproduce the same bits on this machine

Every message is one line: fact, place, remedy.
"""

from nas.base.text import printable


class NasError(Exception):
    """Base class of all errors that the engine raises. Its text is printable, whatever it quotes."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UserError(NasError):
    """Wrong input."""


class DataError(UserError):
    """A data set is missing, unreadable or invalid."""


class RunError(UserError):
    """A run folder is bad, locked, or belongs to another configuration."""


class LedgerDamaged(RunError):
    """The ledger of a run, or one of its checkpoints, differs from what was written."""


class TrainingFailed(NasError):
    """A child diverged."""


class Refused(NasError):
    """The request would not reproduce the same bits on this machine."""
