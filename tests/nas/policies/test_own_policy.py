"""The tutorial's policy of one's own, as a user would run it."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_support import TINY, Inline, Recorder, tiny
from search_support import ROOT, SEED, SPACE

import nas
from morphs import Limits, cost, parse
from nas.base.errors import RunError, UserError
from nas.ledger import LedgerView
from nas.ledger.types import State
from nas.policies.builtin import make_policy
from nas.policies.policy import Forgets, Proposal
from nas.policies.user_policy import OwnPolicy
from nas.registry.configure import configure
from nas.run.events import Silent
from nas.run.lifecycle import resume, search

TUTORIAL = Path(nas.__file__ or "").parents[1] / "docs" / "tutorials" / "extend.md"


@pytest.fixture
def greedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (code,) = [
        block
        for block in re.findall(r"```python.*?\n(.*?)```", TUTORIAL.read_text(), re.S)
        if "class Greedy" in block
    ]
    assert len([line for line in code.splitlines() if line]) <= 30
    (tmp_path / "greedy.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "greedy:Greedy"
    sys.modules.pop("greedy", None)


def test_the_tutorials_policy_searches_and_is_run_again_only_where_a_command_names_it(
    greedy: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    search(tiny(policy=greedy, generations=1, workers=2), run, Recorder(stop_after=2), "", Inline)
    with pytest.raises(RunError, match=r"the policy of .* is code, greedy:Greedy, .*--policy greedy:Greedy"):
        resume(run, Silent(), executor=Inline)
    with pytest.raises(RunError, match=r"the policy of .* is greedy:Greedy, not random"):
        resume(run, Silent(), executor=Inline, policy="random")
    outcome = resume(run, Silent(), executor=Inline, policy=greedy)
    assert [record.key for record in outcome.view.trials] == ["0.0", "1.0", "1.1", "1.2", "1.3", "2.0"]
    assert outcome.stopped == "generations"
    assert outcome.test is not None


# -- wrong ones ------------------------------------------------------------------------------------------

ASIDE = parse("widen(node=c1, to=8)").reshape(SEED).to_json()
CHILD = Proposal(1, 0, "0.0", "widen(node=c1, to=8)", ASIDE)
NONSENSE: dict[str, Any] = {
    "returned nothing, not a list of Proposal": None,
    "returned a str, not a list": "widen",
    "returned an int instead of a Proposal": [3],
    "the generation 0, not a whole number from 1": [replace(CHILD, generation=0)],
    "the slot 1.5, not a whole number from 0": [replace(CHILD, slot=1.5)],
    "proposed 1.0, which already exists": [CHILD, CHILD],
    "proposed 1.0 with the parent '7.7', not a complete trial": [replace(CHILD, parent="7.7")],
    "with a memo that is not a JSON object": [replace(CHILD, memo={"x": object()})],
    "moves or graph are refused": [replace(CHILD, moves="widen(node=nobody, to=8)")],
    "refused (graph": [replace(CHILD, graph=3)],
    "moves or graph can't be parsed": [replace(CHILD, moves=3)],
    "to another graph than it names": [replace(CHILD, moves="")],
    "with the share": [replace(CHILD, share=(0.5, 0.1))],
    "did not stop within its training": [replace(CHILD, share=(0.5, 1.0))],
    "more than one generation": [CHILD, replace(CHILD, generation=2)],
}


def policy(propose: Any, incumbent: Any = None, limits: Limits = Limits()) -> OwnPolicy:  # noqa: B008
    made = SimpleNamespace(propose=propose, incumbent=incumbent)
    return OwnPolicy("mine:Mine", made, False, limits)


@pytest.mark.parametrize("said", NONSENSE)
def test_nonsense_is_said_in_one_line(said: str) -> None:
    with pytest.raises(UserError) as caught:
        policy(lambda *_: NONSENSE[said]).propose(LedgerView((ROOT,)), 0)
    line = str(caught.value)
    assert said in line
    assert line.startswith("policy mine:Mine: propose ")
    assert line.count("; ") >= 1
    assert "\n" not in line


def test_a_child_beyond_a_limit_is_refused() -> None:
    narrow = policy(lambda *_: [CHILD], limits=Limits(params=cost(SEED).params))
    with pytest.raises(
        UserError, match=r"proposed 1\.0, which breaks a limit \(params would be \d+, more than"
    ):
        narrow.propose(LedgerView((ROOT,)), 0)


def test_what_makes_sense_is_passed_on() -> None:
    view = LedgerView((ROOT,))
    same = Proposal(1, 1, "0.0", "", SEED.to_json())
    assert policy(lambda *_: (CHILD, same)).propose(view, 0) == [CHILD, same]
    assert policy(lambda *_: []).propose(view, 0) == []
    assert policy(None, lambda view: view.trials[0]).incumbent(view) is ROOT


def test_whom_it_has_use_of_is_passed_on_and_is_everyone_where_it_says_nothing() -> None:
    other = replace(ROOT, job=replace(ROOT.job, generation=1))
    view = LedgerView((ROOT, other))
    own = policy(None)
    assert isinstance(own, Forgets)
    assert own.possible_parents(view) == (ROOT, other)
    own.policy.possible_parents = lambda view: [view.trials[1]]
    assert own.possible_parents(view) == (other,)
    own.policy.possible_parents = lambda view: [replace(ROOT, state=State.FAILED)]
    with pytest.raises(UserError, match=r"possible_parents names trial 0\.0"):
        own.possible_parents(view)
    own.policy.possible_parents = lambda view: None
    with pytest.raises(UserError, match=r"possible_parents failed \(TypeError"):
        own.possible_parents(view)


def test_a_policy_that_raises_is_named_with_the_place() -> None:
    def burst(*_: Any) -> Any:
        raise KeyError("nobody")

    broken, view = policy(burst, burst), LedgerView((ROOT,))
    with pytest.raises(UserError, match=r"propose failed \(KeyError: 'nobody', .*test_own_policy.py:\d+\)"):
        broken.propose(view, 0)
    with pytest.raises(UserError, match=r"incumbent failed \(KeyError"):
        broken.incumbent(view)
    with pytest.raises(UserError, match="incumbent returned nothing"):
        policy(None, lambda view: None).incumbent(view)
    with pytest.raises(UserError, match=r"incumbent returned trial 0\.0"):
        policy(None, lambda view: replace(ROOT, state=State.FAILED)).incumbent(view)


WRONG = """
class Deaf:
    generational = False
    def __init__(self, config, sampler): pass
    def incumbent(self, view): return view.best
class Unsure(Deaf):
    generational = None
    def propose(self, view, seed): return []
class Lonely:
    pass
"""


def test_a_class_that_is_no_policy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong_policies.py").write_text(WRONG)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, said in {
        "wrong_policies:Nobody": "module wrong_policies .*'Nobody'",
        "wrong_policies:Deaf": "a Deaf has no method propose",
        "wrong_policies:Unsure": "generational is None; set it to True or False",
        "wrong_policies:Lonely": r"calling it with \(config, sampler\) failed \(TypeError",
        "nothing_here:Policy": "no module nothing_here for --policy",
    }.items():

        def made(name: str = name) -> Any:
            config, registry = configure("digits", {**TINY, "policy": name})
            return make_policy(config, SPACE, Limits(), registry.policies)

        with pytest.raises(UserError, match=said):
            made()
    with pytest.raises(UserError, match='there is no policy "evolutoin"; did you mean evolution'):
        tiny(policy="evolutoin")
