"""The durable record of a run: trials, checkpoints, and the digest of what was decided."""

from nas.ledger.config_file import ConfigFile, current_versions, read_config
from nas.ledger.ledger import Ledger
from nas.ledger.reading import examine, read, read_with_curves
from nas.ledger.store import Store
from nas.ledger.types import Job, Reached, Result, TrialRecord, job_from, reached_from, result_from
from nas.ledger.view import LedgerView

__all__ = [
    "ConfigFile",
    "Job",
    "Ledger",
    "LedgerView",
    "Reached",
    "Result",
    "Store",
    "TrialRecord",
    "current_versions",
    "examine",
    "job_from",
    "reached_from",
    "read",
    "read_config",
    "read_with_curves",
    "result_from",
]
