"""Makes a user's policy and checks that it keeps the contract of a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from morphs import MOVES, Limits, Move, graph_from_json, parse_chain
from morphs.errors import MorphError
from nas.base.errors import UserError
from nas.base.user_code import where_raised
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.files import canonical_json
from nas.policies.policy import Forgets, Policy, Proposal

if TYPE_CHECKING:
    from nas.policies.entry import PolicyContext


@dataclass(frozen=True)
class OwnPolicy:
    """A user's policy. Its exceptions and invalid answers become a UserError of one line."""

    name: str
    policy: Any
    generational: bool
    limits: Limits
    moves: tuple[type[Move], ...] = MOVES  # all moves that it may use

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        """The policy's proposals, checked. Raises UserError if one can't be performed."""
        answer = self._asked("propose", lambda: self.policy.propose(view, seed))
        if not isinstance(answer, Sequence) or isinstance(answer, str):
            raise self._broken("propose", f"returned {_kind(answer)}, not a list of Proposal")
        proposals = list[Any](cast("Sequence[Any]", answer))
        taken = {record.key for record in view.trials}
        for proposal in proposals:
            fault = _fault(proposal, view, taken, self.limits, self.moves)
            if fault is not None:
                raise self._broken("propose", fault)
            taken.add(proposal.key)
        if len({proposal.generation for proposal in proposals}) > 1:
            raise self._broken("propose", "returned proposals of more than one generation")
        return proposals

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The policy's incumbent. Raises UserError if it is not a complete trial of the search."""
        answer = self._asked("incumbent", lambda: self.policy.incumbent(view))
        if not any(answer is record or answer == record for record in view.searched):
            said = f"trial {answer.key}" if isinstance(answer, TrialRecord) else _kind(answer)
            raise self._broken("incumbent", f"returned {said}, not a complete trial of the search")
        return answer

    def possible_parents(self, view: LedgerView) -> Sequence[TrialRecord]:
        """The policy's answer if it has this method; else every trial."""
        trials = view.searched
        if not isinstance(self.policy, Forgets):
            return trials
        answer = self._asked("possible_parents", lambda: tuple(self.policy.possible_parents(view)))
        for record in answer:
            if record not in trials:
                said = f"trial {record.key}" if isinstance(record, TrialRecord) else _kind(record)
                raise self._broken("possible_parents", f"names {said}, not a complete trial of the search")
        return answer

    def _asked(self, what: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as error:  # a user's code may raise anything
            raise self._broken(what, f"failed ({where_raised(error)})") from error

    def _broken(self, what: str, fact: str) -> UserError:
        return UserError(f"policy {self.name}: {what} {fact}; fix the policy, then start or resume the run")


def own_policy(name: str, make: Callable[..., Any], context: PolicyContext) -> Policy:
    """The policy that a user's `make` returns when called with (config, sampler). name: the policy's name in errors.

    Raises UserError if the result is not a policy.
    """
    try:
        made = make(context.config, context.sampler)
    except Exception as error:
        raise UserError(
            f"policy {name}: calling it with (config, sampler) failed ({where_raised(error)}); fix it"
        ) from error
    lacking = [what for what in ("propose", "incumbent") if not callable(getattr(made, what, None))]
    if lacking:
        raise UserError(f"policy {name}: {_kind(made)} has no method {lacking[0]}; see nas.Policy")
    generational = getattr(made, "generational", None)
    if not isinstance(generational, bool):
        raise UserError(f"policy {name}: generational is {generational!r:.60}; set it to True or False")
    own = OwnPolicy(name, made, generational, context.limits, context.moves)
    return cast(Policy, own)  # its `generational` is the user's


def _fault(
    proposal: Any, view: LedgerView, taken: set[str], limits: Limits, moves: tuple[type[Move], ...]
) -> str | None:
    """Why `proposal` can't be performed; None if it can."""
    if not isinstance(proposal, Proposal):
        return f"returned {_kind(proposal)} instead of a Proposal"
    for name, least in (("generation", 1), ("slot", 0)):
        number: Any = getattr(proposal, name)
        if type(number) is not int or number < least:
            return f"returned the {name} {number!r:.60}, not a whole number from {least}"
    where = f"proposed {proposal.key}"
    if proposal.key in taken:
        return f"{where}, which already exists"
    parent = next((record for record in view.searched if record.key == proposal.parent), None)
    if parent is None:
        return f"{where} with the parent {proposal.parent!r:.60}, not a complete trial of the search"
    if not isinstance(cast(Any, proposal.memo), Mapping) or not _is_json(proposal.memo):
        return f"{where} with a memo that is not a JSON object"
    return _fault_of_moves(proposal, parent, limits, moves, where) or _fault_of_share(proposal, parent, where)


def _fault_of_moves(
    proposal: Proposal, parent: TrialRecord, limits: Limits, moves: tuple[type[Move], ...], where: str
) -> str | None:
    try:
        graph = graph_from_json(parent.job.graph)
        for move in parse_chain(proposal.moves, moves) if proposal.moves else ():
            graph = move.reshape(graph)
        same = graph == graph_from_json(proposal.graph)
    except MorphError as error:
        return f"{where}, whose moves or graph are refused ({error})"
    except Exception as error:  # a value of another type
        return f"{where}, whose moves or graph can't be parsed ({where_raised(error)})"
    broken = limits.violation(graph) if proposal.moves else None
    if broken is not None:
        return f"{where}, which breaks a limit ({broken})"
    return None if same else f"{where}, whose moves lead from {parent.key} to another graph than it names"


def _fault_of_share(proposal: Proposal, parent: TrialRecord, where: str) -> str | None:
    try:
        begin, end = proposal.share
        sound = 0.0 <= begin < end <= 1.0
    except (TypeError, ValueError):
        begin, sound = 0.0, False
    if not sound:
        return f"{where} with the share {proposal.share!r:.60}; it must be two increasing numbers from 0 to 1"
    if begin and parent.result is not None and parent.result.momentum is None:
        return (
            f"{where} with a share that begins at {begin}, but {parent.key} did not stop within its training"
        )
    return None


def _is_json(memo: Mapping[str, Any]) -> bool:
    try:
        canonical_json(dict(memo))
    except (TypeError, ValueError, RecursionError):
        return False
    return all(type(key) is str for key in memo)


def _kind(value: object) -> str:
    name = type(value).__name__
    return "nothing" if value is None else f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
