"""What `nas fsck` finds: each kind of damage, and no damage where there is none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nas.cli.commands import app
from nas.inspect.fsck import check
from nas.ledger import Ledger, Store, read

Copy = Callable[[Path], Path]


def fsck(run: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["fsck", str(run), *more], prog_name="nas")


def weights_of(run: Path, key: str) -> Path:
    result = read(run).trial(key).result
    assert result is not None
    return Store(run / "checkpoints").path(result.weights)


def test_a_sound_run_is_clean(finished: Any) -> None:
    found = check(finished.run)
    assert (found.clean, found.findings, found.trials, found.sound) == (True, (), 8, 8)
    assert found.sound_bytes == Store(finished.run / "checkpoints").size_bytes()
    done = fsck(finished.run)
    assert done.exit_code == 0
    assert "8 trials, 8 checkpoints" in done.stdout
    assert "nothing is lost" in done.stdout


def test_each_lost_checkpoint_is_named_with_its_trial(finished: Any, copy_of: Copy) -> None:
    run = copy_of(finished.run)
    flipped, cut, gone = (weights_of(run, key) for key in ("0.0", "1.1", "2.0"))
    data = bytearray((flipped / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (flipped / "weights.safetensors").write_bytes(data)
    (cut / "manifest.json").write_bytes((cut / "manifest.json").read_bytes()[:-1])
    for file in gone.iterdir():
        file.unlink()
    gone.rmdir()
    done = fsck(run, "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["clean"], told["sound"]) == (False, 5)
    states = {finding["trials"][0]: (finding["what"], finding["state"]) for finding in told["findings"]}
    assert states == {
        "0.0": ("weights", "damaged"),
        "1.1": ("weights", "damaged"),
        "2.0": ("weights", "missing"),
    }
    assert "3 losses" in fsck(run).stdout


def test_a_checkpoint_that_is_whole_but_another_network_is_damage(finished: Any, copy_of: Copy) -> None:
    run = copy_of(finished.run)
    ours, other = weights_of(run, "0.0"), weights_of(run, "3.0")
    for name in ("graph.json", "weights.safetensors", "manifest.json"):
        content = (other / name).read_text() if name == "manifest.json" else None
        (ours / name).write_bytes(
            (other / name).read_bytes()
            if content is None
            else content.replace(other.name, ours.name).encode()
        )
    (finding,) = check(run).findings
    assert finding.state == "damaged"
    assert "its content has another digest" in finding.fact


@pytest.mark.parametrize("what", ["byte", "cut", "gone", "config", "no config"])
def test_a_damaged_record_is_exit_code_1(interrupted: Path, copy_of: Copy, what: str) -> None:
    run = copy_of(interrupted)
    path = run / ("config.json" if "config" in what else "ledger.db")
    data = path.read_bytes()
    if what in ("gone", "no config"):
        path.unlink()
    elif what == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:  # one digit of a stored score, or of a setting
        place = data.index(b'"val_loss": ' if what == "byte" else b'"lr":') + (14 if what == "byte" else 5)
        path.write_bytes(
            data[:place] + (b"9" if data[place : place + 1] != b"9" else b"8") + data[place + 1 :]
        )
    if what == "no config":
        assert fsck(run).exit_code == 1
        return
    found = check(run)
    assert not found.clean
    assert {finding.what for finding in found.findings if finding.damage} == {"ledger"}


def test_what_no_trial_names_is_no_damage(interrupted: Path, copy_of: Copy, finished: Any) -> None:
    run = copy_of(interrupted)
    store = Store(run / "checkpoints")
    known = check(run).sound
    final = read(finished.run).final
    assert final is not None
    assert final.result is not None
    digest = store.put(Store(finished.run / "checkpoints").get(final.result.weights))
    found = check(run)
    assert (found.clean, found.sound) == (True, known)
    assert [(finding.digest, finding.state) for finding in found.findings] == [(digest, "unnamed")]


def test_a_run_with_a_driver_is_looked_at(interrupted: Path, copy_of: Copy) -> None:
    run = copy_of(interrupted)
    with Ledger.open(run):
        assert check(run).clean


def test_wrong_use_is_exit_code_2(tmp_path: Path) -> None:
    done = fsck(tmp_path / "none")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
