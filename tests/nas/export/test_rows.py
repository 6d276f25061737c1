"""An export predicts for the rows of a CSV file what validation got, in a process without this project."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_support import ALONE, without_this_project

from morphs import init, parse_graph
from nas.data import SearchData, eval_batches, load_search_data
from nas.export import ModelCard, export

NASTY = ['a "quoted" """ name', "back\\slash\\", "{{ 7 }}", "new\nline", "ünï", "#|`"]


def rows(path: Path, names: Sequence[str] = ("size", "kind", "gap", "word")) -> list[dict[str, str]]:
    """Write a table with numbers, texts, gaps and three targets; its rows."""
    draw = np.random.default_rng(0)
    columns = [*names, "y", "flag", "other"]
    made: list[dict[str, str]] = []
    for i in range(80):
        cells = [f"{draw.normal(3, 50):.4f}", "abc"[i % 3], "" if i % 4 == 0 else str(i), f"w{i % 5}"]
        cells += [f"{draw.normal():.3f}" for _ in names[4:]]
        made.append(
            dict(
                zip(columns, [*cells, f"{draw.normal(100, 9):.3f}", str(i % 2), str(i // 2 % 2)], strict=True)
            )
        )
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(made)
    return made


def exported(data: SearchData, to: Path) -> Any:
    """Export a network for the data; the network in evaluation mode."""
    shape = data.input_shape
    first = "f = flatten(x); l = linear(f" if len(shape) > 1 else "l = linear(x"
    text = f"""
        x = input(size={list(shape)}); {first}, features=8)
        r = relu(l); fc = linear(r, features={data.outputs}); out = output(fc)"""
    network = init(parse_graph(text), seed=3)
    fit = {name: values for name, values in data.task.facts.items() if name in ("centre", "scale")}
    card = ModelCard(
        "x", data.name, data.classes, data.mean, data.std, table=data.table, targets=data.task.targets, **fit
    )
    export(network, to, card)
    return network.to(torch.float32).to_torch().eval()


@pytest.mark.parametrize(("target", "task"), [("y", None), ("kind", "balanced"), ("flag,other", None)])
@pytest.mark.parametrize("names", [["size", "kind", "gap", "word"], ["size", "kind", "gap", "word", *NASTY]])
def test_raw_rows_get_what_validation_got(
    target: str, task: str | None, names: list[str], tmp_path: Path
) -> None:
    made = rows(tmp_path / "rows.csv", names)
    data = load_search_data(f"csv:{tmp_path}/rows.csv?target={target}", None, 0, task=task)
    module = exported(data, tmp_path / "out")
    with torch.no_grad():
        out = torch.cat([module(x).double() for x, _ in eval_batches(data.val, 8, data.mean, data.std)])
    if data.task.targets == "classes":
        expected = out.softmax(1)
    elif data.task.targets == "flags":
        expected = out.sigmoid()
    else:
        fit = data.task.facts
        expected = out * torch.tensor(fit["scale"]).double() + torch.tensor(fit["centre"]).double()
    done = without_this_project(ALONE, tmp_path / "out", [str(tmp_path / "rows.csv")])
    (found,) = done
    assert len(found) == 80
    told = {tuple(round(answer[name], 5) for name in data.classes) for answer in found}
    for row in expected.tolist():  # each row of the validation split is a row of the file
        assert any(row == pytest.approx(list(answer), abs=1e-4) for answer in told)
    assert set(made[0]) > set(names)


def test_the_order_of_columns_and_the_target_do_not_matter(tmp_path: Path) -> None:
    made = rows(tmp_path / "rows.csv")
    data = load_search_data(f"csv:{tmp_path}/rows.csv?target=y&drop=flag,other", None, 0)
    exported(data, tmp_path / "out")
    order = ["word", "gap", "unknown", "kind", "size"]
    lines = [";".join(order), *(";".join(row.get(name, "?") for name in order) for row in made)]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    files = [str(tmp_path / "rows.csv"), str(tmp_path / "new.csv")]
    one, other = without_this_project(ALONE, tmp_path / "out", files)
    assert one == other


def test_one_line_in_a_shell(tmp_path: Path) -> None:
    rows(tmp_path / "rows.csv")
    exported(load_search_data(f"csv:{tmp_path}/rows.csv?target=kind", None, 0), tmp_path / "net")
    (tmp_path / "short.csv").write_text("size,kind\n1,a\n")
    done = subprocess.run(
        [sys.executable, "net", "predict", "rows.csv", "short.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 80
    assert lines[0].startswith("rows.csv row 1: ")
    assert {"a", "b", "c"} <= set(lines[0].split())
    assert len(done.stderr.splitlines()) == 1
    assert 'no column "gap"' in done.stderr
    for name in ("README.md", "model.py"):
        assert "gap: number" in (tmp_path / "net" / name).read_text()


def test_a_shell_may_ask_for_help_stop_reading_or_name_a_folder(tmp_path: Path) -> None:
    rows(tmp_path / "rows.csv")
    exported(load_search_data(f"csv:{tmp_path}/rows.csv?target=kind", None, 0), tmp_path / "net")

    def run(*arguments: str) -> tuple[int, int, int]:
        """The exit code, and how many lines are on either output."""
        command = [sys.executable, "net", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, len(done.stdout.splitlines()), len(done.stderr.splitlines())

    assert run("--help") == run("predict", "-h") == (0, 2, 0)
    assert run() == run("predict") == run("rows.csv", "rows.csv") == (2, 0, 1)
    assert run("predict", "net") == run("predict", "none.csv") == (1, 0, 1)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "net", "predict", "rows.csv"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("shape", [(4,), (2, 16)])
def test_arrays_have_no_file(shape: tuple[int, ...], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=draw.normal(2, 3, (60, *shape)), y=draw.normal(7, 5, 60))
    data = load_search_data(f"npz:{tmp_path}/d.npz", None, 0)
    module = exported(data, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.py", "weights.safetensors", "model.pt2", "graph.json", "card.json", "README.md", "__main__.py"
    }  # fmt: skip
    split: Any = data.val
    code = "print(json.dumps(model.predict(model.torch.tensor(json.load(sys.stdin)))))"
    found = without_this_project(code, tmp_path / "out", split.inputs.tolist())
    with torch.no_grad():
        out = torch.cat([module(x).double() for x, _ in eval_batches(data.val, 8, data.mean, data.std)])[:, 0]
    fit = data.task.facts
    expected = (out * fit["scale"][0] + fit["centre"][0]).tolist()
    assert [answer["value"] for answer in found] == pytest.approx(expected, rel=1e-5)


def test_the_files_are_plain_python(tmp_path: Path) -> None:
    rows(tmp_path / "rows.csv", ["size", "kind", "gap", "word", *NASTY])
    exported(load_search_data(f"csv:{tmp_path}/rows.csv?target=y", None, 0), tmp_path / "out")
    for name in ("model.py", "table.py", "__main__.py"):
        compile((tmp_path / "out" / name).read_text(), name, "exec")
    facts = json.dumps([path.read_text() for path in (tmp_path / "out").glob("*.py")])
    assert "import nas" not in facts
    assert "from nas" not in facts
