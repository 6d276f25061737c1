"""The README's tour runs, and its tables name what there is."""

import re
from pathlib import Path

import morphs
from morphs import errors

README = (Path(morphs.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_the_tour_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("widen(node=c1, to=12, how=replicate)\nwiden: node ")
    assert printed.split("\n")[2].startswith("Drift(eval=")
    assert "conv2d(x, channels=12, kernel=5, padding=2, bias=false)" in printed


def test_the_tables_name_every_move_and_every_error():
    for move in morphs.MOVES:
        assert f"| `{move.name}(" in README
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.MorphError) and error is not errors.MoveError:
            assert name in README or name == "UnsupportedModule"
