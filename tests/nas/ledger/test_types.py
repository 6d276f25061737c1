import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.ledger import Job, Result
from nas.ledger.files import canonical_json, parse_json
from nas.ledger.types import Training, job_from, result_from

NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
JOBS = st.builds(
    Job,
    kind=st.sampled_from(("seed", "parent", "child", "final")),
    generation=st.integers(0, 10**6),
    slot=st.integers(0, 10**6),
    parent=st.none() | st.just("3.14"),
    moves=st.text(),
    seed=st.integers(0, 2**63 - 1),
    steps=st.integers(0, 10**9),
    graph=st.text(),
    training=st.builds(
        Training,
        weights=st.none() | st.just("a" * 64),
        momentum=st.none() | st.just("b" * 64),
        start=st.integers(0, 10**6),
        total=st.none() | st.integers(0, 10**6),
        rung=st.integers(0, 7),
    ),
    seen=st.lists(st.just("1.2"), max_size=2).map(tuple),
    memo=st.dictionaries(st.text(), JSON, max_size=3),
)


@given(JOBS)
def test_a_job_survives_json_and_pickle(job: Job) -> None:
    assert job_from(parse_json(canonical_json(job.to_dict()))) == job
    assert pickle.loads(pickle.dumps(job)) == job


FORMAT_1 = {
    "kind": "child", "generation": 2, "slot": 1, "parent": "1.0", "moves": "widen(node=c, to=6)", "seed": 7, "steps": 4,
    "graph": "{}",
    "extra": {
        "parent_weights": "a" * 64, "momentum": "b" * 64, "start": 4, "total": 8, "rung": 1, "seen": ["1.0", "1.1"],
        "climb": 3, "choices": [{"kind": "widen"}],
    },
}  # fmt: skip


def test_a_job_of_format_1_is_read() -> None:
    job = job_from(FORMAT_1)
    assert job.training == Training(weights="a" * 64, momentum="b" * 64, start=4, total=8, rung=1)
    assert job.seen == ("1.0", "1.1")
    assert dict(job.memo) == {"climb": 3, "choices": [{"kind": "widen"}]}
    assert job_from(job.to_dict()) == job


def test_what_a_policy_of_format_1_wrote_over_the_engines_keys_is_its_memo_again() -> None:
    job = job_from({**FORMAT_1, "extra": {"until": 5, "since": {}}})
    assert job.training == Training()
    assert dict(job.memo) == {"until": 5, "since": {}}


def test_a_result_survives_json_and_pickle(result: Callable[..., Result]) -> None:
    told = result("0" * 64, drift_train=0.02, scores={"val_accuracy": 0.1 + 0.2, "val_loss": 1})
    assert result_from(parse_json(canonical_json(told.to_dict()))) == told
    assert pickle.loads(pickle.dumps(told)) == told


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "grandchild"},
        {"generation": -1},
        {"slot": True},
        {"seed": 0.5},
        {"steps": None},
        {"parent": "0.01"},
        {"parent": "../x"},
        {"moves": None},
        {"memo": {"x": float("nan")}},
        {"training": {"until": -1}},
        {"training": {"pause": 5}},
        {"training": None},
        {"seen": ("x",)},
        {"memo": {1: 2}},
        {"memo": [1]},
    ],
)
def test_a_job_that_means_nothing_is_refused(job: Callable[..., Job], changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        job(**changes)


def test_a_cyclic_memo_is_refused(job: Callable[..., Job]) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    with pytest.raises(ValueError, match="memo"):
        job(memo=cycle)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 10**400, "0.5", None, True])
def test_a_score_is_a_finite_number(result: Callable[..., Result], bad: Any) -> None:
    with pytest.raises(ValueError, match="val_loss"):
        result("0" * 64, scores={"val_accuracy": 0.5, "val_loss": bad})


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "../../etc"},
        {"fingerprint": "A" * 64},
        {"scores": {"val_loss": 1.0}},
        {"params": -1},
        {"drift_eval": float("nan")},
        {"seconds": {"train": float("inf")}},
    ],
)
def test_a_result_that_means_nothing_is_refused(
    result: Callable[..., Result], changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError):
        result(**({"weights": "0" * 64} | changes))


@given(st.dictionaries(st.text(), JSON) | JSON)
def test_other_documents_are_refused_as_values(document: Any) -> None:
    for reader in (job_from, result_from):
        with pytest.raises(ValueError):
            reader(document)
