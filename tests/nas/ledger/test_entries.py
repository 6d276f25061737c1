"""Trials read from the tables are those that Optuna reads."""

import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from nas.ledger.entries import entries_of


@pytest.mark.parametrize("others", [False, True])
def test_the_tables_hold_what_optuna_reads(tmp_path: Path, others: bool) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'ledger.db'}")
    if others:  # studies of other runs in a shared database
        optuna.create_study(storage=storage, study_name="other").add_trial(create_trial(value=7.0))
    study = optuna.create_study(storage=storage, study_name="mine")
    for state, value in (
        (TrialState.COMPLETE, 0.5), (TrialState.RUNNING, None), (TrialState.FAIL, None), (TrialState.WAITING, None),
        (TrialState.COMPLETE, math.inf), (TrialState.COMPLETE, -math.inf), (TrialState.COMPLETE, 0.1 + 0.2),
    ):  # fmt: skip
        attributes = {"job": {"body": [1, 2.5e-300, 'ä\n"', None], "sha256": "x"}, "memo": value is None}
        study.add_trial(create_trial(state=state, value=value, user_attrs=attributes))
    known = storage.get_all_trials(study._study_id)
    with storage.engine.connect() as connection:
        if any(trial.datetime_start is None for trial in known):  # a waiting trial, which a ledger never has
            with pytest.raises(ValueError, match="no start time"):
                entries_of(connection, study._study_id)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trials SET datetime_start = '2024-01-02 03:04:05.678901'")
    known = storage.get_all_trials(study._study_id)
    with storage.engine.connect() as connection:
        found = entries_of(connection, study._study_id)
    assert [entry.number for entry in found] == [trial.number for trial in known]
    for entry, trial in zip(found, known, strict=True):
        assert entry.state == trial.state.name.lower()
        assert entry.attributes == trial.user_attrs
        assert entry.value == (trial.value if trial.state.is_finished() else None)
        assert entry.started == trial.datetime_start.timestamp()
        end = trial.datetime_complete
        assert entry.finished == (None if end is None else end.timestamp())
