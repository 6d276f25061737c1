"""A run is resumed and replayed where the same bits come out, or refused with the name of what differs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.base.errors import RunError
from nas.ledger import read_config
from nas.run.events import Silent
from nas.run.lifecycle import replay, resume

Copy = Callable[[Path], Path]
SETTINGS = {
    "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "SSE41", "OMP_DYNAMIC": "true",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "OPENBLAS_CORETYPE": "Haswell", "NVIDIA_TF32_OVERRIDE": "1",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable",
}  # fmt: skip


def no_executor(*_: Any) -> Any:
    raise AssertionError("nothing was to be performed")


@pytest.mark.parametrize("name", SETTINGS)
def test_a_variable_that_decides_arithmetic_is_named(
    interrupted: Path, copy_of: Copy, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run = copy_of(interrupted)
    monkeypatch.setenv(name, SETTINGS[name])
    with pytest.raises(RunError, match=f"{name} was not set and is {SETTINGS[name]}; .*--force"):
        resume(run, Silent(), executor=no_executor)


def test_a_replay_names_it_too(finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    with pytest.raises(RunError, match="MKL_CBWR"):
        replay(finished.run, tmp_path / "again", Silent(), "", executor=no_executor)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["instructions", "arithmetic"])
def test_other_results_of_the_same_computation_are_named(interrupted: Path, copy_of: Copy, name: str) -> None:
    run = copy_of(interrupted)
    document = json.loads((run / "config.json").read_text())
    document["config"]["machine"][name] = "another"
    (run / "config.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match=f"{name} was"):
        resume(run, Silent(), executor=no_executor)


def test_a_run_of_a_version_that_did_not_note_them_goes_on(
    finished: Any, interrupted: Path, copy_of: Copy
) -> None:
    from nas.run.description import describe
    from nas.run.lifecycle import changes_since, load_data, stored_config

    made = read_config(interrupted)
    config = stored_config(interrupted, made.config)
    now = describe(config, load_data(config), "")
    assert changes_since(made.described, now, made.versions) == []
    old = {
        **made.config,
        "machine": {name: made.config["machine"][name] for name in ("processor", "capability")},
    }
    from nas.ledger.described import described_from

    assert changes_since(described_from(old), now, made.versions) == []
