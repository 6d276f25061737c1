"""The latencies that a search for a front of latency goes by: measured once, then kept in the run."""

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
    """What ops take, where the run's policy asks for it: as the run that is replayed has it, or the one that
    `--latency-from` names, else measured now, in this process.

    Raises RunError where that run has none, UserError where the children's device is not here.
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
            f"latency: the driver measures it, and has no {config.device}; begin where there is one, or take the "
            "table of a run that did with --latency-from RUN"
        )
    with threads(config.threads):
        table = measure(plan.space.seed.to_json(), plan.policy.neighbourhood, config.device)
    return table.to_json()


def _latencies_of(run: Path) -> Table:
    from nas.policies.latency_table import table_from

    table: Any = read(run).notes.latency
    remedy = "name a run with --objective latency"
    if table is None:
        raise RunError(f"latency: {run} has measured none; {remedy}")
    try:
        table_from(table)
    except (TypeError, ValueError, LookupError, AttributeError):
        raise RunError(f"latency: the table of {run} is none of this program's; {remedy}") from None
    return table


def priced(plan: Plan, ledger: Ledger, table: Table | None) -> Plan:
    """The plan whose policy goes by `table`, which the ledger keeps from here on; as it is where there is none."""
    if table is None or not isinstance(plan.policy, Pareto):
        return plan
    from nas.policies.latency_table import table_from

    if ledger.notes.latency is None:
        ledger.note(Note.LATENCY, dict(table))
    return replace(plan, policy=replace(plan.policy, cost=table_from(table).seconds))
