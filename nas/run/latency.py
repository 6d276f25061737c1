"""The latency table of a search with the latency objective: measured once, then kept in the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.base.errors import RunError, UserError
from nas.base.machine import threads
from nas.ledger import Ledger, read
from nas.ledger.notes import Note
from nas.policies.front import LATENCY
from nas.policies.pareto import Pareto
from nas.run.plan import Plan
from nas.run.replay import Replay

Table = Mapping[str, Any]  # LatencyTable.to_json


def latencies(plan: Plan, again: Replay | None = None) -> Table | None:
    """The latency table of ops; None if the run's policy needs none. It is taken from the replayed run or the run that
    `--latency-from` names, else measured now, in this process.

    Raises RunError when that run has no table, UserError when this machine lacks the children's device.
    """
    config = plan.config
    if not isinstance(plan.policy, Pareto) or config.policy_settings.get("objective") != LATENCY:
        return None
    source = config.policy_settings.get("latency_from")
    if again is not None and again.latency is not None:
        return again.latency
    if source is not None:
        return _latencies_of(Path(str(source)))
    import torch

    from nas.policies.latency_table import measure

    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"latency: the driver measures it, and has no {config.device}; start on a machine that has one, or use "
            "the table of such a run with --latency-from RUN"
        )
    with threads(config.threads):
        table = measure(plan.space.seed.to_json(), plan.policy.neighbourhood, config.device)
    return table.to_json()


def _latencies_of(run: Path) -> Table:
    from nas.policies.latency_table import table_from

    table: Any = read(run).notes.latency
    remedy = "name a run with --objective latency"
    if table is None:
        raise RunError(f"latency: {run} has no latency table; {remedy}")
    try:
        table_from(table)
    except (TypeError, ValueError, LookupError, AttributeError):
        raise RunError(f"latency: the table of {run} can't be read; {remedy}") from None
    return table


def priced(plan: Plan, ledger: Ledger, table: Table | None) -> Plan:
    """`plan` with a policy that uses `table`, which is stored in the ledger; unchanged where there is no table."""
    if table is None or not isinstance(plan.policy, Pareto):
        return plan
    from nas.policies.latency_table import table_from

    if ledger.notes.latency is None:
        ledger.note(Note.LATENCY, dict(table))
    return replace(plan, policy=replace(plan.policy, cost=table_from(table).seconds))
