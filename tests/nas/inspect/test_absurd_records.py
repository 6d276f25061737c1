"""Values that no driver writes, in every record of a run: refused in one line, or read as they are; never a traceback.

A stranger's run can have them with all seals and digests right.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cli_support import make_run

from nas.base.errors import NasError, RunError
from nas.export import export_trial
from nas.inspect.fsck import check
from nas.inspect.rows import status_rows
from nas.inspect.status import run_folders, run_status, statuses
from nas.ledger import Ledger, read, read_config
from nas.ledger.files import canonical_json, sha256
from nas.ledger.records import seal
from nas.report import write_report
from nas.run.replay import replay_from

ABSURD = (
    "1e999", "-1e308", "1e308", "NaN", str(10**40), "-1", "null", "true", '"\\ud800"', '"9"', "[1]", "[]", "{}",
    '{"a": 1e308}', "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, '[["x", [1, -1, 1e308], 0]]',
)  # fmt: skip
NOTES = ("wall", "select", "rivals", "stopped", "incumbent", "forced", "latency", "dropped:1")
CONFIG = (
    ("config",), ("command",), ("machine",), ("data",), ("user_code",), ("replay",), ("config", "space"),
    ("config", "seed"), ("config", "generations"), ("config", "budget"), ("config", "policy"), ("config", "keep"),
    ("config", "policy_settings"), ("config", "device"), ("data", "classes"), ("data", "digest"), ("data", "mean"),
    ("machine", "processor"), ("user_code", "policy"), ("another",),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("made") / "run", running=True)
    described = read_config(run).config
    described["config"] |= {"policy": "pareto", "policy_settings": {"objective": "latency"}}
    data = {"name": "d", "classes": ["a"], "mean": [0.5], "std": [0.5], "digest": "0" * 64}
    rewrite(run, {**described, "data": data, "machine": {"processor": "p"}, "user_code": {"policy": "ab"}})
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def edit(run: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(run / "ledger.db") as connection:
        connection.execute(statement, values)


def rewrite(run: Path, config: Any) -> None:
    """Change a run's configuration, and all digests of it where they can be made."""
    document = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**document, "config": config}))
    attribute = "UPDATE study_user_attributes SET value_json = ? WHERE key = ?"
    edit(run, attribute, json.dumps(config), "config")
    try:
        digest = sha256(canonical_json(config))
    except (ValueError, RecursionError):
        return
    edit(run, attribute, json.dumps({"format": 2, "config": digest}), "ledger")


def used(run: Path) -> None:
    """All that reads a run, without training: each succeeds or fails in one line."""
    ways: tuple[Callable[[], object], ...] = (
        lambda: [run_status(run).to_json(), status_rows(run_status(run))],
        lambda: write_report(run),
        lambda: check(run).to_json(),
        lambda: export_trial(run, None, run / "out"),
        lambda: replay_from(run, read_config(run).described),
        lambda: opened(run),
    )
    for way in ways:
        said = ""
        try:
            way()
        except NasError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 1000


def opened(run: Path) -> None:
    with Ledger.open(run, force=True) as ledger:
        assert ledger.original.command is None or ledger.edits is not None
        ledger.view()


def values(place: object, count: int) -> list[str]:
    """Some of the absurd values, others for each place."""
    return Random(str(place)).sample(ABSURD, count)


@pytest.mark.parametrize("name", NOTES)
def test_an_absurd_note(run: Path, name: str) -> None:
    insert = "INSERT OR REPLACE INTO study_user_attributes (study_id, key, value_json) VALUES (1, ?, ?)"
    for value in values(name, 7):
        edit(run, "DELETE FROM study_user_attributes WHERE key = ?", f"note:{name}")
        edit(run, insert, f"note:{name}", value)
        used(run)


@pytest.mark.parametrize("name", ["ledger", "moves", "config", "run"])
def test_an_absurd_fact_of_the_study(run: Path, name: str) -> None:
    for value in values(name, 7):
        edit(run, "UPDATE study_user_attributes SET value_json = ? WHERE key = ?", value, name)
        used(run)


