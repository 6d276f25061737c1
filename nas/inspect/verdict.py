"""What a finished search is worth: beside the simplest methods and the network that it began with, in words."""

from __future__ import annotations

from nas.base.text import plural, span
from nas.ledger import LedgerView, Result
from nas.ledger.described import Settings
from nas.ledger.scores import LINEAR, SIMPLE, is_fraction, merit, value_text
from nas.ledger.types import Kind

ENDINGS = {
    "budget": "the budget is spent",
    "generations": "all generations are done",
    "exhausted": "no move is left",
}
USED = 0.9  # of a budget; less needs a reason


def beside(view: LedgerView, config: Settings) -> str | None:
    """The scores of the baselines and of the seed network, which the final network is compared with."""
    result = _final(view)
    if result is None:
        return None
    names = {SIMPLE: _commonest(result.main), LINEAR: "a linear model"}
    tested = [
        f"{name} {value_text(result.main, result.baselines[key])}"
        for model, name in names.items()
        if (key := f"{model}_test") in result.baselines
    ]
    said = [f"{', '.join(tested)} on the test split"] if tested else []
    seed = _seed(view)
    if seed is not None:
        first = "the seed network" if config.start is None else "the network that it began with"
        said.append(f"{first} {value_text(result.main, seed.value)} on validation, trained briefly")
    return "; ".join(said) or None


def remarks(view: LedgerView, config: Settings) -> tuple[str, ...]:
    """What the user should know before trusting or repeating a finished search, with what to try, a sentence each."""
    result = _final(view)
    if result is None:
        return ()
    unused = _unused(view, config)
    found = [
        _beaten(result, unused is None), _ungrown(view, result, config, unused is None), _limited(view, config), unused,
        _judged(view),
    ]  # fmt: skip
    return tuple(text for text in found if text is not None)


def _judged(view: LedgerView) -> str | None:
    """That the validation score is that of another network."""
    if view.final is None or not view.final.job.training.judged:
        return None
    return (
        f"the validation score is that of trial {view.final.job.parent}, before the final training, which learned from "
        "the validation examples too"
    )


def _final(view: LedgerView) -> Result | None:
    return view.final.result if view.final is not None else None


def _seed(view: LedgerView) -> Result | None:
    found = (record.result for record in view.complete if record.job.kind is Kind.SEED)
    return next(found, None)


def _commonest(score: str) -> str:
    return "the commonest answer" if is_fraction(score) else "the mean"


def ending(view: LedgerView, config: Settings, stopped: str | None) -> str | None:
    """Why the search ended, in words. That no move was left after the last generation ended nothing."""
    if stopped == "exhausted" and config.generations == max(
        record.job.generation for record in view.searched
    ):
        stopped = "generations"
    return ENDINGS.get(stopped or "", stopped)


def _beaten(result: Result, longer: bool) -> str | None:
    """That a baseline is at least as good on the test split. longer: whether a longer budget would be used."""
    mine = result.tested
    values = {name: result.baselines.get(f"{name}_test") for name in (LINEAR, SIMPLE)}
    for name, value in values.items():
        if mine is None or value is None or merit(result.main, value) < merit(result.main, mine):
            continue
        called = "a linear model" if name == LINEAR else _commonest(result.main)
        how = "as good as" if value == mine else "better than"
        texts = [value_text(result.main, each) for each in (value, mine)]
        return (
            f"{called} is {how} the network on the test split ({texts[0]} against {texts[1]}): use that, or try more "
            f"examples, {'a longer --budget, ' if longer else ''}another --lr, or --augment for images"
        )
    return None


def _ungrown(view: LedgerView, result: Result, config: Settings, longer: bool) -> str | None:
    """That the network is the one that the search began with. longer: whether a longer budget would be used."""
    more = "a longer --budget, " if longer else ""
    seed = _seed(view)
    if seed is None or seed.fingerprint != result.fingerprint:
        return None
    tried = sum(bool(record.job.moves) for record in view.complete)
    if not tried:
        why = "the search had no generation" if config.generations == 0 else "no child was trained"
        return f"nothing grew, since {why}: try {more}more examples, or --generations 3"
    return (
        f"nothing grew: none of {plural(tried, 'child')} was better than its parent; try {more}--children 8, or "
        "another space (nas spaces)"
    )


def _limited(view: LedgerView, config: Settings) -> str | None:
    """That the search ended at its limits."""
    if ending(view, config, view.notes.stopped) != ENDINGS["exhausted"] or not config.limits:
        return None
    texts = ", ".join(f"{name} {value}" for name, value in config.limits.items())
    return f"no move was left within the limits ({texts}): --limit {next(iter(config.limits))}=N allows more"


def _unused(view: LedgerView, config: Settings) -> str | None:
    """Why a budget was not used."""
    wall, budget = view.notes.wall, config.budget
    if budget is None or not wall or wall >= USED * budget:
        return None
    fact = f"the search took {span(wall)} of its {span(budget)}"
    final = view.final
    if final is not None and final.result is not None and final.result.lengths:
        last = final.result.lengths[-1][1]
        if last < final.job.steps or config.most_epochs is None:  # the clock ended the final training
            return f"{fact}: the rest was kept for storing and reporting the result"
    if config.most_epochs is not None:
        return (
            f"{fact}: it trains {config.most_epochs:g} epochs at most, since more would fit few examples too closely; "
            "--most-epochs sets another bound"
        )
    if view.notes.stopped != "budget":
        return f"{fact}: its generations were done; --generations N asks for more"
    return fact
