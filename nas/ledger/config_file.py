"""RUN/config.json: the configuration with which a run was created, and the versions that created it."""

import json
import platform
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import StringConstraints
from pydantic.dataclasses import dataclass as record

from nas.base.errors import RunError, UserError
from nas.ledger.described import Described, described_from
from nas.ledger.files import (
    MAX_CONFIG_BYTES,
    atomic_write,
    canonical_json,
    parse_json,
    read_bounded,
    sha256,
    sha256_file,
    wellformed,
)
from nas.ledger.types import RECORD, validated

FORMAT = 1
FILE = "config.json"
DECIDING = (
    "morphs", "search_spaces", "nas/base/seeds.py", "nas/config/training.py", "nas/data", "nas/execute/task.py",
    "nas/ledger/scores.py", "nas/ledger/view.py", "nas/policies", "nas/run/charge.py", "nas/run/final_training.py",
    "nas/run/plan.py", "nas/run/speed.py", "nas/train",
)  # fmt: skip
PACKAGES = ("morph-nas", "torch", "numpy", "networkx", "optuna", "sqlalchemy", "safetensors")


@dataclass(frozen=True)
class ConfigFile:
    """config: as given to `Ledger.create`. versions: of Python and of the packages that affect results.

    described: the configuration as a record, for those who read it. run: a name that no other run has, also stored in
    its ledger; None: written by a version without such names.
    """

    config: Mapping[str, Any]
    versions: Mapping[str, str]
    described: Described
    run: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration, without the versions."""
        return sha256(canonical_json(dict(self.config)))


@record(frozen=True, config=RECORD)
class _Document:
    """The file itself. run: it becomes a folder's name."""

    format: Literal[1]
    config: dict[str, Any]
    versions: dict[str, str]
    run: Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")] | None = None


def differences(before: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> tuple[str, ...]:
    """Describe the differences between two configurations: "train.lr was 0.1 and is 0.2".

    Forced runs store these texts and compare them later, so the wording is part of the format.
    """
    found: list[str] = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = cast(dict[str, Any], old), cast(dict[str, Any], new)
            found += differences(*inner, "" if name == "config" else f"{within}{name}.")
        elif old != new:
            found.append(f"{within}{name} was {json.dumps(old)} and is {json.dumps(new)}")
    return tuple(found)


def current_versions() -> dict[str, str]:
    """Return the versions in this process; the engine's own is a hash, since it may be run from a working tree."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "sources": sources()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def sources(root: Path = Path(__file__).parents[2]) -> str:
    """Return the start of a SHA-256 of the code below `root` that decides a search's results: DECIDING, file by file.

    Raises FileNotFoundError if a listed path does not exist: a file was renamed and its new name is not listed.
    """
    hashes: dict[str, str] = {}
    for place in (root / name for name in DECIDING):
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        hashes |= {file.relative_to(root).as_posix(): sha256_file(file) for file in files}
    return sha256(canonical_json(hashes))[:12]


def write_config(run: Path, config: Mapping[str, Any]) -> ConfigFile:
    """Write RUN/config.json atomically. Raises UserError for a configuration that is not JSON."""
    document = {
        "format": FORMAT, "config": dict(config), "versions": current_versions(), "run": secrets.token_hex(16)
    }  # fmt: skip
    try:
        text = canonical_json(document)
        made = _config_of(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"configuration: it is not JSON ({error}); use text, numbers, lists and mappings"
        ) from None
    if len(text) > MAX_CONFIG_BYTES or parse_json(text) != document:
        raise UserError(
            f"configuration: it has over {MAX_CONFIG_BYTES} bytes, or JSON changes it; use text keys and lists only"
        )
    atomic_write(run / FILE, text.encode())
    return made


def read_config(run: Path) -> ConfigFile:
    """Read the configuration of a run. Raises RunError if it can't be read."""
    path = run / FILE
    remedy = "restore it from a copy or start a new run"
    try:
        return _config_of(parse_json(read_bounded(path, MAX_CONFIG_BYTES)))
    except FileNotFoundError:
        raise RunError(f"{run} is not a run: {FILE} is missing; give the folder of a run") from None
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror}); {remedy}") from None
    except ValueError as error:
        raise RunError(f"{path} can't be read ({error}); {remedy}") from None


def _config_of(document: Any) -> ConfigFile:
    """The configuration in a document. Raises ValueError, in one line."""
    known = validated(_Document, wellformed(document), f"not a configuration of format {FORMAT}")
    config: dict[str, Any] = document["config"]  # as it is written: its digest is compared
    return ConfigFile(config, known.versions, described_from(config), known.run)