@pytest.mark.parametrize("place", CONFIG, ids=".".join)
def test_an_absurd_configuration(run: Path, place: tuple[str, ...]) -> None:
    config = read_config(run).config
    for value in values(place, 4):
        changed = json.loads(json.dumps(config))
        within = changed
        for name in place[:-1]:
            within = within[name]
        within[place[-1]] = json.loads(value)
        rewrite(run, changed)
        used(run)


@pytest.mark.parametrize(("name", "key"), [("job", ""), ("result", "0.0"), ("reached", "2.1")])
def test_an_absurd_record_of_a_trial(run: Path, name: str, key: str) -> None:
    """Sealed again, as only somebody who forges a run would do."""
    view = read(run)
    record = view.trials[0]
    assert record.result is not None
    whole: Any = {"job": record.job.to_dict(), "result": record.result.to_dict(), "reached": {}}[name]
    trial = 3 if name == "reached" else 1
    for field in (*whole, "another"):
        for value in values(field, 1):
            document = (
                [{field: json.loads(value)}] if name == "reached" else {**whole, field: json.loads(value)}
            )
            try:
                stored = json.dumps(seal(name, key, document))
            except (ValueError, RecursionError):
                continue
            edit(run, "DELETE FROM trial_user_attributes WHERE key = ? AND trial_id = ?", name, trial)
            edit(
                run,
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",
                trial, name, stored,
            )  # fmt: skip
            used(run)


@pytest.mark.parametrize("text", ["x", "AAAA", "eJxjAAAAAQAB"])
def test_outcomes_of_single_images_that_no_search_writes(run: Path, text: str) -> None:
    record = read(run).trials[0]
    assert record.result is not None
    stored = json.dumps(seal("result", record.key, {**record.result.to_dict(), "sample": text}))
    edit(run, "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'result' AND trial_id = 1", stored)
    used(run)
    assert any(fault.what == "ledger" for fault in check(run).findings)


def test_absurd_documents_in_files(run: Path) -> None:
    digest = read(run).complete[0].result.weights  # type: ignore[union-attr]
    for path in (run / "config.json", run / "ledger.json", run / f"checkpoints/{digest}/manifest.json"):
        before = path.read_bytes() if path.exists() else None
        document = json.loads(before) if before else {"url": "sqlite:////nowhere.db", "study": "s"}
        for value in values(path.name, 2):
            path.write_text(value)
            used(run)
            for field in (*document, "another"):
                path.write_text(json.dumps({**document, field: json.loads(value)}))
                used(run)
        path.write_bytes(before) if before else path.unlink()
    used(run)
    assert check(run).clean


@pytest.mark.parametrize("value", ["1e999", "[1]", "[" * 900 + "]" * 900])
def test_a_damaged_run_is_named_and_the_others_beside_it_are_listed(run: Path, value: str) -> None:
    shutil.copytree(run, run.with_name("good"))
    edit(run, "UPDATE study_user_attributes SET value_json = ? WHERE key = 'note:wall'", value)
    with pytest.raises(RunError):
        run_status(run)
    found = {Path(status.run).name: status for status in statuses(run_folders(run.parent))}
    assert (found["run"].state, found["good"].state) == ("damaged", "stopped")
    assert "ledger.db" in str(found["run"].problem)
    assert found["good"].best_trial == "1.1"


def test_a_private_folder_is_named_and_the_others_beside_it_are_listed(made: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        for name in ("good", "private", "no run"):
            shutil.copytree(made, folder / name)
        (folder / "no run" / "config.json").unlink()
        folder.chmod(0o755)
        (folder / "private").chmod(0)
        root = os.geteuid() == 0
        if root:  # who may read everything
            os.seteuid(65534)
        try:
            found = {Path(status.run).name: status for status in statuses(run_folders(folder))}
        finally:
            if root:
                os.seteuid(0)
        assert {name: status.state for name, status in found.items()} == {
            "good": "stopped",
            "private": "damaged",
        }
        assert "Permission denied" in str(found["private"].problem)
    finally:
        (folder / "private").chmod(0o700)
        shutil.rmtree(folder)
