"""What must hold of a run's ledger before it is used, for its driver and for readers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass

from nas.base.errors import LedgerDamaged, RunError
from nas.ledger import sqlite
from nas.ledger.config_file import ConfigFile, differences, read_config
from nas.ledger.create import FORMAT, IDENTITY, LEDGER, ORIGINAL
from nas.ledger.files import canonical_json, sha256, wellformed
from nas.ledger.notes import Notes, notes_from
from nas.ledger.run_files import check_run
from nas.ledger.shared import FILE as DATABASE
from nas.ledger.shared import POINTER, Place, Shared, is_run
from nas.ledger.study import Study, guarded
from nas.ledger.types import RECORD, Digest, Json, validated

if TYPE_CHECKING:
    from nas.ledger.lease import Lease


@dataclass(frozen=True, config=RECORD)
class _Mark:
    """The study's attribute LEDGER. config: the digest of the configuration with which the run was created."""

    format: int
    config: Digest


@dataclass(frozen=True, config=RECORD)
class _Facts:
    """The attributes of a study that say whose it is."""

    mark: _Mark
    moves: tuple[str, ...]
    config: Json
    run: str | None


def open_study(place: Place, mode: str, lease: Lease | None = None) -> Study:
    """Check a database and open its study. Raises RunError or LedgerDamaged."""
    if not isinstance(place, Shared):  # a server checks its own
        with guarded(place):
            sqlite.check(place, mode)
    return Study(place, mode, lease)


def notes_of(study: Study) -> Notes:
    """Return the notes among a study's attributes."""
    with guarded(study.place):
        return notes_from(study.attributes)


def check_folder(run: Path) -> ConfigFile:
    """Read the configuration of the run in a folder. Raises RunError if it is not a run, or has links in it."""
    if not run.is_dir():
        raise RunError(f"{run} is not a run: there is no such folder; give the folder of a run")
    check_run(run)
    config = read_config(run)
    if not is_run(run):
        raise RunError(
            f"{run} is not a run: {DATABASE} is missing; restore it from a copy or start a new run"
        )
    return config


def edits_of(study: Study, config: ConfigFile) -> tuple[str, ...]:
    """Describe how config.json differs from the configuration with which the run was created.

    Forced runs store these texts and compare them later, so the wording is part of the format.
    """
    if study.attributes[LEDGER]["config"] == config.digest:
        return ()
    original = original_of(study)
    return (
        differences(original, config.config) if original else ("config.json was changed, where is unknown",)
    )


def original_of(study: Study) -> Mapping[str, Any] | None:
    """Return the configuration with which a run was created; None if an old ledger lacks it or it was tampered with."""
    original: dict[str, Any] | None = study.attributes.get(ORIGINAL)
    if original is None or sha256(canonical_json(original)) != study.attributes[LEDGER]["config"]:
        return None
    return original


def check_study(run: Path, config: ConfigFile, study: Study) -> None:
    """Check that a study is a ledger, and that of this run; its configuration may have been edited."""
    place, known = study.place, study.attributes
    try:
        facts = {
            "mark": known.get(LEDGER), "moves": known.get("moves", []), "run": known.get(IDENTITY),
            "config": wellformed(known.get(ORIGINAL, {})),
        }  # fmt: skip
        mark = validated(_Facts, facts, "the study belongs to another program").mark
    except (ValueError, RecursionError) as error:
        raise LedgerDamaged(sqlite.damage(place, str(error))) from None
    if mark.format not in (1, FORMAT):
        raise RunError(f"{place} has format {mark.format}, not {FORMAT}; use the version that wrote it")
    if known.get(IDENTITY) != config.run:
        named = POINTER if isinstance(place, Shared) else DATABASE
        raise RunError(
            f"{run} and {place} belong to different runs; restore config.json and {named} from one copy of the run"
        )
