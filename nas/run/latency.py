"""The latency table of a search with the latency objective: measured once, then kept in the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas.base.errors import RunError, UserError
from nas.base.machine import threads
from nas.ledger import Ledger, read
from nas.ledger.notes import Latencies, Note
from nas.policies.front import LATENCY
from nas.policies.pareto import Pareto
from nas.run.plan import Plan
from nas.run.replay import Replay


def latencies(plan: Plan, again: Replay | None = None) -> Latencies | None:
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
    return table.latencies


def _latencies_of(run: Path) -> Latencies:
    table = read(run).notes.latency
    if table is None:
        raise RunError(f"latency: {run} has no latency table; name a run with --objective latency")
    return table


def priced(plan: Plan, ledger: Ledger, table: Latencies | None) -> Plan:
    """`plan` with a policy that uses `table`, which is stored in the ledger; unchanged where there is no table."""
    if table is None or not isinstance(plan.policy, Pareto):
        return plan
    from nas.policies.latency_table import table_from

    if ledger.notes.latency is None:
        ledger.note(Note.LATENCY, dict(table))
    return replace(plan, policy=replace(plan.policy, cost=table_from(table).seconds))
