"""Every exception of the engine, in one tree.

    NasError
    ├── UserError              wrong input: the command line prints its one line and exits with code 2
    │   ├── DataError          a data set is missing, unreadable or nonsense
    │   └── RunError           a bad run folder, a locked run, a changed configuration
    │       └── LedgerDamaged  the record of a run or one of its checkpoints is not what was written
    ├── TrainingFailed         a child diverged (NaN, Inf)
    └── Refused                what was asked for would not come to the same bits here

Every message is one line: fact, place, remedy.
"""


class NasError(Exception):
    """Root of everything the engine raises on purpose."""


class UserError(NasError):
    """Wrong input."""


class DataError(UserError):
    """A data set is missing, unreadable or nonsense."""


class RunError(UserError):
    """A run folder is bad, locked, or belongs to another configuration."""


class LedgerDamaged(RunError):
    """The record of a run, or one of its checkpoints, is not what was written."""


class TrainingFailed(NasError):
    """A child diverged."""


class Refused(NasError):
    """What was asked for would not come to the same bits here."""
